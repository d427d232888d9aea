"""Volumes are destroyed by name, and never under what works with them."""

from pathlib import Path
from typing import Any

import pytest

from controller.errors import NotFound, Refused
from controller.names import Address
from controller.operations.runs import Order
from tests.factories import instance
from tests.unit.controller.world import ADMIN, World

REDIS = Address("foo", "redis")


async def define(world: World, **definition: Any) -> None:
    await world.operations.services.define(ADMIN, REDIS, {"image": "redis:7", **definition})


async def with_data(world: World) -> Path:
    """An image service whose only version has a volume, with a file in it."""
    await world.operations.deployments.create(ADMIN, "foo")
    await define(world, volumes={"data": "/srv"})
    await world.live(REDIS)
    folder = world.settings.folders.volumes / "foo" / "redis" / "data"
    folder.mkdir(parents=True)
    (folder / "dump.rdb").write_bytes(b"x" * 10_000)
    return folder


async def test_refused_until_neither_definition_nor_version_has_it(world: World) -> None:
    folder = await with_data(world)
    destroy = world.operations.volumes.destroy
    with pytest.raises(Refused, match="take it out of `volumes` there first"):
        await destroy(ADMIN, REDIS, "data")

    await define(world, volumes={})
    world.runtime.running = [instance(1, service="redis")]
    with pytest.raises(Refused, match="in use: v1 has it"):
        await destroy(ADMIN, REDIS, "data")
    await world.live(REDIS)
    with pytest.raises(Refused, match="in use: v1 has it"):
        await destroy(ADMIN, REDIS, "data")

    world.runtime.running = [instance(2, service="redis")]
    assert folder.exists()
    assert await destroy(ADMIN, REDIS, "data") >= 10_000
    assert not folder.exists()
    event = world.operations.journal.list(ADMIN)[-1]
    assert (event.kind, event.actor, event.data["volume"]) == ("volume.destroyed", "ann", "data")
    with pytest.raises(NotFound, match="no volume data"):
        await destroy(ADMIN, REDIS, "data")


async def test_refused_while_a_one_off_of_an_older_version_is_about_to_start(world: World) -> None:
    folder = await with_data(world)
    await world.operations.runs.detach(ADMIN, REDIS, Order(command=["x"]))
    await define(world, volumes={})
    await world.live(REDIS)
    with pytest.raises(Refused, match="in use: v1 has it"):
        await world.operations.volumes.destroy(ADMIN, REDIS, "data")
    assert folder.exists()


@pytest.mark.parametrize("name", ["..", "../../bar/app/data", "", ".", "nothing"])
async def test_only_names_of_volumes_lead_to_one(world: World, name: str) -> None:
    folder = await with_data(world)
    with pytest.raises(NotFound, match="has no volume"):
        await world.operations.volumes.destroy(ADMIN, REDIS, name)
    assert folder.exists()


async def test_the_files_of_a_database_are_not_saved_while_it_runs(world: World) -> None:
    await world.operations.deployments.create(ADMIN, "foo")
    await world.operations.resources.create(ADMIN, "foo", "postgres", "db")
    with pytest.raises(Refused, match="use resources:backup"):
        world.operations.volume_backups.backup(ADMIN, Address("foo", "db"), "data")


async def test_backups_of_one_are_not_those_of_a_later_one_of_its_name(world: World) -> None:
    await with_data(world)
    backups = world.operations.volume_backups
    assert [each async for each in backups.backup(ADMIN, REDIS, "data")]
    assert len(await backups.list(ADMIN, REDIS, "data")) == 1
    event = world.operations.journal.list(ADMIN)[-1]
    assert (event.kind, event.actor, event.service) == ("volume.backup", "ann", "redis")
    with pytest.raises(NotFound, match="no volume 'other'"):
        await backups.list(ADMIN, REDIS, "other")
    await world.operations.services.destroy(ADMIN, REDIS)
    await world.operations.removal.idle()
    await define(world, volumes={"data": "/srv"})
    assert await backups.list(ADMIN, REDIS, "data") == []
    await world.operations.processes.stop(ADMIN, REDIS)
    world.runtime.running = []
    with pytest.raises(NotFound, match="no backup yet: volumes:backup makes one"):
        assert [each async for each in backups.restore(ADMIN, REDIS, "data")]
