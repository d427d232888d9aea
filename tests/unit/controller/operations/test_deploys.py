"""What is on its way, and ending it."""

import pytest

from controller.errors import NotFound, Refused
from controller.names import Address
from controller.types import BuildStatus, Right, VersionStatus
from controller.views import DeployState
from tests.factories import slug
from tests.unit.controller.world import ADMIN, FOO, World

BAR = Address("bar")


async def test_rollouts_come_before_builds_and_builds_before_what_waits(world: World):
    await world.app()
    await world.app("bar")
    builds = world.operations.builds
    first = await builds.open(ADMIN, FOO, commit=None, waits_for="Waiting for bob")
    running = await builds.open(ADMIN, BAR, commit=None, reason="push of 1a2b3c4 to main")
    second = await builds.open(ADMIN, BAR, commit=None, waits_for="Waiting for ann")
    await world.push()
    world.runtime.busy["foo", "app"] = "foo-app-1-web-1 is not healthy yet"

    found = world.operations.deploys.list(ADMIN)

    assert [(each.state, each.build or each.version) for each in found] == [
        (DeployState.ROLLING_OUT, 1),
        (DeployState.BUILDING, running.id),
        (DeployState.QUEUED, first.id),
        (DeployState.QUEUED, second.id),
    ]
    assert found[0].doing == "v1: foo-app-1-web-1 is not healthy yet"
    assert (found[0].actor, found[0].reason) == ("ann", "push")
    assert (found[1].reason, found[2].doing) == ("push of 1a2b3c4 to main", "Waiting for bob")
    assert all(each.since for each in found)


async def test_what_has_ended_is_not_on_its_way(world: World):
    await world.app()
    build = await world.operations.builds.open(ADMIN, FOO, commit=None)
    await world.operations.builds.close(ADMIN, build.id, BuildStatus.SUCCEEDED, artifact=slug())
    await world.push()
    await world.live()
    assert world.operations.deploys.list(ADMIN) == []


async def test_a_restart_is_told_with_who_asked_for_it(world: World):
    await world.app()
    await world.push()
    await world.live()
    bob = await world.user("bob", foo=Right.OPERATE)
    await world.operations.processes.restart(bob, FOO)
    (found,) = world.operations.deploys.list(ADMIN)
    assert (found.actor, found.reason, found.version) == ("bob", "restart", 1)


async def test_only_what_one_may_view_is_told(world: World):
    await world.app()
    await world.app("bar")
    for address in (FOO, BAR):
        await world.operations.builds.open(ADMIN, address, commit=None)
    bob = await world.user("bob", foo=Right.VIEW)
    assert [each.deployment for each in world.operations.deploys.list(bob)] == ["foo"]
    assert world.operations.deploys.list(bob, deployment="foo", service="app")
    with pytest.raises(NotFound):
        world.operations.deploys.list(bob, deployment="bar")


async def test_cancel_ends_what_is_furthest_on(world: World):
    await world.app()
    builds, deploys = world.operations.builds, world.operations.deploys
    await world.push()
    queued = await builds.open(ADMIN, FOO, commit=None, waits_for="Waiting")
    running = await builds.open(ADMIN, FOO, commit=None)

    assert (await deploys.cancel(ADMIN, FOO)).build == running.id
    assert builds.get(ADMIN, running.id).cancel_requested_by == "ann"
    await builds.close(ADMIN, running.id, BuildStatus.CANCELED)

    assert (await deploys.cancel(ADMIN, FOO)).version == 1
    assert world.operations.versions.get(ADMIN, FOO, 1).status is VersionStatus.CANCELED

    assert (await deploys.cancel(ADMIN, FOO)).build == queued.id
    await builds.close(ADMIN, queued.id, BuildStatus.CANCELED)
    with pytest.raises(Refused, match="No deploy of foo is under way"):
        await deploys.cancel(ADMIN, FOO)
