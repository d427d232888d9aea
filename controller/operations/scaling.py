"""How many instances there are to be of each process type: what people write, and what a change of it means. Pure."""

import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime

from controller.errors import InvalidInput
from controller.formation import MAX_INSTANCES, UNNAMED, process_commands, wanted_processes, withdrawn_of
from controller.names import check_process_type
from controller.operations.selection import known_type
from controller.publishing import outer_ports
from controller.types import Raise, Service, Version


def scaled(service: Service, wanted: Version | None, changes: Mapping[str, str]) -> Mapping[str, int]:
    """The service's `scale` after the changes ("2", "+1", "-1" by process type); raises InvalidInput. Pure."""
    commands = process_commands(wanted) if wanted else None
    now = wanted_processes(service, wanted) if wanted else service.scale
    scale = dict(service.scale)
    for given, amount in changes.items():
        kind = _known_type(given, commands)
        match = re.fullmatch(r"([+-]?)([0-9]{1,4})", amount.strip())
        if not match:
            raise InvalidInput("scale", f"{given}={amount[:40]!a} is no number: use {given}=2, or +1 or -1.")
        number = int(match[2])
        if match[1]:
            before = now.get(kind, 1 if kind in ("web", UNNAMED) else 0)
            number = before + number if match[1] == "+" else before - number
        if not 0 <= number <= MAX_INSTANCES:
            raise InvalidInput(
                "scale", f"{given} would have {number} instances: 0 to {MAX_INSTANCES} are possible."
            )
        if number > 1 and wanted and (places := outer_ports(wanted.definition)):
            raise InvalidInput(
                "scale",
                f"{given} would have {number} instances, and one alone can have {min(places)} of the machine: take it "
                "out of wan_map first.",
            )
        scale[kind] = number
    return scale


def _known_type(given: str, commands: Mapping[str, str] | None) -> str:
    """`web` stands for the unnamed type where there is no other."""
    if commands is None:
        return check_process_type(given)
    if (kind := known_type(given, commands, "web")) is not None:
        return kind
    known = ", ".join(sorted(each or "web" for each in commands))
    raise InvalidInput("scale", f"There is no process type {given[:40]!a}. Known are: {known}.")


def rescaled(service: Service, wanted: Version | None, scale: Mapping[str, int], now: datetime) -> Service:
    """The service with that scale. Single instances that were stopped come back where their type is scaled."""
    before = wanted_processes(service, wanted) if wanted else service.scale
    changed = replace(service, scale=scale)
    after = wanted_processes(changed, wanted) if wanted else scale
    touched = {kind for kind in after if after[kind] != before.get(kind)}
    if wanted is not None and service.withdrawn:
        back = frozenset[str]().union(*(withdrawn_of(service, wanted.number, each) for each in touched))
        changed = replace(changed, withdrawn=tuple(each for each in service.withdrawn if each not in back))
    raised = {
        kind: Raise(at=now, reason=f"scaled up to {after[kind]}")
        for kind in touched
        if after[kind] > before.get(kind, 0)
    }
    return replace(changed, raised={**service.raised, **raised}) if raised else changed
