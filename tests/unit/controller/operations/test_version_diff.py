"""Which version one is compared with."""

import pytest

from controller.difference import HIDDEN
from controller.errors import NotFound
from controller.state import delete
from tests.unit.controller.world import ADMIN, FOO, World


async def configure(world: World, **values: str) -> int:
    change = await world.operations.services.change_config(ADMIN, FOO, values=values)
    assert change.version is not None
    return change.version.number


async def test_a_version_is_compared_with_the_one_it_replaced_not_with_one_that_failed(world: World):
    await world.app()
    await world.push()
    await world.live()
    await configure(world, BROKEN="1")
    await world.failed()
    number = await configure(world, GOOD="secret")
    diff = world.operations.versions.diff(ADMIN, FOO, number)
    assert diff.compared_with == 1
    assert "GOOD" in {each.name for each in diff.differences}
    shown = {each.name: each.after for each in diff.differences}
    assert shown["GOOD"] == HIDDEN
    revealed = world.operations.versions.diff(ADMIN, FOO, number, reveal=True)
    assert {each.name: each.after for each in revealed.differences}["GOOD"] == "secret"
    assert world.operations.versions.get(ADMIN, FOO, number).summary.startswith("+")


async def test_any_kept_version_can_be_named(world: World):
    await world.app()
    await world.push(content="a")
    await world.live()
    await world.push(content="b")
    await world.live()
    number = await world.push(content="a")
    diff = world.operations.versions.diff(ADMIN, FOO, number, other=1)
    assert (diff.compared_with, diff.differences) == (1, ())
    with pytest.raises(NotFound):
        world.operations.versions.diff(ADMIN, FOO, number, other=9)


async def test_where_the_replaced_one_is_gone_the_newest_older_one_serves(world: World):
    await world.app()
    for content in "abc":
        await world.push(content=content)
        await world.live()
    second = world.state.version("foo", "app", 2)
    assert second is not None
    await world.state.commit(delete(second))
    assert world.operations.versions.diff(ADMIN, FOO, 3).compared_with == 1
    assert world.operations.versions.diff(ADMIN, FOO, 1).compared_with is None
