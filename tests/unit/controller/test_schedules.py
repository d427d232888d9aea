"""Times of schedules: what is due when, and what is no schedule."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from controller.errors import InvalidInput
from controller.schedules import check_schedule, is_due, next_time

NIGHTLY = "0 3 * * *"
NIGHT = datetime(2026, 3, 1, 3, tzinfo=UTC)


@pytest.mark.parametrize(
    ("since", "now", "due"),
    [
        (NIGHT - timedelta(seconds=1), NIGHT - timedelta(seconds=1), False),
        (NIGHT - timedelta(seconds=1), NIGHT, True),
        (NIGHT, NIGHT + timedelta(hours=23), False),
        (NIGHT, NIGHT + timedelta(days=1), True),
    ],
)
def test_it_is_due_from_its_time_on_until_it_had_its_turn(since: datetime, now: datetime, due: bool) -> None:
    assert is_due(NIGHTLY, since, now) is due


def test_missed_times_are_one_turn() -> None:
    back = NIGHT + timedelta(days=9, hours=5)
    assert is_due(NIGHTLY, NIGHT, back)
    assert not is_due(NIGHTLY, back, back + timedelta(hours=1)), "that turn stands for all of them"


def test_times_are_of_utc_whatever_the_clock_shows() -> None:
    east = NIGHT.astimezone(timezone(timedelta(hours=5)))
    assert next_time(NIGHTLY, east - timedelta(minutes=1)) == NIGHT


def test_what_is_kept_though_it_is_no_schedule_never_comes() -> None:
    assert next_time("whenever", NIGHT) is None and not is_due("whenever", NIGHT, NIGHT)


@pytest.mark.parametrize("text", [" 0  3 * * * ", "*/15 8-18 * * 1-5", "0 0 1 JAN *", "0 0 29 2 *"])
def test_schedules(text: str) -> None:
    assert check_schedule(text, "schedule") == " ".join(text.split())


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "must have five parts"),
        ("@daily", "must have five parts"),
        ("0 0 3 * * *", "must have five parts"),
        ("0 3 * * " + "1," * 100, "must have five parts"),
        ("60 3 * * *", "bad minute. Write it as in"),
        ("0 3 30 2 *", "bad day-of-month"),
        ("0 0 31 4 *", "bad day-of-month|never comes"),
    ],
)
def test_what_is_no_schedule_is_refused_with_an_example(text: str, words: str) -> None:
    with pytest.raises(InvalidInput, match=words) as raised:
        check_schedule(text, "schedule")
    assert raised.value.field == "schedule" and '"0 3 * * *"' in str(raised.value)
