"""Panels of plugins, as the client has them."""

import pytest

from controller.client import Client
from controller.errors import InvalidInput, NotFound
from controller.plugins.extensions import Answer, Panel, Route
from controller.plugins.manager import Plugins
from controller.types import Right
from controller.views import PluginPanel
from tests.unit.controller.plugins.test_hooks import SERVER, plugin
from tests.unit.controller.world import World


@pytest.fixture
async def panelled(world: World) -> World:
    """With an app foo, and a plugin that has a panel about it and one about the server."""
    await world.app()
    html = Answer(body="<p>well</p>", media="text/html; charset=utf-8")
    routes = [Route(path=name, handle=lambda call: html, right=right) for name, right in RIGHTS.items()]
    panels = [Panel(title=name.title(), path=name) for name in RIGHTS]
    plugins = Plugins([plugin(register_api_routes=lambda: routes, web_panels=lambda: panels)])
    await plugins.start(SERVER, known=())
    world.operations.plugins._plugins = plugins
    return world


RIGHTS = {"app": Right.DEPLOY, "machine": None}


async def test_panels_with_where_their_html_is(panelled: World, client: Client) -> None:
    of_app = PluginPanel(plugin="mine", title="App", path="/v1/plugins/mine/routes/app", right=Right.DEPLOY)
    assert await client.plugin_panels("foo") == [of_app]
    assert [(each.title, each.right) for each in await client.plugin_panels()] == [("Machine", None)]


async def test_others_are_told_of_theirs_only(panelled: World, url: str) -> None:
    await panelled.user("robin", foo=Right.VIEW)
    async with Client(url, panelled.sessions.mint("robin")) as robin:
        assert await robin.plugin_panels("foo") == await robin.plugin_panels() == []


async def test_no_panels_of_what_is_not_there(panelled: World, client: Client) -> None:
    with pytest.raises(NotFound):
        await client.plugin_panels("bar")
    with pytest.raises(InvalidInput):
        await client.plugin_panels("No name!")
