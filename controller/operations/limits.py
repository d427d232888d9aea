"""Reading limits that people give: plain values in, checked ones out. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from controller.errors import InvalidInput
from controller.limits import ALL, RESOURCES
from controller.names import check_process_type
from controller.operations.numbers import size
from controller.types import NO_LIMITS, Limits

MAX_TYPES = 50
RANGES: Mapping[str, tuple[int, int]] = {
    "memory": (8 * 1024**2, 2**50),
    "pids": (4, 4_194_304),
    "nofile": (64, 1_048_576),
}
"""Least and most of each: with less, not even a shell starts."""
LEAST_CPU, MOST_CPU = 0.01, 1024


def read_limits(value: Any) -> Mapping[str, Limits]:
    """`{memory: 512M, worker: {memory: 1G, cpu: 2}}`: what is no mapping holds for all types. Raises InvalidInput."""
    if value is None:
        return {}
    if not isinstance(value, Mapping) or len(value) > MAX_TYPES:
        raise InvalidInput("limits", "limits must be a mapping such as {memory: 512M, worker: {cpu: 0.5}}.")
    everywhere = {str(name): each for name, each in value.items() if not isinstance(each, Mapping)}
    found = {ALL: _read(everywhere, "limits")} if everywhere else {}
    for kind, each in value.items():
        if isinstance(each, Mapping):
            name = str(kind) if str(kind) == ALL else check_process_type(str(kind))
            found[name] = _read(
                each, f"limits.{name}" if name else "limits", before=found.get(name, NO_LIMITS)
            )
    return {kind: limits for kind, limits in found.items() if limits != NO_LIMITS}


def changed_limits(
    before: Mapping[str, Limits], process_type: str, *, values: Mapping[str, Any], drop: Sequence[str]
) -> Mapping[str, Limits]:
    """`before` with these limits of that type (ALL: of all) set, and those in `drop` not set any more."""
    for name in drop:
        _check_known(name, "limits")
        if values.get(name) is not None:
            raise InvalidInput("limits", f"{name} is to be set and to be removed at once: do one of them.")
    limits = _read(values, "limits", before=before.get(process_type, NO_LIMITS))
    limits = replace(limits, **dict.fromkeys(drop))
    others = {kind: each for kind, each in before.items() if kind != process_type}
    return others if limits == NO_LIMITS else {**others, process_type: limits}


def _read(given: Mapping[Any, Any], field: str, *, before: Limits = NO_LIMITS) -> Limits:
    limits = before
    for name, value in given.items():
        _check_known(str(name), field)
        if value is not None:
            changes: dict[str, Any] = {str(name): _amount(str(name), value, f"{field}.{name}")}
            limits = replace(limits, **changes)
    return limits


def _check_known(name: str, field: str) -> None:
    if name not in RESOURCES:
        raise InvalidInput("limits", f"{field} knows {', '.join(RESOURCES)}, not {name[:60]!a}.")


def _amount(name: str, value: Any, field: str) -> float | int:
    """0, or the word none, is no limit."""
    if value == "none" or (not isinstance(value, bool) and value in (0, "0")):
        return 0
    if name == "cpu":
        return _cores(value, field)
    amount = size(field, value)
    least, most = RANGES[name]
    if not least <= amount <= most:
        raise InvalidInput("limits", f"{field} must be {least} to {most}, or 0 for no limit, not {amount}.")
    return amount


def _cores(value: Any, field: str) -> float:
    try:
        cores = float("nan" if isinstance(value, bool) else value)
    except (TypeError, ValueError):
        cores = float("nan")
    if not LEAST_CPU <= cores <= MOST_CPU:
        raise InvalidInput(
            "limits", f"{field} must be a number of cores from {LEAST_CPU} to {MOST_CPU}, or 0 for no limit."
        )
    return cores
