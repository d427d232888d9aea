"""When something is backed up by itself, and which of those backups go. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from controller.errors import InvalidInput
from controller.schedules import check_schedule, next_time
from controller.types import BackupPlan
from controller.views import BackupInfo, BackupPlanInfo

KEEP = 7
"""How many of them are kept where nobody says it."""
MOST_KEPT = 1000
LONGEST_DAYS = 3650
_KEYS = ("schedule", "keep", "days")


@dataclass(frozen=True, kw_only=True)
class WantedBackups:
    """What people say of it, by a verb or in a service file. Fields as in BackupPlan."""

    schedule: str
    keep: int = KEEP
    days: int = 0

    def __str__(self) -> str:
        age = f", for {self.days} days at most" if self.days else ""
        return f'at "{self.schedule}" (UTC); {self.keep} are kept{age}'


def wanted_backups(schedule: str, keep: int = KEEP, days: int = 0) -> WantedBackups:
    """Raises InvalidInput, naming the field."""
    if not 1 <= keep <= MOST_KEPT:
        raise InvalidInput("keep", f"keep must be a number of backups from 1 to {MOST_KEPT}.")
    if not 0 <= days <= LONGEST_DAYS:
        raise InvalidInput("days", f"days must be from 1 to {LONGEST_DAYS}, or 0 for no such limit.")
    return WantedBackups(schedule=check_schedule(schedule, "schedule"), keep=keep, days=days)


def read_backups(value: Any) -> WantedBackups:
    """What a service file says by `backup`: a schedule, or `{schedule: …, keep: 7, days: 30}`. Raises InvalidInput,
    whose field is a key of that, or empty."""
    given = {"schedule": value} if isinstance(value, str) else value
    if not isinstance(given, Mapping):
        raise InvalidInput("", 'backup must say when, as in "0 3 * * *" for three o\'clock each night (UTC).')
    if unknown := [str(each) for each in given if each not in _KEYS]:
        raise InvalidInput(
            unknown[0], f"backup: {unknown[0][:60]!a} is unknown. Known are {', '.join(_KEYS)}."
        )
    schedule = given.get("schedule")
    if not isinstance(schedule, str):
        raise InvalidInput("schedule", 'backup: schedule is missing, as in {schedule: "0 3 * * *"}.')
    try:
        return wanted_backups(schedule, _number(given, "keep", KEEP), _number(given, "days", 0))
    except InvalidInput as error:
        raise InvalidInput(error.field, f"backup: {error}") from error


def _number(given: Mapping[str, Any], key: str, default: int) -> int:
    """Also one that is a text, as a variable of the file gives it."""
    value = given.get(key, default)
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= len(str(MOST_KEPT)):
        return int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise InvalidInput(key, f"{key} must be a number.")
    return value


def planned(
    wanted: WantedBackups | None, before: BackupPlan | None, now: datetime, *, filed: bool = False
) -> BackupPlan | None:
    """`before` as it is wanted now: other times are counted from now on, so that none of them was missed."""
    if wanted is None:
        return None
    if before is not None and before.schedule == wanted.schedule:
        return replace(before, keep=wanted.keep, days=wanted.days, filed=filed)
    return BackupPlan(schedule=wanted.schedule, keep=wanted.keep, days=wanted.days, since=now, filed=filed)


def filed_plan(said: WantedBackups | None, before: BackupPlan | None, now: datetime) -> BackupPlan | None:
    """What a service file makes of it that says this. One that says nothing takes back what an earlier one said, and
    leaves what people set by the verb."""
    if said is not None:
        return planned(said, before, now, filed=True)
    return None if before is not None and before.filed else before


def filed_plans(
    said: Mapping[str, WantedBackups], before: Mapping[str, BackupPlan], now: datetime
) -> Mapping[str, BackupPlan]:
    """The same of several, by name."""
    after = {name: filed_plan(said.get(name), before.get(name), now) for name in (*before, *said)}
    return {name: plan for name, plan in after.items() if plan is not None}


def wanted_of(plan: BackupPlan | None) -> WantedBackups | None:
    """What it wants, however that goes."""
    return None if plan is None else WantedBackups(schedule=plan.schedule, keep=plan.keep, days=plan.days)


def surplus(backups: Sequence[BackupInfo], plan: BackupPlan, now: datetime) -> Sequence[BackupInfo]:
    """Those that may go, of all that there are, newest first: never the newest, and none that people asked for."""
    own = [each for each in backups if each.scheduled]
    oldest = now - timedelta(days=plan.days) if plan.days else None
    return [
        each
        for place, each in enumerate(own)
        if place and (place >= plan.keep or (oldest is not None and each.created_at < oldest))
    ]


def plan_info(plan: BackupPlan | None, *, rests: bool = False) -> BackupPlanInfo | None:
    """`rests`: nothing comes of it for now."""
    if plan is None:
        return None
    return BackupPlanInfo(
        schedule=plan.schedule,
        keep=plan.keep,
        days=plan.days,
        next_at=None if rests else next_time(plan.schedule, plan.since),
        failure=plan.failure,
    )


def plan_text(name: str, plan: BackupPlan | None) -> str:
    """For an event."""
    if plan is None:
        return f"{name} is no longer backed up by itself"
    return f"{name} is backed up {wanted_of(plan)}"
