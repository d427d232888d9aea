"""Ending what would stay in progress for ever."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from controller.state import EventDraft, put
from controller.types import BuildStatus, VersionStatus
from controller.upkeep.overdue import Limits
from controller.upkeep.reaper import Reaper
from tests.unit.controller.world import ADMIN, FOO, World

HOUR = timedelta(hours=1)
LIMITS = Limits(
    queue_timeout=HOUR, build_timeout=HOUR / 4, rollout_timeout=HOUR, stop_grace=timedelta(seconds=30)
)


class Clock:
    def __init__(self) -> None:
        self.late = timedelta()

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self.late


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def reaper(world: World, clock: Clock) -> Reaper:
    operations = world.operations
    return Reaper(world.state, world.runtime, operations.builds, operations.rollouts, LIMITS, clock=clock)


async def test_a_silent_owners_build_is_abandoned_and_one_that_gives_signs_of_life_is_not(
    world: World, reaper: Reaper, clock: Clock, monkeypatch: pytest.MonkeyPatch
):
    await world.app()
    builds = world.operations.builds
    silent = await builds.open(ADMIN, FOO, commit=None, waits_for="Waiting")
    alive = await builds.open(ADMIN, FOO, commit=None)
    await reaper.reap()
    assert silent.status.under_way
    clock.late = timedelta(minutes=5)
    monkeypatch.setattr(builds, "_clock", clock)
    await builds.touch(ADMIN, alive.id)
    await reaper.reap()
    assert builds.get(ADMIN, silent.id).status is BuildStatus.ABANDONED
    assert "nothing was heard of its owner" in builds.get(ADMIN, silent.id).error
    assert builds.get(ADMIN, alive.id).status is BuildStatus.RUNNING


async def test_silence_is_counted_from_the_servers_start(
    world: World, reaper: Reaper, clock: Clock, monkeypatch: pytest.MonkeyPatch
):
    await world.app()
    builds = world.operations.builds
    build = await builds.open(ADMIN, FOO, commit=None)
    await world.state.commit(put(replace(build, started_at=datetime.now(UTC) - timedelta(minutes=10))))
    builds._heard.clear()  # what a restart forgets
    await reaper.reap()
    assert builds.get(ADMIN, build.id).status is BuildStatus.RUNNING
    clock.late = timedelta(minutes=5)
    await reaper.reap()
    assert builds.get(ADMIN, build.id).status is BuildStatus.ABANDONED


async def test_a_rollout_that_does_not_get_on_fails_and_what_serves_is_wanted_again(
    world: World, reaper: Reaper, clock: Clock
):
    await world.app()
    await world.push()
    await world.live()
    await world.push(content="b")
    world.runtime.busy["foo", "app"] = "the backend does not answer"
    clock.late = HOUR - timedelta(minutes=1)
    await reaper.reap()
    assert world.operations.versions.get(ADMIN, FOO, 2).status is VersionStatus.PENDING
    clock.late = HOUR + timedelta(minutes=1)
    await reaper.reap()
    failed = world.operations.versions.get(ADMIN, FOO, 2)
    assert failed.status is VersionStatus.FAILED
    assert failed.failure.endswith("(rollout_timeout): v2: the backend does not answer")
    service = world.state.service("foo", "app")
    assert service is not None
    assert (service.target, service.rollout_failure) == (1, failed.failure)
    assert world.state.events("foo")[-1].kind == "version.failed"


async def test_progress_of_a_rollout_gives_it_more_time(world: World, reaper: Reaper, clock: Clock):
    await world.app()
    await world.push()
    service = world.state.service("foo", "app")
    assert service is not None
    begun = datetime.now(UTC) - 3 * HOUR
    got_on = EventDraft(kind="instance.healthy", deployment="foo", service="app", text="one is healthy")
    await world.state.commit(put(replace(service, rollout_started_at=begun)), events=[got_on])
    await reaper.reap()
    assert world.operations.versions.get(ADMIN, FOO, 1).status is VersionStatus.PENDING
    clock.late = HOUR + timedelta(minutes=1)
    await reaper.reap()
    assert world.operations.versions.get(ADMIN, FOO, 1).status is VersionStatus.FAILED


@pytest.mark.parametrize("hold", ["stopped", "paused", "canary"])
async def test_what_waits_for_a_person_may_wait(world: World, reaper: Reaper, clock: Clock, hold: str):
    await world.app()
    await world.push()
    await world.live()
    await world.push(content="b")
    service = world.state.service("foo", "app")
    assert service is not None
    if hold == "canary":
        world.runtime.asking["foo", "app"] = "the canary waits for deploy:promote"
    else:
        await world.state.commit(put(replace(service, **{hold: True})))
    clock.late = 100 * HOUR
    await reaper.reap()
    assert world.operations.versions.get(ADMIN, FOO, 2).status is VersionStatus.PENDING


async def test_instances_that_do_not_stop_are_a_problem_that_status_shows(world: World, reaper: Reaper):
    world.runtime.leaving["foo-app-1-web-1"] = datetime.now(UTC) - HOUR
    (problem,) = reaper.problems()
    assert "does not end" in problem
    assert problem in world.operations.server.status(ADMIN).problems
