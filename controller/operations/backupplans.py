"""When resources are backed up by themselves, and which of those backups go. Pure."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from controller.errors import InvalidInput
from controller.schedules import check_schedule, next_time
from controller.types import BackupPlan
from controller.views import BackupInfo, BackupPlanInfo

MOST_KEPT = 1000
LONGEST_DAYS = 3650


def planned(schedule: str, keep: int, days: int, now: datetime) -> BackupPlan:
    """A new plan, whose first time is the next one. Raises InvalidInput."""
    if not 1 <= keep <= MOST_KEPT:
        raise InvalidInput("keep", f"keep must be a number of backups from 1 to {MOST_KEPT}.")
    if not 0 <= days <= LONGEST_DAYS:
        raise InvalidInput("days", f"days must be from 1 to {LONGEST_DAYS}, or 0 for no such limit.")
    return BackupPlan(schedule=check_schedule(schedule, "schedule"), keep=keep, days=days, since=now)


def same_plan(one: BackupPlan | None, other: BackupPlan | None) -> bool:
    """Whether both want the same, however it went."""
    if one is None or other is None:
        return one is other
    return (one.schedule, one.keep, one.days) == (other.schedule, other.keep, other.days)


def surplus(backups: Sequence[BackupInfo], plan: BackupPlan, now: datetime) -> Sequence[BackupInfo]:
    """Those that may go, of all that there are, newest first: never the newest, and none that people asked for."""
    own = [each for each in backups if each.scheduled]
    oldest = now - timedelta(days=plan.days) if plan.days else None
    return [
        each
        for place, each in enumerate(own)
        if place and (place >= plan.keep or (oldest is not None and each.created_at < oldest))
    ]


def plan_info(plan: BackupPlan) -> BackupPlanInfo:
    return BackupPlanInfo(
        schedule=plan.schedule,
        keep=plan.keep,
        days=plan.days,
        next_at=next_time(plan.schedule, plan.since),
        failure=plan.failure,
    )


def plan_text(name: str, plan: BackupPlan | None) -> str:
    if plan is None:
        return f"{name} is no longer backed up by itself"
    age = f", for {plan.days} days at most" if plan.days else ""
    return f'{name} is backed up at "{plan.schedule}" (UTC); {plan.keep} are kept{age}'
