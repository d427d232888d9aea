"""When something is to be done again: times as crontab writes them, in UTC. Pure.

Times that were missed, because the server was down or the last turn took long, are one turn and not many.
"""

from datetime import UTC, datetime

from cronsim import CronSim, CronSimError

from controller.errors import InvalidInput

FIELDS = 5
"""Minute, hour, day of the month, month, day of the week: nothing comes more often than once a minute."""
LONGEST = 100
_ANY = datetime(2000, 1, 1, tzinfo=UTC)


def check_schedule(text: str, field: str) -> str:
    """The same with single spaces. Raises InvalidInput, naming `field`."""
    example = 'as in "0 3 * * *" for three o\'clock each night (UTC)'
    parts = text.split()
    if len(parts) != FIELDS or len(text) > LONGEST:
        raise InvalidInput(
            field,
            f"{field} must have five parts, minute, hour, day of the month, month and day of the week, {example}.",
        )
    schedule = " ".join(parts)
    try:
        never = next(CronSim(schedule, _ANY), None) is None
    except CronSimError as error:
        reason = str(error)
        raise InvalidInput(
            field, f"{field} is no such time: {reason[:1].lower()}{reason[1:]}. Write it {example}."
        ) from error
    if never:
        raise InvalidInput(field, f"{field} never comes: write a time that does, {example}.")
    return schedule


def next_time(schedule: str, after: datetime) -> datetime | None:
    """The first of its times after that moment; None for a schedule that has none, or is none."""
    try:
        return next(CronSim(schedule, after.astimezone(UTC)), None)
    except CronSimError:
        return None


def is_due(schedule: str, since: datetime, now: datetime) -> bool:
    """Whether one of its times came after `since`, when its last turn began, and is not after `now`."""
    coming = next_time(schedule, since)
    return coming is not None and coming <= now
