"""Values that a deployment has for the variables of its service file."""

import pytest

from controller.errors import Forbidden, InvalidInput
from controller.types import Right
from controller.wire import encode
from tests.unit.controller.world import ADMIN, World


async def test_they_are_kept_and_change_nothing_else(world: World) -> None:
    await world.app()
    woken = world.runtime.woken
    found = await world.operations.vars.change(ADMIN, "foo", values={"HOST_NAME": "x", "TAG": "v1"})
    assert found == world.operations.vars.get(ADMIN, "foo") == {"HOST_NAME": "x", "TAG": "v1"}
    assert await world.operations.vars.change(
        ADMIN, "foo", values={"TAG": "v2"}, drop=["HOST_NAME", "NO"]
    ) == {"TAG": "v2"}
    assert world.runtime.woken == woken


async def test_the_right_to_operate_sets_them_and_only_to_deploy_reads_them(world: World) -> None:
    await world.app()
    await world.operations.vars.change(ADMIN, "foo", values={"TAG": "hidden"})
    viewer, deployer = await world.user("vera", foo=Right.VIEW), await world.user("dan", foo=Right.DEPLOY)
    assert world.operations.vars.get(deployer, "foo") == {"TAG": "hidden"}
    with pytest.raises(Forbidden):
        await world.operations.vars.change(deployer, "foo", values={"TAG": "v2"})
    with pytest.raises(Forbidden):
        world.operations.vars.get(viewer, "foo")
    assert b'"TAG":"hidden"' not in encode(world.operations.deployments.get(viewer, "foo"))


@pytest.mark.parametrize("wrong", [{"a b": "x"}, {"PORT": "x"}, {"A": "x\0"}, {"A": "x" * 20_000}, {}])
async def test_what_is_none_is_refused(world: World, wrong: dict[str, str]) -> None:
    await world.app()
    with pytest.raises(InvalidInput):
        await world.operations.vars.change(ADMIN, "foo", values=wrong)
