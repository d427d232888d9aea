"""What a destroyed service leaves behind."""

import asyncio

import pytest

from controller.errors import Conflict
from controller.operations import removal
from tests.unit.controller.world import ADMIN, World


async def test_files_that_can_not_be_removed_are_a_problem_and_tried_again(
    world: World, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(removal, "FIRST_PAUSE", 0.0)
    await world.app()
    broken, tried = asyncio.Event(), []
    broken.set()

    async def remove_service(deployment: str, service: str) -> None:
        tried.append((deployment, service))
        if broken.is_set():
            raise OSError("Device or resource busy")

    monkeypatch.setattr(world.storage, "remove_service", remove_service)
    await world.operations.deployments.destroy(ADMIN, "foo")
    async with asyncio.timeout(10):
        while len(tried) < 3:
            await asyncio.sleep(0)

    (problem,) = world.operations.server.status(ADMIN).problems
    assert problem.startswith(
        "The files of foo, which was destroyed, can't be removed: Device or resource busy"
    )
    with pytest.raises(Conflict, match="its files can't be removed: Device or resource busy"):
        await world.operations.deployments.create(ADMIN, "foo")

    broken.clear()
    async with asyncio.timeout(10):
        await world.operations.removal.idle()
    assert world.operations.server.status(ADMIN).problems == ()
    await world.app()
