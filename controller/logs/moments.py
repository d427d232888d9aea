"""Moments as people write them."""

import re
from datetime import UTC, datetime, timedelta

from controller.errors import InvalidInput

_AGO = re.compile(r"(?=.)(?:(\d{1,6})d)?(?:(\d{1,6})h)?(?:(\d{1,6})m)?(?:(\d{1,8})s?)?")


def parse_moment(text: str, field: str, now: datetime) -> datetime:
    """`10m`, `1h30m`, `2d`, `45s` or `45` ago; else a date or time in ISO 8601, UTC where it names no zone.

    Raises InvalidInput with `field` as what it is about.
    """
    if match := _AGO.fullmatch(text.strip()):
        days, hours, minutes, seconds = (int(each or 0) for each in match.groups())
        try:
            return now - timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds)
        except OverflowError:
            return datetime.min.replace(tzinfo=UTC)
    try:
        moment = datetime.fromisoformat(text.strip())
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise InvalidInput(
            field,
            f"{text[:60]!a} is no time for {field}: write how long ago (10m, 1h30m, 2d) or a moment in UTC "
            "such as 2026-11-22T08:00.",
        ) from None
