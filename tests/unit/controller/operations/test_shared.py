"""Config of a whole deployment."""

import pytest

from controller.environment import environment
from controller.errors import InvalidInput
from controller.names import Address
from controller.views import VariableSource
from tests.factories import slug
from tests.unit.controller.world import ADMIN, FOO, World

API = Address("foo", "api")


async def two_services(world: World) -> None:
    await world.app()
    await world.operations.services.ensure(ADMIN, API)
    await world.operations.services.ensure(ADMIN, Address("foo", "unborn"))
    for address in (FOO, API):
        await world.push(address)
        await world.live(address)


async def test_each_service_gets_one_version(world: World) -> None:
    await two_services(world)
    change = await world.operations.shared.change(ADMIN, "foo", values={"A": "1", "B": "2"})
    assert [(each.service, each.number) for each in change.versions] == [("api", 2), ("app", 2)]
    assert change.versions[0].reason == "config:set --global A B"
    assert environment(change.versions[0])["A"] == "1"
    assert world.operations.shared.get(ADMIN, "foo") == {"A": "1", "B": "2"}
    assert (await world.operations.shared.change(ADMIN, "foo", values={"A": "1"})).versions == ()


async def test_a_service_whose_own_config_wins_gets_none(world: World) -> None:
    await two_services(world)
    await world.operations.services.change_config(ADMIN, FOO, values={"A": "own"})
    change = await world.operations.shared.change(ADMIN, "foo", values={"A": "1"})
    assert [each.service for each in change.versions] == ["api"]
    again = await world.operations.versions.release(ADMIN, FOO, slug(), commit="e" * 40, reason="push")
    assert again.version is None  # nothing that it would find is another


async def test_unsetting_takes_it_from_all(world: World) -> None:
    await two_services(world)
    await world.operations.shared.change(ADMIN, "foo", values={"A": "1"})
    change = await world.operations.shared.change(ADMIN, "foo", values={}, drop=["A"])
    assert len(change.versions) == 2
    assert all("A" not in environment(each) for each in change.versions)


async def test_the_environment_tells_where_a_variable_comes_from(world: World) -> None:
    await world.app()
    await world.push(env={"PATH": "bin", "LANG": "C"})
    await world.operations.shared.change(ADMIN, "foo", values={"A": "all", "B": "all", "PATH": "all"})
    await world.operations.services.change_config(ADMIN, FOO, values={"B": "own", "LANG": "own"})
    assert [(x.name, x.value, x.source) for x in world.operations.services.environment(ADMIN, FOO)] == [
        ("A", "all", VariableSource.DEPLOYMENT),
        ("B", "own", VariableSource.SERVICE),
        ("LANG", "own", VariableSource.SERVICE),
        ("PATH", "bin", VariableSource.BUILDPACK),
    ]


@pytest.mark.parametrize("values", [{}, {"PORT": "1"}, {"1A": "x"}, {"MOORING_APP": "x"}])
async def test_off_variables_are_refused(world: World, values: dict[str, str]) -> None:
    await world.app()
    with pytest.raises(InvalidInput):
        await world.operations.shared.change(ADMIN, "foo", values=values)
