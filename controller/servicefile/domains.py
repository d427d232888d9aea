"""The section `Domains`: which domain leads to which service. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from controller.errors import InvalidInput
from controller.names import DEFAULT_SERVICE, Address, check_domain, check_name
from controller.servicefile.document import DOMAINS

HTTP = "http"
GUARDS = ("auth", "auth_mode")
"""Options that keep strangers out. Nothing enforces them yet, so a domain with one is not routed."""
CERTIFICATE = ("cert", "key")
"""Options of a certificate, which are kept; nothing uses them yet."""
OPTIONS = (HTTP, *GUARDS, *CERTIFICATE)


@dataclass(frozen=True, kw_only=True)
class DomainTarget:
    """Where a domain leads."""

    address: Address | None
    """None: it has no `http`, so it leads nowhere."""
    guarded: bool = False
    """It asks for a password, which nothing enforces yet."""
    certified: bool = False
    """It has a certificate, which nothing uses yet."""


def read_domains(value: Any, deployment: str) -> Mapping[str, DomainTarget]:
    """Domain, in small letters, to where it leads; raises InvalidInput.

    A target is a service of the deployment, or `deployment:service`, or `deployment/service`.
    """
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise InvalidInput(
            DOMAINS, "Domains must map domains to services, as in {example.org: {http: shop:app}}."
        )
    found = dict[str, DomainTarget]()
    for name, options in value.items():
        domain = check_domain(str(name))
        if domain in found:
            raise InvalidInput(DOMAINS, f"{domain} is there twice: keep one of them.")
        found[domain] = read_target(options, deployment, domain)
    return found


def read_target(options: Any, deployment: str, domain: str) -> DomainTarget:
    """Where one domain leads; `domain` is what it is called in an InvalidInput."""
    if isinstance(options, str):
        options = {HTTP: options}
    if not isinstance(options, Mapping):
        raise InvalidInput(DOMAINS, f"{domain} must say where it leads, as in {{http: {deployment}:app}}.")
    target = options.get(HTTP)
    guarded, certified = (any(options.get(each) is not None for each in of) for of in (GUARDS, CERTIFICATE))
    if target is None:
        return DomainTarget(address=None, guarded=guarded, certified=certified)
    if not isinstance(target, str):
        raise InvalidInput(DOMAINS, f"{domain}: http must be a service, as in {deployment}:app.")
    address = _address(target, deployment, domain)
    return DomainTarget(address=address, guarded=guarded, certified=certified)


def _address(text: str, deployment: str, domain: str) -> Address:
    named, mark, service = text.replace("/", ":").partition(":")
    try:
        if not mark:
            return Address(deployment, check_name(named, "service name"))
        return Address(check_name(named, "app name"), check_name(service or DEFAULT_SERVICE, "service name"))
    except InvalidInput as error:
        raise InvalidInput(DOMAINS, f"{domain}: {error}") from error
