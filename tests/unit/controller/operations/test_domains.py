"""Domains belong to one service of the whole server."""

import asyncio

import pytest

from controller.errors import Conflict, Forbidden, InvalidInput, NotFound
from controller.names import Address
from controller.types import Right
from tests.unit.controller.world import ADMIN, FOO, World

BAR = Address("bar")


async def test_one_domain_goes_to_one_service(world: World):
    await world.app()
    await world.app("bar")
    await world.operations.domains.change(ADMIN, FOO, add=["www.example.org"])
    with pytest.raises(Conflict, match="in use by foo"):
        await world.operations.domains.change(ADMIN, BAR, add=["other.example.org", "WWW.example.org"])
    assert world.operations.domains.list(ADMIN, BAR) == ("bar.localhost",)


async def test_who_may_not_view_the_owner_is_not_told_it(world: World):
    await world.app()
    await world.app("bar")
    robin = await world.user("robin", bar=Right.OPERATE)
    with pytest.raises(Conflict, match="another app"):
        await world.operations.domains.change(robin, BAR, add=["foo.localhost"])


async def test_two_who_ask_at_once_do_not_both_get_it(world: World):
    await world.app()
    await world.app("bar")
    asked = [world.operations.domains.change(ADMIN, each, add=["www.example.org"]) for each in (FOO, BAR)]
    results = await asyncio.gather(*asked, return_exceptions=True)
    assert [type(each) for each in results if isinstance(each, Exception)] == [Conflict]


async def test_a_default_domain_can_not_be_taken_by_another(world: World):
    await world.app()
    await world.app("bar")
    with pytest.raises(Conflict):
        await world.operations.domains.change(ADMIN, BAR, add=["foo.localhost"])


async def test_no_service_is_made_whose_default_domain_is_taken(world: World):
    await world.app()
    await world.operations.domains.change(ADMIN, FOO, add=["web-bar.localhost"])
    await world.app("bar")
    with pytest.raises(Conflict, match=r"web-bar\.localhost is in use by foo"):
        await world.operations.services.ensure(ADMIN, Address("bar", "web"))


async def test_two_names_that_give_one_default_domain_clash(world: World):
    await world.app("web-foo")
    await world.app("foo")
    with pytest.raises(Conflict, match=r"web-foo\.localhost is in use by web-foo"):
        await world.operations.services.ensure(ADMIN, Address("foo", "web"))


async def test_its_own_default_domain_and_what_is_there_already_change_nothing(world: World):
    await world.app()
    await world.operations.domains.change(ADMIN, FOO, add=["www.example.org"])
    before = world.state.last_event
    await world.operations.domains.change(ADMIN, FOO, add=["foo.localhost", "www.example.org."])
    assert world.state.last_event == before


async def test_removing(world: World):
    await world.app()
    await world.operations.domains.change(ADMIN, FOO, add=["www.example.org"])
    with pytest.raises(NotFound):
        await world.operations.domains.change(ADMIN, FOO, remove=["ww.example.org"])
    with pytest.raises(InvalidInput, match="can't be removed"):
        await world.operations.domains.change(ADMIN, FOO, remove=["foo.localhost"])
    assert await world.operations.domains.change(ADMIN, FOO, remove=["www.example.org"]) == ("foo.localhost",)
    await world.app("bar")
    await world.operations.domains.change(ADMIN, BAR, add=["www.example.org"])


@pytest.mark.parametrize("domain", ["future.localhost", "localhost", "*.localhost"])
async def test_names_of_apps_that_are_yet_to_be_made_are_an_admins_to_give(world: World, domain: str):
    await world.app("bar")
    robin = await world.user("robin", bar=Right.MANAGE)
    with pytest.raises(Forbidden):
        await world.operations.domains.change(robin, BAR, add=[domain])
    await world.operations.domains.change(robin, BAR, add=["www.bar.localhost", "*.bar.localhost"])
    await world.operations.domains.change(ADMIN, BAR, add=[domain])
