"""`Resources: {db: postgres}`: databases of the deployment, which come with its service file. Pure.

A service that requires one, or whose command of `Exec` does, finds it in its variables; `attach` says others. The first
version of each waits until it has them.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from controller.errors import InvalidInput
from controller.names import check_name
from controller.operations.backupplans import WantedBackups, read_backups
from controller.plugins.exec import KIND as EXEC_KIND
from controller.plugins.exec import SECTION as EXEC
from controller.plugins.exec import declared as commands
from controller.plugins.facts import DeploymentFacts, ServiceFacts
from controller.plugins.hooks import hookimpl
from controller.plugins.required import required
from controller.types import Resource, ResourceStatus

NAME = "resources"
SECTION = "Resources"
sections = frozenset({SECTION})
priority = 30
PREFIX = re.compile(r"[A-Z][A-Z0-9_]{0,39}")
EXAMPLE = "Resources must map names to kinds, as in {db: postgres}."
UNATTACHED = "unattached"
"""Of a resource's settings: service to why it could not be attached there."""
_KEYS = ("kind", "attach", "backup")


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """One entry of the section."""

    kind: str
    attach: Mapping[str, str] | None = None
    """Service to the prefix of its variables there, empty for the usual names. None: those that require it."""
    backup: WantedBackups | None = None
    """When it is backed up by itself; None: the section is no word on it."""


def read_resources(section: Any) -> Mapping[str, Wanted]:
    """Name to what is wanted; raises InvalidInput, whose field is `Resources.NAME.backup` or below where it is that."""
    if section is None:
        return {}
    if not isinstance(section, Mapping):
        raise InvalidInput(SECTION, EXAMPLE)
    return {
        check_name(str(name), "resource name"): _wanted(str(name), value) for name, value in section.items()
    }


def declared(section: Any) -> Mapping[str, Wanted]:
    """The same, and nothing where the section can't be read."""
    try:
        return read_resources(section)
    except InvalidInput:
        return {}


def _wanted(name: str, value: Any) -> Wanted:
    if isinstance(value, str):
        value = {"kind": value}
    if not isinstance(value, Mapping):
        raise InvalidInput(SECTION, f"{name} must be a kind, as in {{{name}: postgres}}.")
    if unknown := [each for each in value if each not in _KEYS]:
        raise InvalidInput(
            SECTION, f"{name}: {str(unknown[0])[:60]!a} is unknown. Known are {', '.join(_KEYS)}."
        )
    kind = value.get("kind")
    if not isinstance(kind, str) or not kind:
        raise InvalidInput(SECTION, f"{name}: kind is missing, as in {{kind: postgres}}.")
    return Wanted(
        kind=kind,
        attach=None if value.get("attach") is None else _attach(name, value["attach"]),
        backup=None if value.get("backup") is None else _backup(name, value["backup"]),
    )


def _attach(name: str, value: Any) -> Mapping[str, str]:
    named = {value: ""} if isinstance(value, str) else value
    if isinstance(value, list):
        named = dict.fromkeys(map(str, value), "")
    if not isinstance(named, Mapping):
        raise InvalidInput(
            SECTION,
            f"{name}: attach must name services, as in [web, worker], or {{web: MAIN}} for MAIN_URL.",
        )
    return {
        check_name(str(service), "service name"): _prefix(name, "" if prefix is None else prefix)
        for service, prefix in named.items()
    }


def _backup(name: str, value: Any) -> WantedBackups:
    try:
        return read_backups(value)
    except InvalidInput as error:
        raise InvalidInput(
            f"{SECTION}.{name}.backup.{error.field}".rstrip("."), f"{name}: {error}"
        ) from error


def _prefix(name: str, prefix: Any) -> str:
    if not isinstance(prefix, str) or (prefix and not PREFIX.fullmatch(prefix)):
        raise InvalidInput(
            SECTION, f"{name}: the prefix must be of capital letters, digits and _, as in {{web: MAIN}}."
        )
    return prefix


def attachments(facts: DeploymentFacts, name: str, wanted: Wanted) -> Mapping[str, str]:
    """Service, of those that are there, to the prefix under which it is to have that resource."""
    if wanted.attach is not None:
        return {service: prefix for service, prefix in wanted.attach.items() if service in facts.services}
    found = [each.name for each in facts.services.values() if name in required(each.definition)]
    orders = commands(facts.deployment.globals.get(EXEC)).values()
    found += [order.service for order in orders if name in order.require and order.service in facts.services]
    return dict.fromkeys((each for each in found if each != name), "")


def has_server(resource: Resource) -> bool:
    """Whether a service of its name is its server."""
    return resource.kind != EXEC_KIND and "port" in resource.settings


def is_unmade(resource: Resource) -> bool:
    """Whether it is only the record of why it could not be made: there is no server, and nothing to lose."""
    failed = resource.status is ResourceStatus.FAILED and resource.kind != EXEC_KIND
    return failed and not resource.settings.get("external") and not has_server(resource)


def missing(facts: DeploymentFacts, service: str) -> str | None:
    """Which of its resources the service does not have in its variables yet; None: it has all of them."""
    waits = list(_missing(facts, service))
    return f"waits for {', '.join(waits)}" if waits else None


def _missing(facts: DeploymentFacts, service: str) -> Iterator[str]:
    for name, wanted in declared(facts.deployment.globals.get(SECTION)).items():
        resource = facts.resources.get(name)
        if service not in attachments(facts, name, wanted) or (resource and service in resource.attached):
            continue
        if resource is None or resource.status is ResourceStatus.PENDING:
            yield name
        elif resource.status is ResourceStatus.FAILED:
            yield f"{name} (which failed: {resource.failure})"
        elif why := resource.settings.get(UNATTACHED, {}).get(service):
            yield f"{name} (which can't be attached: {why})"
        else:
            yield f"{name} (which is being attached)"


@hookimpl
def setup(deployment: DeploymentFacts, service: ServiceFacts) -> str | None:
    """What the service waits for; None: for nothing, or `require` says it already."""
    waits = [each for each in _missing(deployment, service.name) if not _is_said(each, deployment, service)]
    return f"waits for {', '.join(waits)}" if waits else None


def _is_said(text: str, deployment: DeploymentFacts, service: ServiceFacts) -> bool:
    name = text.partition(" ")[0]
    resource = deployment.resources.get(name)
    ready = resource is not None and resource.status is ResourceStatus.READY
    return name in required(service.definition) and not ready
