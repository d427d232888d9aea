"""Which processes a person means: a type, or one instance. Pure."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from controller.errors import InvalidInput
from controller.formation import UNNAMED, process_commands
from controller.names import instance_id, parse_instance_id
from controller.types import Service, Version

_NUMBERED = re.compile(r"(.+)\.([0-9]{1,6})")


@dataclass(frozen=True)
class Selection:
    """A process type, or with a number one instance of it."""

    process_type: str
    number: int | None = None

    def __str__(self) -> str:
        kind = self.process_type or "web"
        return kind if self.number is None else f"{kind}.{self.number}"

    def instance(self, wanted: Version) -> str:
        """The id of the one instance that is meant."""
        assert self.number is not None
        return instance_id(wanted.deployment, wanted.service, wanted.number, self.process_type, self.number)


def selected(service: Service, wanted: Version, text: str) -> Selection:
    """`web`, `web.1` (as `ps` and logs print it) or an instance's id; raises InvalidInput."""
    commands = process_commands(wanted)
    if (kind := known_type(text, commands, service.name)) is not None:
        return Selection(kind)
    if match := _NUMBERED.fullmatch(text):
        kind = known_type(match[1], commands, service.name)
        if kind is not None:
            return Selection(kind, int(match[2]))
    if found := parse_instance_id(service.deployment, service.name, text):
        version, kind, number = found
        if version != wanted.number:
            raise InvalidInput(
                "process", f"{text} is of v{version}, and v{wanted.number} is the one that is wanted."
            )
        if kind in commands:
            return Selection(kind, number)
    known = ", ".join(sorted(each or "web" for each in commands)) or "none"
    raise InvalidInput(
        "process",
        f"{text[:60]!a} is neither a process type (known are: {known}) nor an instance such as web.1.",
    )


def known_type(given: str, commands: Mapping[str, str], service: str) -> str | None:
    """The process type of that name; `web`, or the service's own name, stands for the unnamed one."""
    if given in commands:
        return given
    return UNNAMED if UNNAMED in commands and given in ("web", service) else None
