"""The section `Domains`: which domain leads to which service, and who may come in. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from controller.difference import HIDDEN
from controller.errors import InvalidInput
from controller.names import DEFAULT_SERVICE, Address, check_domain, check_name
from controller.servicefile.document import DOMAINS
from controller.types import GuardMode
from router.guards import is_user

HTTP, AUTH, AUTH_MODE = "http", "auth", "auth_mode"
CERTIFICATE = ("cert", "key")
"""Options of a certificate, which are kept; nothing uses them yet."""
OPTIONS = (HTTP, AUTH, AUTH_MODE, *CERTIFICATE)
MAX_USERS = 50
"""That one domain may let in."""
MAX_PASSWORD = 200
"""Characters."""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What a domain asks for, as people write it."""

    mode: GuardMode
    passwords: Mapping[str, str] = field(repr=False)
    """By name."""


@dataclass(frozen=True, kw_only=True)
class DomainTarget:
    """Where a domain leads."""

    address: Address | None
    """None: it has no `http`, so it leads nowhere."""
    asks: Asked | None = None
    """None: everybody may come in."""
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
    if target is not None and not isinstance(target, str):
        raise InvalidInput(DOMAINS, f"{domain}: http must be a service, as in {deployment}:app.")
    return DomainTarget(
        address=None if target is None else _address(target, deployment, domain),
        asks=_asked(options, domain),
        certified=any(options.get(each) is not None for each in CERTIFICATE),
    )


def without_passwords(section: Any) -> Any:
    """The section as it is kept: who is asked, and not for what."""
    if not isinstance(section, Mapping):
        return section
    return {domain: _without_password(options) for domain, options in section.items()}


def as_given(section: Mapping[str, Any]) -> Mapping[str, Any]:
    """What is kept of domains that plugins gave: where they lead, and who is asked."""
    shown = without_passwords({domain: _options(options) for domain, options in section.items()})
    return {
        domain: {key: value for key, value in options.items() if key in (HTTP, AUTH, AUTH_MODE)}
        for domain, options in shown.items()
    }


def _options(options: Any) -> Any:
    return {HTTP: options} if isinstance(options, str) else options


def _without_password(options: Any) -> Any:
    if not isinstance(options, Mapping) or not isinstance(options.get(AUTH), Mapping):
        return options
    return {**options, AUTH: dict.fromkeys(options[AUTH], HIDDEN)}


def _asked(options: Mapping[str, Any], domain: str) -> Asked | None:
    """Raises InvalidInput rather than let somebody in who was to be asked."""
    users, mode = options.get(AUTH), options.get(AUTH_MODE)
    if mode is not None and mode not in list(GuardMode):
        raise InvalidInput(DOMAINS, f"{domain}: auth_mode must be digest or basic.")
    if users is None:
        if mode is not None:
            raise InvalidInput(
                DOMAINS,
                f"{domain}: auth_mode says how to ask, and nobody is named: add auth: {{name: password}}.",
            )
        return None
    if not isinstance(users, Mapping) or not users:
        raise InvalidInput(
            DOMAINS, f"{domain}: auth must map names to passwords, as in {{internal: secret}}."
        )
    if len(users) > MAX_USERS:
        raise InvalidInput(DOMAINS, f"{domain}: auth can have {MAX_USERS} names.")
    for name, password in users.items():
        _check_user(domain, str(name), password)
    passwords = {str(name): str(password) for name, password in users.items()}
    return Asked(mode=GuardMode(mode or GuardMode.DIGEST), passwords=passwords)


def _check_user(domain: str, name: str, password: Any) -> None:
    if not is_user(name):
        raise InvalidInput(
            DOMAINS,
            f"{domain}: {name[:60]!a} can't be a name of auth: use up to 64 of letters, digits and . _ @ + -.",
        )
    if (
        not isinstance(password, str)
        or not password
        or len(password) > MAX_PASSWORD
        or not password.isprintable()
    ):
        raise InvalidInput(
            DOMAINS,
            f"{domain}: the password of {name} must be a text of 1 to {MAX_PASSWORD} characters, in one line.",
        )


def _address(text: str, deployment: str, domain: str) -> Address:
    named, mark, service = text.replace("/", ":").partition(":")
    try:
        if not mark:
            return Address(deployment, check_name(named, "service name"))
        return Address(check_name(named, "app name"), check_name(service or DEFAULT_SERVICE, "service name"))
    except InvalidInput as error:
        raise InvalidInput(DOMAINS, f"{domain}: {error}") from error
