"""Parts of the web page that plugins bring: who is told of which."""

import threading

import pytest

from controller.errors import NotFound, Unavailable
from controller.operations.access import Actor
from controller.plugins.extensions import Answer, Panel, Route
from controller.plugins.record import Record
from controller.types import Right
from tests.unit.controller.plugins.test_hooks import SERVER, Made, opened, plugin
from tests.unit.controller.world import ADMIN, World

__all__ = ["opened"]
HTML = Answer(body="<p>well</p>", media="text/html; charset=utf-8")
RIGHTS = {"viewers": Right.VIEW, "operators": Right.OPERATE, "admins": None}


def panelled(**changes: object) -> Record:
    """A plugin with a panel for each kind of reader."""
    routes = [Route(path=name, handle=lambda call: HTML, right=right) for name, right in RIGHTS.items()]
    panels = [Panel(title=name.title(), path=f"/{name}") for name in RIGHTS]
    hooks = {"register_api_routes": lambda: routes, "web_panels": lambda: panels, **changes}
    return plugin("mine", **hooks)


async def started(opened: Made, record: Record) -> World:
    world: World = await opened(record)
    await world.operations.plugins._plugins.start(SERVER, known=())
    return world


def titles(world: World, who: Actor, deployment: str | None = None) -> list[str]:
    return [each.title for each in world.operations.plugins.panels(who, deployment)]


async def test_panels_of_a_deployment_are_for_those_with_the_right_to_them(opened: Made) -> None:
    world = await started(opened, panelled())
    viewer = await world.user("robin", foo=Right.VIEW)
    operator = await world.user("sam", foo=Right.OPERATE)
    assert titles(world, viewer, "foo") == ["Viewers"]
    assert titles(world, operator, "foo") == titles(world, ADMIN, "foo") == ["Viewers", "Operators"]
    for none in (await world.user("kim"), await world.user("lou", bar=Right.MANAGE)):
        with pytest.raises(NotFound):
            titles(world, none, "foo")


async def test_panels_of_the_server_are_for_admins(opened: Made) -> None:
    world = await started(opened, panelled())
    assert titles(world, ADMIN) == ["Admins"]
    assert titles(world, await world.user("robin", foo=Right.MANAGE)) == []
    secret, _ = await world.operations.credentials.create(ADMIN, right=Right.MANAGE)
    assert titles(world, world.operations.credentials.authenticate(secret)) == [], (
        "a narrowed token is no admin's"
    )


async def test_whatever_panel_one_is_told_of_may_be_asked_for(opened: Made) -> None:
    world = await started(opened, panelled())
    for who in (ADMIN, await world.user("robin", foo=Right.VIEW)):
        for deployment in ("foo", None):
            query = {} if deployment is None else {"deployment": deployment}
            for each in world.operations.plugins.panels(who, deployment):
                name = each.path.removeprefix("/v1/plugins/mine/routes/")
                assert await world.operations.plugins.request(who, "mine", "GET", name, query, b"") == HTML


async def test_a_panel_without_a_route_is_left_out_and_counted(opened: Made) -> None:
    panels = [Panel(title="Lost", path="nowhere"), Panel(title="Viewers", path="viewers")]
    record = panelled(web_panels=lambda: panels)
    world = await started(opened, record)
    assert titles(world, ADMIN, "foo") == ["Viewers"]
    assert record.last_error == "web_panels: the panel Lost has no route GET nowhere"


async def test_a_panel_that_is_none_does_not_keep_the_server_from_starting(opened: Made) -> None:
    record = panelled(web_panels=lambda: [Panel(title=None, path=7)])  # type: ignore[arg-type]
    world = await started(opened, record)
    assert titles(world, ADMIN, "foo") == []
    assert "are texts" in record.last_error


async def test_the_panel_of_a_suspended_plugin_says_why_it_fails(opened: Made) -> None:
    free = threading.Event()
    route = Route(path="viewers", handle=lambda call: free.wait(20), right=Right.VIEW)
    panel = Panel(title="Viewers", path="viewers")
    world = await started(opened, panelled(register_api_routes=lambda: [route], web_panels=lambda: [panel]))
    try:
        for words in ("did not answer", "is suspended"):
            with pytest.raises(Unavailable, match=words):
                await world.operations.plugins.request(
                    ADMIN, "mine", "GET", "viewers", {"deployment": "foo"}, b""
                )
    finally:
        free.set()
    assert titles(world, ADMIN, "foo") == ["Viewers"], (
        "its readers are told, and not left to wonder where it is"
    )
