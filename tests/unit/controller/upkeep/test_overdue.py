"""What has been in progress for too long."""

from datetime import timedelta
from typing import Any

import pytest

from controller.types import Build, BuildStatus
from controller.upkeep.overdue import (
    MARGIN,
    SILENCE,
    AbandonBuild,
    AskBuildToEnd,
    GiveUpRollout,
    Limits,
    OpenBuild,
    OpenRollout,
    overdue,
    stuck,
)
from tests.factories import NOW, service

LIMITS = Limits(
    queue_timeout=timedelta(hours=1),
    build_timeout=timedelta(minutes=15),
    rollout_timeout=timedelta(hours=1),
    stop_grace=timedelta(seconds=30),
)


def minutes(count: float) -> timedelta:
    return timedelta(minutes=count)


def build(status: BuildStatus, age: timedelta, **changes: Any) -> Build:
    times = {"queued_at": NOW - age, "started_at": NOW - age if status is BuildStatus.RUNNING else None}
    return Build(id="b1", deployment="foo", service="app", status=status, **{**times, **changes})


@pytest.mark.parametrize(
    ("status", "age", "silent", "asked", "expected"),
    [
        ("queued", minutes(59), minutes(1), "", None),
        (
            "queued",
            minutes(61),
            minutes(0),
            "",
            "abandon: its turn did not come within 60 min (queue_timeout)",
        ),
        ("queued", minutes(5), SILENCE + minutes(1), "", "abandon: nothing was heard of its owner for 2 min"),
        ("running", minutes(14), minutes(1), "", None),
        (
            "running",
            minutes(3),
            SILENCE + minutes(1),
            "",
            "abandon: nothing was heard of its owner for 2 min",
        ),
        ("running", minutes(16), minutes(0), "", None),
        (
            "running",
            minutes(15) + MARGIN * 1.5,
            minutes(0),
            "",
            "ask: it ran for longer than 15 min (build_timeout)",
        ),
        ("running", minutes(15) + MARGIN * 1.5, minutes(0), "ann", None),
        (
            "running",
            minutes(15) + MARGIN * 2.5,
            minutes(0),
            "the server",
            "abandon: it ran for longer than 15 min (build_timeout) and did not end when it was asked to",
        ),
    ],
)
def test_a_build_is_ended_at_its_limit(
    status: str, age: timedelta, silent: timedelta, asked: str, expected: str | None
) -> None:
    made = build(BuildStatus(status), age, cancel_requested_by=asked)
    found = overdue([OpenBuild(build=made, heard=NOW - silent)], [], NOW, LIMITS)
    told = [
        f"{'abandon' if isinstance(each, AbandonBuild) else 'ask'}: {each.reason}"
        for each in found
        if isinstance(each, AbandonBuild | AskBuildToEnd)
    ]
    assert told == ([expected] if expected else [])


def test_a_build_of_an_older_release_without_times_is_not_ended_for_them() -> None:
    made = Build(id="b1", deployment="foo", service="app", status=BuildStatus.QUEUED)
    assert overdue([OpenBuild(build=made, heard=NOW)], [], NOW, LIMITS) == []


@pytest.mark.parametrize(
    ("begun", "progress", "ended"),
    [
        (minutes(59), minutes(59), False),
        (minutes(300), minutes(59), False),
        (minutes(61), minutes(300), True),
        (minutes(30), minutes(300), False),  # what came before its begin is not its own
        (None, minutes(61), True),
    ],
)
def test_a_rollout_is_given_up_when_it_does_not_get_on(
    begun: timedelta | None, progress: timedelta, ended: bool
) -> None:
    rolling = service(
        current=1, target=2, latest=2, rollout_started_at=None if begun is None else NOW - begun
    )
    one = OpenRollout(service=rolling, progress=NOW - progress, doing="v2: the backend does not answer")
    expected = GiveUpRollout(
        deployment="foo",
        service="app",
        goal=(2, 1),
        reason="it did not get on for 60 min (rollout_timeout): v2: the backend does not answer",
    )
    assert overdue([], [one], NOW, LIMITS) == ([expected] if ended else [])


def test_an_instance_that_does_not_end_is_told() -> None:
    stopping = {"foo-app-1-web-2": NOW - minutes(10), "foo-app-1-web-1": NOW - minutes(1)}
    (told,) = stuck(stopping, NOW, LIMITS)
    assert told.startswith("foo-app-1-web-2 does not end, though it was asked to 10 min ago")
