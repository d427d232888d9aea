"""Following what a service is busy with."""

import asyncio

import pytest

from controller.errors import NotFound, Unavailable
from controller.types import VersionStatus
from controller.views import RolloutStep
from tests.unit.controller.world import ADMIN, FOO, World


async def followed(world: World, number: int | None = None) -> list[RolloutStep]:
    async with asyncio.timeout(5):
        return [step async for step in world.operations.rollouts.follow(ADMIN, FOO, number)]


async def test_a_rollout_that_is_over_is_told_whole(world: World):
    await world.app()
    await world.push()
    await world.live()
    steps = await followed(world, 1)
    assert [each.text for each in steps] == ["v1: push", "v1 serves", ""]
    assert [each.done for each in steps] == [False, False, True]


async def test_an_overtaken_version_ends_as_superseded(world: World):
    await world.app()
    await world.push()
    following = asyncio.create_task(followed(world, 1))
    await asyncio.sleep(0)
    await world.push(content="b")
    last = (await following)[-1]
    assert (last.version.status, last.failure) == (VersionStatus.SUPERSEDED, "")


async def test_nobody_waits_for_the_version_of_a_stopped_service(world: World):
    await world.app()
    await world.push()
    await world.live()
    await world.operations.processes.stop(ADMIN, FOO)
    await world.push(content="b")
    last = (await followed(world, 2))[-1]
    assert (last.version.status, last.failure) == (VersionStatus.PENDING, "")
    assert last.text == "foo is stopped: v2 comes up once it is started (ps:start)"


async def test_a_stop_ends_waiting_for_a_version(world: World):
    await world.app()
    await world.push()
    following = asyncio.create_task(followed(world, 1))
    await asyncio.sleep(0)
    await world.operations.processes.stop(ADMIN, FOO)
    assert "is stopped" in (await following)[-1].text


async def test_what_is_not_there_can_not_be_followed(world: World):
    await world.app()
    with pytest.raises(NotFound):
        world.operations.rollouts.follow(ADMIN, FOO, 1)


async def test_a_destroyed_service_ends_it(world: World):
    await world.app()
    await world.push()
    following = asyncio.create_task(followed(world, 1))
    await asyncio.sleep(0)
    await world.operations.services.destroy(ADMIN, FOO)
    assert (await following)[-1].failure == "foo was destroyed"


async def test_scaling_is_followed_until_it_has_settled(world: World):
    await world.app()
    await world.push()
    await world.live()
    await world.operations.processes.scale(ADMIN, FOO, {"web": "2"})
    world.runtime.busy["foo", "app"] = "foo-app-1-web-2 is not healthy yet"
    following = asyncio.create_task(followed(world))
    await asyncio.sleep(0.01)
    assert not following.done()
    world.runtime.busy.clear()
    steps = await following
    assert [each.text for each in steps] == ["scaled to web=2", "settled"]
    assert steps[-1].version.number == 1


async def test_a_restart_that_was_given_up_says_why_and_a_later_scaling_does_not(world: World):
    await world.app()
    await world.push()
    await world.live()
    await world.operations.processes.restart(ADMIN, FOO)
    await world.failed(why="it crashed")
    assert (await followed(world))[-1].failure == "it crashed"
    await world.operations.processes.scale(ADMIN, FOO, {"web": "2"})
    assert (await followed(world))[-1].failure == ""


async def test_a_server_that_stops_says_so(world: World):
    await world.app()
    await world.push()
    following = asyncio.create_task(followed(world, 1))
    await asyncio.sleep(0.01)
    await world.state.close()
    with pytest.raises(Unavailable):
        await following


async def test_who_stops_following_leaves_nothing_behind(world: World):
    await world.app()
    await world.push()
    before = asyncio.all_tasks()
    steps = world.operations.rollouts.follow(ADMIN, FOO, 1)
    await anext(steps)
    waiting = asyncio.ensure_future(anext(steps))
    await asyncio.sleep(0.01)
    waiting.cancel()
    await asyncio.wait({waiting})
    await steps.aclose()
    assert asyncio.all_tasks() == before


async def test_a_server_that_can_not_see_says_so_to_who_waits(world: World):
    await world.app()
    await world.push()
    world.runtime.troubles = ["The supervisor does not run."]
    following = asyncio.create_task(followed(world, 1))
    await asyncio.sleep(0.01)
    await world.live()
    texts = [each.text for each in await following]
    assert texts.count("Waiting, as the server is hindered: The supervisor does not run.") == 1
