"""Rollouts of every strategy through the loop, on drivers in memory."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from controller.backends.base import BackendError
from controller.backends.memory import Behaviour
from controller.state import put
from controller.types import Definition, Rollout, Strategy, VersionStatus
from tests.unit.controller.reconcile.test_loop import opened

GRADUAL = [Rollout(strategy=Strategy.ONE_BY_ONE), Rollout(strategy=Strategy.BATCH, size=2)]
CANARY = Rollout(strategy=Strategy.CANARY, share=30)


@pytest.fixture
async def here():
    """Three instances of v1 serve."""
    async with opened() as setting:
        await setting.state.commit(put(replace(setting.service, scale={"web": 3})))
        await setting.push(1)
        await setting.settle()
        yield setting


def names(number):
    return [f"foo-app-{number}-web-{each}" for each in (1, 2, 3)]


async def push(setting, rollout, number=2):
    await setting.push(number, definition=Definition(rollout=rollout))
    await setting.state.commit(put(replace(setting.service, rollout_started_at=datetime.now(UTC))))


async def until_the_canary_waits(setting):
    await push(setting, CANARY)
    await setting.settle()
    assert "runs as a canary" in setting.loop.awaiting("foo", "app")


@pytest.mark.parametrize("rollout", GRADUAL)
async def test_every_instance_is_replaced_and_three_are_routed_all_the_time(here, rollout):
    await push(here, rollout)
    for _ in range(200):
        await here.loop.tick()
        await asyncio.sleep(0.001)
        assert len(await here.routed()) >= 3
        if here.service.current == 2 and here.loop.pending("foo", "app") is None:
            break
    assert here.running == await here.routed() == names(2)
    assert here.state.version("foo", "app", 2).status is VersionStatus.LIVE


@pytest.mark.parametrize("steps", range(1, 25, 2))
async def test_controller_killed_in_the_middle_goes_on_and_starts_nothing_twice(here, steps):
    await push(here, GRADUAL[0])
    for _ in range(steps):
        await here.loop.tick()
        await asyncio.sleep(0.001)
    here.restart_controller()
    await here.settle(ticks=200)
    assert here.running == await here.routed() == names(2)
    starts = [name for verb, name in here.world.history if verb == "start"]
    assert starts == [*names(1), *names(2)]


async def test_start_that_fails_in_the_middle_returns_everything_to_the_old_version(here):
    started = []

    def behaviour(spec):
        started.append(spec.id)
        return Behaviour(refused="no disk" if spec.id == "foo-app-2-web-2" else "")

    here.backend._behaviour = behaviour
    await push(here, GRADUAL[0])
    for _ in range(200):
        await here.loop.tick()
        await asyncio.sleep(0.001)
        assert len(await here.routed()) >= 3
        for failure in here.loop._start_failures.values():
            failure.not_before = failure.not_before.replace(year=2000)
        if here.service.target == 1 and here.loop.pending("foo", "app") is None:
            break
    assert here.running == await here.routed() == names(1)
    failed = here.state.version("foo", "app", 2)
    assert (failed.status, failed.failure) == (
        VersionStatus.FAILED,
        "no instance could be started: no disk",
    )


async def test_what_can_not_be_started_of_the_old_version_does_not_fail_the_new_one(here):
    await until_the_canary_waits(here)
    here.backend._behaviour = lambda spec: Behaviour(refused="the slug is gone" if spec.version == 1 else "")
    await here.backend.stop("foo-app-1-web-3", grace=0)
    for _ in range(8):
        await here.loop.tick()
        for failure in here.loop._start_failures.values():
            failure.not_before = failure.not_before.replace(year=2000)
    assert here.loop._start_failures["foo", "app"].attempts >= 3
    assert (here.service.target, here.service.current) == (2, 1)


async def test_canary_waits_and_is_aborted_when_its_time_is_over(here):
    await until_the_canary_waits(here)
    assert await here.routed() == [*names(1), "foo-app-2-web-1"]
    long_ago = datetime.now(UTC) - timedelta(hours=2)
    await here.state.commit(put(replace(here.service, rollout_started_at=long_ago)))
    await here.settle()
    assert here.running == await here.routed() == names(1)
    ended = here.state.version("foo", "app", 2)
    assert (ended.status, ended.failure) == (
        VersionStatus.CANCELED,
        "nobody promoted its canary within 1 h",
    )
    assert here.state.events("foo")[-1].kind != "version.failed"


async def test_promoted_canary_takes_over(here):
    await until_the_canary_waits(here)
    await here.state.commit(put(replace(here.service, promoted=(2, 1))))
    await here.settle()
    assert here.running == await here.routed() == names(2)
    assert here.service.promoted == ()


async def test_canary_goes_on_waiting_under_another_controller(here):
    await until_the_canary_waits(here)
    history = list(here.world.history)
    here.restart_controller()
    await here.settle()
    assert "runs as a canary" in here.loop.awaiting("foo", "app")
    assert here.world.history == history


async def test_paused_rollout_goes_on_when_it_is_resumed(here):
    await push(here, GRADUAL[0])
    await here.loop.tick()
    await here.state.commit(put(replace(here.service, paused=True)))
    await here.settle()
    held = here.running
    assert "is paused" in here.loop.awaiting("foo", "app")
    for _ in range(5):
        await here.loop.tick()
    assert here.running == held
    await here.state.commit(put(replace(here.service, paused=False)))
    await here.settle(ticks=200)
    assert here.running == names(2)


@pytest.mark.parametrize("rollout", [*GRADUAL, CANARY])
async def test_unreachable_backend_causes_no_action_in_the_middle(here, rollout):
    await push(here, rollout)
    for _ in range(3):
        await here.loop.tick()
    history, routed = list(here.world.history), await here.routed()
    here.world.reachable = False
    for _ in range(3):
        with pytest.raises(BackendError):
            await here.loop.tick()
    assert (here.world.history, await here.routed()) == (history, routed)
