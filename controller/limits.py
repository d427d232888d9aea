"""What an instance may take: of a definition's limits and the server's own. Pure."""

from collections.abc import Mapping
from dataclasses import asdict

from controller.types import Definition, Limits
from controller.views import LimitSource

ALL = ""
"""Stands for all process types among a definition's limits."""
RESOURCES = ("cpu", "memory", "pids", "nofile")


def effective_limits(
    definition: Definition, process_type: str, defaults: Limits
) -> tuple[Limits, Mapping[str, LimitSource]]:
    """The limits of an instance of that type (None: no limit), and where each of them was set."""
    layers = (
        (LimitSource.TYPE, definition.limits.get(process_type) if process_type != ALL else None),
        (LimitSource.SERVICE, definition.limits.get(ALL)),
        (LimitSource.SERVER, defaults),
    )
    amounts: dict[str, float | None] = {}
    sources: dict[str, LimitSource] = {}
    for resource in RESOURCES:
        for source, limits in layers:
            amount = None if limits is None else asdict(limits)[resource]
            if amount is not None or source is LimitSource.SERVER:
                amounts[resource], sources[resource] = amount or None, source
                break
    return _limits(amounts), sources


def limits_for(definition: Definition, process_type: str, defaults: Limits) -> Limits:
    """What an instance of that type may take; None: no limit."""
    return effective_limits(definition, process_type, defaults)[0]


def _limits(amounts: Mapping[str, float | None]) -> Limits:
    whole = {each: None if (amount := amounts[each]) is None else int(amount) for each in RESOURCES[1:]}
    return Limits(cpu=amounts["cpu"], **whole)
