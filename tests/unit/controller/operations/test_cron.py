"""Jobs of an app.json: which begin when, and what is known of them afterwards."""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from controller.operations.cron import CronOperations
from controller.runs import KEPT, job_key, surplus
from controller.state import put
from controller.types import CronJob, Manifest, Run, RunKind, RunStatus, Service
from tests.factories import run, service
from tests.unit.controller.world import ADMIN, FOO, World, make_world

CLEAN = CronJob(command="./clean", schedule="0 3 * * *")
POLL = CronJob(command="worker", schedule="*/5 * * * *")
DAY = timedelta(days=1)


class Clock:
    """Stands until it is put on."""

    now = datetime(2026, 3, 10, 2, 59, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    made = await make_world(tmp_path)
    await made.app()
    yield made
    await made.state.close()


@pytest.fixture
def cron(world: World, clock: Clock) -> CronOperations:
    return CronOperations(world.state, world.runtime, ttl=60, clock=clock)


async def serve(world: World, *jobs: CronJob, content: str = "a") -> None:
    types = {"web": "serve", "worker": "./work --forever"}
    await world.push(content=content, manifest=Manifest(cron=jobs), process_types=types)
    await world.live()


def begun(world: World) -> list[str]:
    """What began, oldest first."""
    return [each.command for each in reversed(world.state.runs("foo", "app"))]


async def end_all(world: World, status: RunStatus = RunStatus.SUCCEEDED) -> None:
    await world.state.commit(
        *(
            put(replace(each, status=status))
            for each in world.state.runs("foo", "app")
            if not each.status.over
        )
    )


async def test_a_job_begins_at_its_time_and_once(world: World, cron: CronOperations, clock: Clock) -> None:
    await serve(world, CLEAN)
    await cron.look()
    assert begun(world) == [], "a job that is new has missed nothing"
    clock.now += timedelta(minutes=1)
    for _ in range(2):
        await cron.look()
    (only,) = world.state.runs("foo", "app")
    assert (only.process, only.version, only.command, only.ttl) == ("scheduled.1", 1, "./clean", 60)
    assert world.runtime.woken
    texts = [each.text for each in world.state.events("foo") if each.kind == "run.started"]
    assert texts == ["Running scheduled.1 by its schedule: ./clean"]


async def test_none_begins_beside_one_of_the_same_and_missed_times_are_one(
    world: World, cron: CronOperations, clock: Clock
) -> None:
    await serve(world, CLEAN, POLL)
    await cron.look()
    clock.now += timedelta(minutes=1)
    await cron.look()
    assert begun(world) == ["./clean", "./work --forever"], "a process type's name stands for its command"
    clock.now += 3 * DAY
    await cron.look()
    assert len(begun(world)) == 2
    await end_all(world)
    for _ in range(2):
        await cron.look()
    assert [each.process for each in world.state.runs("foo", "app")][:2] == ["scheduled.4", "scheduled.3"]
    assert len(begun(world)) == 4


async def test_while_it_is_stopped_nothing_begins(world: World, cron: CronOperations, clock: Clock) -> None:
    await serve(world, CLEAN)
    await cron.look()
    found = world.state.service("foo", "app")
    assert found
    await world.state.commit(put(replace(found, stopped=True)))
    clock.now += DAY
    await cron.look()
    assert begun(world) == []
    stopped = world.state.service("foo", "app")
    assert stopped
    await world.state.commit(put(replace(stopped, stopped=False)))
    await cron.look()
    assert begun(world) == ["./clean"]


async def test_jobs_go_along_with_what_serves(world: World, cron: CronOperations, clock: Clock) -> None:
    await serve(world, CLEAN)
    await cron.look()
    clock.now += timedelta(minutes=1)
    later = replace(CLEAN, command="./clean --all")
    await serve(world, CLEAN, later, content="b")
    await cron.look()
    assert begun(world) == ["./clean"], "the same goes on, the other one is new"
    await end_all(world)
    await serve(world, content="c")
    clock.now += DAY
    await cron.look()
    assert len(begun(world)) == 1 and cron.list(ADMIN, FOO) == []
    found = world.state.service("foo", "app")
    assert found and found.cron == {}


async def test_the_list_tells_the_next_and_the_last(world: World, cron: CronOperations, clock: Clock) -> None:
    await serve(world, CLEAN, POLL)
    await cron.look()
    assert [each.last_at for each in cron.list(ADMIN, FOO)] == [None, None]
    clock.now += timedelta(minutes=1)
    at = clock.now
    await cron.look()
    await end_all(world, RunStatus.FAILED)
    clean, poll = cron.list(ADMIN, FOO)
    assert (clean.next_at, clean.last_at, clean.run, clean.status) == (
        at + DAY,
        at,
        "scheduled.1",
        RunStatus.FAILED,
    )
    assert (poll.command, poll.next_at) == ("worker", at + timedelta(minutes=5))


async def test_what_is_kept_though_it_is_no_schedule_never_runs(
    world: World, cron: CronOperations, clock: Clock
) -> None:
    await serve(world, CLEAN)
    version = world.state.version("foo", "app", 1)
    assert version and version.artifact
    odd = replace(version.artifact, manifest=Manifest(cron=(CronJob(command="x", schedule="now"),)))
    await world.state.commit(put(replace(version, artifact=odd)))
    clock.now += DAY
    await cron.look()
    assert begun(world) == [] and cron.list(ADMIN, FOO)[0].next_at is None


def test_the_last_run_of_each_job_is_remembered() -> None:
    rare, often, gone = "rare", "often", "gone"

    def one(number: int, job: str) -> Run:
        return run(number, RunKind.SCHEDULED, job=job, status=RunStatus.SUCCEEDED)

    known = [*(one(90 - each, often) for each in range(KEPT + 5)), one(2, rare), one(1, rare), one(0, gone)]
    wanted: Service = service(cron={rare: Clock.now, often: Clock.now})
    forgotten = list(surplus(wanted, known))
    assert [each for each in known if each not in forgotten] == [*known[:KEPT], one(2, rare)]


def test_a_job_is_known_by_its_command_and_its_times() -> None:
    assert job_key(CLEAN) == job_key(replace(CLEAN))
    assert len({job_key(CLEAN), job_key(POLL), job_key(replace(CLEAN, schedule="1 3 * * *"))}) == 3
