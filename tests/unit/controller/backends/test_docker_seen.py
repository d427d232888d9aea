"""What is said of an instance, from what the engine tells of its container."""

from typing import Any

import pytest

from controller.backends.docker.seen import Life, Seen, describe_exit, parse, seconds_of
from controller.types import InstanceState

LABELS = {
    "mooring.instance": "foo-app-3-web-1",
    "mooring.deployment": "foo",
    "mooring.service": "app",
    "mooring.version": "3",
    "mooring.process-type": "web",
    "mooring.number": "1",
    "mooring.generation": "7",
    "mooring.address": "10.201.0.7",
    "mooring.port": "5000",
}
BEGAN = 1_800_000_000.0


def seen(status: str = "running", **changes: Any) -> Seen:
    values: dict[str, Any] = {"container": "c1", "labels": LABELS, "status": status, "started_at": BEGAN}
    return Seen(**values | changes)


def crash(life: Life, number: int, at: float, *, code: int = 3) -> float:
    """It ends at that time, and is started a second later."""
    life.take(
        seen("restarting", started_at=life.seen.started_at, finished_at=at, restarts=number, exit_code=code),
        at,
    )
    assert life.shown.next_start_at is not None
    life.take(seen(started_at=at + 1, finished_at=at, restarts=number), at + 1)
    return at + 1


def test_running_is_told_with_its_place() -> None:
    found = Life(seen(), BEGAN).shown
    assert (found.state, found.address, found.port, found.restarts, found.detail) == (
        *(InstanceState.RUNNING, "10.201.0.7", 5000, 0, ""),
    )
    assert found.started_at is not None
    assert found.started_at.timestamp() == BEGAN


def test_crash_is_told_until_and_after_the_next_start() -> None:
    life = Life(seen(), BEGAN)
    life.take(seen("restarting", finished_at=BEGAN + 1, restarts=1, exit_code=3), BEGAN + 1)
    assert (life.shown.state, life.shown.restarts, life.shown.detail) == (
        *(InstanceState.CRASHED, 0, "exited with status 3"),
    )
    assert life.shown.next_start_at is not None
    assert life.shown.next_start_at.timestamp() == pytest.approx(BEGAN + 1.1)
    life.take(seen(started_at=BEGAN + 1.5, finished_at=BEGAN + 1, restarts=1), BEGAN + 2)
    assert (life.shown.state, life.shown.detail) == (
        InstanceState.RUNNING,
        "exited with status 3 (1 restart)",
    )


def test_five_ends_are_a_loop_until_it_lasts() -> None:
    life = Life(seen(), BEGAN)
    at = BEGAN
    for number in range(1, 6):
        at = crash(life, number, at + 1)
    assert (life.shown.state, life.moves) == (InstanceState.CRASH_LOOPING, True)
    assert life.look(at + 61)
    assert (life.shown.state, life.moves) == (InstanceState.RUNNING, False)


def test_ends_that_are_far_apart_are_no_loop() -> None:
    life = Life(seen(), BEGAN)
    at = BEGAN
    for number in range(1, 9):
        at = crash(life, number, at + 61)
    assert life.shown.state is InstanceState.RUNNING


def test_pause_doubles_after_each_early_end() -> None:
    life = Life(seen(), BEGAN)
    at, pauses = BEGAN, []
    for number in range(1, 5):
        at += 1
        life.take(seen("restarting", started_at=at - 0.5, finished_at=at, restarts=number, exit_code=1), at)
        assert life.shown.next_start_at is not None
        pauses.append(round(life.shown.next_start_at.timestamp() - at, 3))
    assert pauses == [0.1, 0.2, 0.4, 0.8]


def test_end_that_was_heard_of_after_the_next_start_counts_once() -> None:
    life = Life(seen(), BEGAN)
    life.take(seen(started_at=BEGAN + 5.2, finished_at=BEGAN + 5, restarts=1), BEGAN + 6)
    assert life.end(BEGAN + 5, 3, BEGAN + 6) == "exited with status 3"
    assert life.end(BEGAN + 5.003, 3, BEGAN + 6) is None
    life.look(BEGAN + 6)
    assert (life.shown.state, life.shown.detail) == (
        InstanceState.RUNNING,
        "exited with status 3 (1 restart)",
    )


@pytest.mark.parametrize("where", ["the inspection", "an event before", "an event after the next start"])
def test_memory_that_ran_out_is_the_cause_of_a_kill(where: str) -> None:
    life = Life(seen(memory=64 * 1024**2), BEGAN)
    ended: dict[str, Any] = {"finished_at": BEGAN + 5, "restarts": 1, "memory": 64 * 1024**2}
    if where == "the inspection":
        life.take(seen("restarting", exit_code=137, memory_ran_out=True, **ended), BEGAN + 5)
    else:
        life.memory_ran_out(BEGAN + 4.9)
        if where.endswith("start"):
            life.take(seen(**ended | {"started_at": BEGAN + 5.2}), BEGAN + 6)
        life.end(BEGAN + 5, 137, BEGAN + 6)
    assert life.last_end == (BEGAN + 5, "killed: used more than its limit of 64 MiB")
    assert life.of_memory(BEGAN + 4.95) is None


def test_part_that_was_killed_for_memory_is_told_while_the_rest_goes_on() -> None:
    life = Life(seen(memory=64 * 1024**2), BEGAN)
    life.memory_ran_out(BEGAN + 5)
    assert life.of_memory(BEGAN + 5) == "a process of it was killed: used more than its limit of 64 MiB"


def test_one_that_is_to_be_stopped_is_known_by_not_being_kept() -> None:
    for status in ("running", "restarting", "exited"):
        life = Life(seen(status, kept=False, finished_at=BEGAN + 1), BEGAN + 2)
        assert (life.shown.state, life.shown.detail) == (InstanceState.STOPPING, "")


def test_what_is_started_once_exits_with_its_code() -> None:
    once = {**LABELS, "mooring.once": "yes"}
    life = Life(seen(kept=False, labels=once), BEGAN)
    assert life.shown.state is InstanceState.RUNNING
    life.take(seen("exited", kept=False, labels=once, finished_at=BEGAN + 1, exit_code=5), BEGAN + 1)
    assert (life.shown.state, life.shown.exit_code, life.shown.detail) == (
        *(InstanceState.EXITED, 5, "exited with status 5"),
    )


def test_loop_is_recognised_by_whoever_comes_later() -> None:
    resting = seen("restarting", finished_at=BEGAN + 1, restarts=6, exit_code=3)
    assert Life(resting, BEGAN + 2).shown.state is InstanceState.CRASH_LOOPING
    up = seen(started_at=BEGAN + 5, finished_at=BEGAN + 1.5, restarts=6)
    assert Life(up, BEGAN + 7).shown.state is InstanceState.CRASH_LOOPING
    lasted = seen(started_at=BEGAN + 5, finished_at=BEGAN + 1.5, restarts=6)
    assert Life(lasted, BEGAN + 70).shown.state is InstanceState.RUNNING
    seldom = seen(started_at=BEGAN + 5, finished_at=BEGAN + 4.9, restarts=6)
    assert Life(seldom, BEGAN + 7).shown.state is InstanceState.RUNNING


def test_one_that_the_engine_gave_up_says_why_and_counts_on() -> None:
    life = Life(seen(restarts=2, finished_at=BEGAN - 1), BEGAN)
    life.take(
        seen("exited", restarts=3, finished_at=BEGAN + 20, fault="no space left", exit_code=128), BEGAN + 20
    )
    assert life.seen.is_given_up
    assert life.shown.detail.startswith("can't be started again: no space left")
    life.take(seen(started_at=BEGAN + 30, finished_at=BEGAN + 20), BEGAN + 30)
    assert (life.shown.state, life.shown.restarts) == (InstanceState.RUNNING, 3)


def test_start_of_the_engine_itself_is_no_detail() -> None:
    assert Life(seen(started_at=BEGAN + 9, finished_at=BEGAN), BEGAN + 10).shown.detail == ""


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (0, "exited with status 0"),
        (137, "killed by SIGKILL"),
        (143, "killed by SIGTERM"),
        (255, "exited with status 255"),
    ],
)
def test_exit_codes_in_words(code: int, words: str) -> None:
    assert describe_exit(code) == words


def test_inspection_is_understood() -> None:
    found = parse(
        {
            "Id": "c1",
            "RestartCount": 2,
            "Config": {"Labels": LABELS},
            "HostConfig": {"RestartPolicy": {"Name": "always"}, "Memory": 10},
            "State": {
                "Status": "running",
                "ExitCode": 0,
                "OOMKilled": False,
                "StartedAt": "2027-01-15T08:00:00.5Z",
                "FinishedAt": "0001-01-01T00:00:00Z",
            },
        }
    )
    assert (found.started_at, found.finished_at, found.restarts, found.kept) == (BEGAN + 0.5, None, 2, True)
    assert seconds_of("2027-01-15T08:00:00Z") == BEGAN
