"""Promoting, aborting, cancelling, pausing and resuming the rollout that is under way."""

import asyncio

import pytest

from controller import wire
from controller.errors import Refused
from controller.types import HealthCheck, Rollout, Service, Strategy, Version, VersionStatus
from tests.factories import instance
from tests.unit.controller.world import ADMIN, FOO, World


async def canary(world: World) -> None:
    """v1 serves, v2 is on its way as a canary."""
    await world.app()
    await world.operations.services.define(ADMIN, FOO, {"rollout": {"strategy": "canary", "share": 25}})
    await world.push()
    await world.live()
    await world.push(content="b")


def service(world: World):
    return world.state.service("foo", "app")


def status(world: World, number: int) -> VersionStatus:
    return world.state.version("foo", "app", number).status


def told(world: World) -> tuple[str, str, str]:
    event = world.state.events("foo")[-1]
    return event.kind, event.actor, event.text


async def test_rollout_and_checks_are_part_of_the_definition_and_of_a_version(world: World):
    await canary(world)
    checks = {"worker": {"command": "test -e ready", "timeout": 30}, "clock": {"uptime": 5}}
    change = await world.operations.services.define(ADMIN, FOO, {"checks": checks, "rollout": "one-by-one"})
    definition = change.version.definition
    assert definition.rollout == Rollout(strategy=Strategy.ONE_BY_ONE)
    assert definition.checks == {
        "worker": HealthCheck(command="test -e ready", timeout=30),
        "clock": HealthCheck(uptime=5),
    }
    change = await world.operations.services.define(ADMIN, FOO, {"checks": None, "rollout": None})
    assert (change.version.definition.checks, change.version.definition.rollout) == ({}, Rollout())


async def test_promoted_canary_is_marked_once(world: World):
    await canary(world)
    assert (await world.operations.rollouts.promote(ADMIN, FOO)).number == 2
    assert service(world).promoted == (2, 1)
    before = world.state.last_event
    assert told(world) == ("rollout.promoted", "ann", "v2 was promoted")
    await world.operations.rollouts.promote(ADMIN, FOO)
    assert world.state.last_event == before


async def test_promotion_counts_for_that_rollout_only(world: World):
    await canary(world)
    await world.operations.rollouts.promote(ADMIN, FOO)
    await world.push(content="d")
    assert service(world).promoted != (service(world).target, service(world).generation)


async def test_aborted_canary_is_canceled_and_says_by_whom_and_why(world: World):
    await canary(world)
    ended = await world.operations.rollouts.abort(ADMIN, FOO, reason="errors\nwent up")
    assert (ended.number, ended.status) == (2, VersionStatus.CANCELED)
    assert ended.failure == "its canary was aborted by ann: errors went up"
    assert service(world).target == 1
    assert told(world)[:2] == ("version.canceled", "ann")


async def test_what_is_no_canary_can_not_be_promoted_or_aborted(world: World):
    await world.app()
    await world.push()
    for call in (world.operations.rollouts.promote, world.operations.rollouts.abort):
        with pytest.raises(Refused, match="not that of a canary"):
            await call(ADMIN, FOO)
    await world.live()
    with pytest.raises(Refused, match="No rollout of foo is under way"):
        await world.operations.rollouts.promote(ADMIN, FOO)


async def test_first_version_with_a_canary_strategy_needs_no_promotion(world: World):
    await world.app()
    await world.operations.services.define(ADMIN, FOO, {"rollout": "canary"})
    await world.push()
    with pytest.raises(Refused):
        await world.operations.rollouts.promote(ADMIN, FOO)


async def test_promoted_canary_is_ended_by_cancel_and_not_by_abort(world: World):
    await canary(world)
    await world.operations.rollouts.promote(ADMIN, FOO)
    with pytest.raises(Refused, match="deploy:cancel"):
        await world.operations.rollouts.abort(ADMIN, FOO)
    await world.operations.rollouts.cancel(ADMIN, FOO)
    assert (status(world, 2), service(world).promoted) == (VersionStatus.CANCELED, ())


async def test_cancel_goes_back_to_what_serves_with_its_config(world: World):
    await world.app()
    await world.push()
    await world.live()
    await world.operations.services.change_config(ADMIN, FOO, values={"A": "bad"})
    following = asyncio.create_task(followed(world, 2))
    await asyncio.sleep(0)
    await world.operations.rollouts.cancel(ADMIN, FOO)
    assert (service(world).target, service(world).definition.env) == (1, {})
    assert (status(world, 1), status(world, 2)) == (VersionStatus.LIVE, VersionStatus.CANCELED)
    last = (await following)[-1]
    assert (last.failure, last.version.status) == ("it was canceled by ann", VersionStatus.CANCELED)
    with pytest.raises(Refused):
        await world.operations.rollouts.cancel(ADMIN, FOO)


async def test_canceled_version_is_none_to_go_back_to(world: World):
    await world.app()
    await world.push()
    await world.live()
    await world.push(content="b")
    await world.operations.rollouts.cancel(ADMIN, FOO)
    with pytest.raises(Refused, match="never was live"):
        await world.operations.versions.rollback(ADMIN, FOO, 2)


async def test_canceled_first_version_leaves_nothing_wanted(world: World):
    await world.app()
    await world.push()
    await world.operations.rollouts.cancel(ADMIN, FOO)
    assert (service(world).target, service(world).current) == (None, None)


async def test_canceled_restart_leaves_its_version_live(world: World):
    await world.app()
    await world.push()
    await world.live()
    await world.operations.processes.restart(ADMIN, FOO)
    world.runtime.busy["foo", "app"] = "foo-app-1-web-2 is not healthy yet"
    following = asyncio.create_task(followed(world))
    await asyncio.sleep(0)
    await world.operations.rollouts.cancel(ADMIN, FOO, reason="not now")
    world.runtime.busy.clear()
    assert service(world).generation == service(world).current_generation
    assert status(world, 1) is VersionStatus.LIVE
    assert told(world) == (
        "service.restart-canceled",
        "ann",
        "the restart of v1 ends, v1 stays: it was canceled by ann: not now",
    )
    assert (await following)[-1].failure == "it was canceled by ann: not now"


async def test_pause_and_resume_are_told_with_their_actor_and_once(world: World):
    await canary(world)
    await world.operations.rollouts.pause(ADMIN, FOO)
    assert service(world).paused
    assert told(world) == ("rollout.paused", "ann", "the rollout of v2 was paused by ann")
    assert "paused: deploy:resume" in world.operations.services.get(ADMIN, FOO).rollout
    before = world.state.last_event
    await world.operations.rollouts.pause(ADMIN, FOO)
    assert world.state.last_event == before
    started = service(world).rollout_started_at
    await world.operations.rollouts.resume(ADMIN, FOO)
    assert not service(world).paused
    assert service(world).rollout_started_at > started
    assert told(world)[0] == "rollout.resumed"


async def test_nothing_is_paused_where_nothing_is_under_way(world: World):
    await world.app()
    await world.push()
    await world.live()
    with pytest.raises(Refused, match="No rollout"):
        await world.operations.rollouts.pause(ADMIN, FOO)
    assert world.operations.services.get(ADMIN, FOO).rollout is None


async def test_what_stops_first_is_not_paused_once_its_goal_has_begun(world: World):
    await world.app()
    await world.push()
    await world.live()
    await world.operations.services.define(ADMIN, FOO, {"rollout": "stop-first"})
    world.runtime.running = [instance(1), instance(2)]
    await world.operations.rollouts.pause(ADMIN, FOO)
    await world.operations.rollouts.resume(ADMIN, FOO)
    world.runtime.running = [instance(2)]
    with pytest.raises(Refused, match=r"before v2 nothing runs any more.*deploy:cancel goes back"):
        await world.operations.rollouts.pause(ADMIN, FOO)


async def test_cancel_ends_the_pause_too(world: World):
    await canary(world)
    await world.operations.rollouts.pause(ADMIN, FOO)
    await world.operations.rollouts.cancel(ADMIN, FOO)
    assert not service(world).paused


async def followed(world: World, number: int | None = None):
    async with asyncio.timeout(5):
        return [step async for step in world.operations.rollouts.follow(ADMIN, FOO, number)]


async def test_nobody_waits_for_a_paused_rollout(world: World):
    await canary(world)
    await world.operations.rollouts.pause(ADMIN, FOO)
    last = (await followed(world, 2))[-1]
    assert (last.version.status, last.failure) == (VersionStatus.PENDING, "")
    assert "paused" in last.text


async def test_promoted_canary_is_followed_from_its_promotion(world: World):
    await canary(world)
    await world.operations.rollouts.promote(ADMIN, FOO)
    following = asyncio.create_task(followed(world, 2))
    await asyncio.sleep(0)
    await world.live()
    assert [each.text for each in await following] == ["v2 was promoted", "v2 serves", ""]


async def test_nobody_waits_for_somebody_to_promote(world: World):
    await canary(world)
    following = asyncio.create_task(followed(world, 2))
    await asyncio.sleep(0.01)
    assert not following.done()
    world.runtime.asking["foo", "app"] = "v2 runs as a canary beside v1"
    last = (await following)[-1]
    assert (last.text, last.done, last.failure) == ("v2 runs as a canary beside v1", True, "")
    assert world.operations.services.get(ADMIN, FOO).rollout == "v2 runs as a canary beside v1"


async def test_restart_as_a_canary_is_followed_until_it_waits(world: World):
    await canary(world)
    await world.live()
    await world.operations.processes.restart(ADMIN, FOO)
    world.runtime.asking["foo", "app"] = "the restart of v2 runs as a canary"
    assert (await followed(world))[-1].text == "the restart of v2 runs as a canary"


async def test_records_of_before_can_be_read(world: World):
    old = wire.to_json(Service(deployment="foo", name="app"))
    for name in ("paused", "promoted"):
        old.pop(name)
    for name in ("rollout", "checks"):
        old["definition"].pop(name)
    for name in ("command", "uptime"):
        old["definition"]["health"].pop(name)
    assert wire.from_json(Service, old) == Service(deployment="foo", name="app")
    await world.app()
    await world.push()
    version = world.state.version("foo", "app", 1)
    kept = wire.to_json(version)
    kept["definition"].pop("rollout")
    assert wire.from_json(Version, kept) == version
