"""`Exec: {Init: {service: web, cmd: …, require: db}}`: a command that runs once, and then is there for others. Pure.

Others wait for it by its name (`require: Init`). It is what sets up a database: it may run in a service that is
itself held until then.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from controller.errors import InvalidInput
from controller.names import check_name
from controller.servicefile.keys import canonical

NAME = "exec"
SECTION = "Exec"
sections = frozenset({SECTION})
KIND = "exec"
"""Of the resources that come of it."""
_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_-]{0,38}[A-Za-z0-9])?")
_KEYS = ("service", "cmd", "command", "require")


@dataclass(frozen=True, kw_only=True)
class Order:
    """One entry of the section."""

    service: str
    command: str
    """A shell line."""
    require: tuple[str, ...] = ()
    """Services and resources that must be there first. The service itself need not be."""


def read_exec(section: Any) -> Mapping[str, Order]:
    """Name to what is to be run; raises InvalidInput."""
    if section is None:
        return {}
    if not isinstance(section, Mapping):
        raise InvalidInput(
            SECTION, "Exec must map names to commands, as in {Init: {service: web, cmd: ./init}}."
        )
    return {_checked(str(name)): _order(str(name), value) for name, value in section.items()}


def declared(section: Any) -> Mapping[str, Order]:
    """The same, and nothing where the section can't be read."""
    try:
        return read_exec(section)
    except InvalidInput:
        return {}


def _checked(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise InvalidInput(
            SECTION, f"{name[:60]!a} is no name for a command: use at most 40 letters, digits, _ and -."
        )
    return name


def _order(name: str, value: Any) -> Order:
    if not isinstance(value, Mapping):
        raise InvalidInput(SECTION, f"{name} must be a mapping, as in {{service: web, cmd: ./init}}.")
    if unknown := [each for each in value if each not in _KEYS]:
        raise InvalidInput(
            SECTION, f"{name}: {str(unknown[0])[:60]!a} is unknown. Known are {', '.join(_KEYS)}."
        )
    try:
        return _read_order(canonical(value))
    except InvalidInput as error:
        raise InvalidInput(SECTION, f"{name}: {error}") from error


def _read_order(keys: Mapping[str, Any]) -> Order:
    service = keys.get("service")
    if not isinstance(service, str):
        raise InvalidInput(SECTION, "service must be the service in whose code it runs.")
    if keys.get("command") is None:
        raise InvalidInput(SECTION, "cmd is missing: the command that is to be run.")
    return Order(
        service=check_name(service, "service name"),
        command=keys["command"],
        require=tuple(keys.get("require") or ()),
    )
