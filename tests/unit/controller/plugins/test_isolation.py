"""Plugins that raise, hang, are slow, are missing or broken: others are deployed all the same, and it is seen."""

import asyncio
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from controller.errors import Forbidden, InvalidInput, NotFound, Refused, Unavailable
from controller.operations.servicefiles import Request
from controller.plugins.discovery import find_plugins
from controller.plugins.extensions import Answer, Command, Route
from controller.plugins.manager import Plugins
from controller.plugins.record import Record, Standing
from controller.servicefile.document import ServiceFile
from controller.types import Right
from controller.views import FileOutcome
from tests.unit.controller.plugins.test_hooks import SERVER, Made, deploy, opened, plugin, runs_with
from tests.unit.controller.world import ADMIN, World

__all__ = ["opened"]
SERVICES = {"web": {"image": "web", "env": {"A": "{NAME}"}}}
OPINIONS = ("setup", "needs_app_code", "rewrite_service", "provide_vars", "provide_environment")


def raises() -> Any:
    raise RuntimeError("it is broken")


async def test_one_that_raises_stops_nobody_and_is_shown(opened: Made) -> None:
    broken = plugin("broken", priority=1, **dict.fromkeys(OPINIONS, raises))
    world = await opened(broken, plugin("good", provide_vars=lambda: {"NAME": "good"}))
    outcome = await deploy(world, SERVICES)
    assert [each.version for each in outcome.changes] == [1]
    assert runs_with(world)["A"] == "good"
    shown = next(each for each in world.operations.plugins.list(ADMIN).plugins if each.name == "broken")
    assert (shown.errors, shown.standing) == (5, "on")
    assert shown.last_error.endswith("RuntimeError: it is broken")


async def test_one_that_hangs_is_left_behind_and_suspended(opened: Made) -> None:
    free = threading.Event()
    hanging = plugin("hanging", provide_vars=lambda: free.wait(20) and None)
    world = await opened(hanging, plugin("good", provide_vars=lambda: {"NAME": "good"}), timeout=1)
    begun = time.monotonic()
    try:
        await deploy(world, SERVICES)
        assert time.monotonic() - begun < 10
        assert runs_with(world)["A"] == "good"
        assert (hanging.standing, hanging.left_behind) == (Standing.SUSPENDED, 1)
        assert "plugins:resume hanging" in " ".join(world.operations.server._problems())
        begun = time.monotonic()
        await deploy(world, {"web": {"image": "web:2"}})
        assert time.monotonic() - begun < 0.9, "nobody waits for it a second time"
    finally:
        free.set()
    assert world.operations.plugins.resume(ADMIN, "hanging").standing == "on"
    with pytest.raises(Refused, match="is not suspended"):
        world.operations.plugins.resume(ADMIN, "hanging")
    with pytest.raises(NotFound):
        world.operations.plugins.resume(ADMIN, "nobody")


async def test_a_slow_one_keeps_nobody_who_does_not_ask_it(opened: Made) -> None:
    slow = plugin("slow", provide_vars=lambda: time.sleep(1) or {"NAME": "slow"})
    world = await opened(slow, timeout=5)
    begun = time.monotonic()
    waits = asyncio.create_task(deploy(world, SERVICES))
    await asyncio.sleep(0.05)
    await world.operations.deployments.create(ADMIN, "bar")
    assert time.monotonic() - begun < 0.9, "the event loop and the store are free meanwhile"
    await waits
    assert (slow.standing, slow.seconds > 0.2, runs_with(world)["A"]) == (Standing.ON, True, "slow")


@pytest.mark.parametrize(
    ("hook", "answer"),
    [
        ("setup", 7),
        ("needs_app_code", b"bytes"),
        ("rewrite_service", {"port": "no number"}),
        ("rewrite_service", "text"),
        ("provide_vars", ["a"]),
        ("provide_vars", {"NAME": 1}),
        ("provide_environment", {"a b": "x"}),
        ("provide_environment", {"A": 1}),
    ],
)
async def test_answers_that_can_not_be_used_are_none(opened: Made, hook: str, answer: Any) -> None:
    odd = plugin("odd", **{hook: lambda: answer})
    world = await opened(odd)
    outcome = await deploy(world, SERVICES)
    assert [each.version for each in outcome.changes] == [1]
    assert f"{hook}: it gave what can't be used" in odd.last_error


async def test_a_plugin_that_exits_does_not_end_the_server(opened: Made) -> None:
    world = await opened(odd := plugin("odd", setup=lambda: sys.exit(3)))
    await deploy(world, SERVICES)
    assert "it raised SystemExit" in odd.last_error


async def test_the_decision_is_that_of_the_definition_which_was_asked_about(opened: Made) -> None:
    """Somebody changes the service while a plugin thinks: it is asked again."""
    asked = list[str | None]()

    def think(service: Any) -> Mapping[str, str]:
        asked.append(service.definition.command)
        time.sleep(0.2 if service.definition.command == "one" else 0)
        return {"NAME": str(service.definition.command)}

    world: World = await opened(plugin("thinks", provide_vars=think), timeout=5)
    await deploy(world, {"web": {"image": "web", "env": {"A": "{NAME}"}}})
    define = world.operations.services.define
    from tests.unit.controller.plugins.test_hooks import WEB

    slow = asyncio.create_task(define(ADMIN, WEB, {"env": {"A": "{NAME}", "B": "1"}, "cmd": "one"}))
    await asyncio.sleep(0.05)
    await define(ADMIN, WEB, {"limits": {"memory": 2**30}})
    change = await slow
    assert change.version is not None
    assert runs_with(world, change.version.number)["A"] == "one"
    assert asked.count("one") == 2


# Keys that nobody acts on


async def test_keys_of_a_missing_plugin_are_reported_and_kept(opened: Made) -> None:
    services = {"web": {"image": "web", "sidecar": {"image": "proxy"}}}
    world = await opened(plugin("mesh", keys=["sidecar", "Mesh"]))
    outcome = await deploy(world, services, {"Mesh": {"on": True}})
    assert outcome.unclaimed == ()
    world.operations.plugins._plugins.records[0].standing = Standing.OFF  # the next server has it no more
    again: FileOutcome = await world.operations.servicefiles.plan(
        ADMIN, Request(deployment="foo", file=ServiceFile(services=services, globals={"Mesh": {"on": True}}))
    )
    assert (again.changes, again.unclaimed) == ((), ("Mesh", "web.sidecar"))
    assert world.operations.plugins.list(ADMIN).unclaimed == {"foo": ("Mesh", "web.sidecar")}
    kept = world.state.service("foo", "web")
    assert kept.definition.extra["sidecar"] == {"image": "proxy"}


# Loading


def write(folder: Path, **texts: str) -> Path:
    for name, text in texts.items():
        (folder / f"{name}.py").write_text(text)
    return folder


GOOD = "from controller.plugins.hooks import hookimpl\n@hookimpl\ndef setup(service): return None\n"


def test_what_can_not_be_loaded_says_why_and_stops_nobody(tmp_path: Path) -> None:
    write(
        tmp_path,
        good=GOOD,
        broken="import nothing_of_that_name\n",
        leaves="raise SystemExit(1)\n",
        typo=GOOD.replace("setup(service)", "setup(servise)"),
        unknown=GOOD.replace("def setup", "def set_up"),
        require=GOOD,
        _helper="raise RuntimeError\n",
    )
    plugins = Plugins(find_plugins(tmp_path, "*", taken=["require"]))
    found = {each.name: (each.standing, each.why) for each in plugins.records}
    assert found["good"] == (Standing.ON, "")
    assert found["broken"][1].startswith("it can't be loaded: ModuleNotFoundError")
    assert found["leaves"][1].startswith("it can't be loaded: SystemExit")
    assert "servise" in found["typo"][1]
    assert "unknown" in found["unknown"][1] or "set_up" in found["unknown"][1]
    assert found["require"][1] == "its name is that of a part of the product"
    assert len(plugins.problems()) == 5
    assert [each.name for each in plugins.implementing("setup")] == ["good"]


@pytest.mark.parametrize(
    ("wanted", "on"),
    [
        ("*", {"a", "b", "c"}),
        ("", set()),
        ("a, c", {"a", "c"}),
        ("-b", {"a", "c"}),
        ("*,-a", {"b", "c"}),
    ],
)
def test_settings_say_which_are_on(tmp_path: Path, wanted: str, on: set[str]) -> None:
    write(tmp_path, a=GOOD, b=GOOD, c=GOOD)
    found = find_plugins(tmp_path, wanted)
    assert {each.name for each in found if each.active} == on
    assert all(each.why for each in found if not each.active)


def test_priorities_are_kept() -> None:
    order = Plugins(
        [
            plugin("last", priority=200, setup=raises),
            plugin("mid", setup=raises),
            plugin("first", priority=1, setup=raises),
        ]
    )
    assert [each.name for each in order.implementing("setup")] == ["first", "mid", "last"]


# Verbs and routes


def commands() -> list[Command]:
    def wrong(call: Any) -> str:
        raise ValueError("Name a colour.")

    return [
        Command(
            verb="mine:say",
            run=lambda call: f"{call.user} {call.deployment} {list(call.words)}",
            right=Right.VIEW,
        ),
        Command(verb="mine:wrong", run=wrong),
        Command(verb="mine:broken", run=lambda call: raises()),
    ]


async def with_extensions(opened: Made) -> tuple[World, Record]:
    routes = [
        Route(path="report", handle=lambda call: {"for": call.deployment}, right=Right.VIEW),
        Route(path="page", handle=lambda call: Answer(body="<p>", media="text/html")),
        Route(path="odd", handle=lambda call: object()),
        Route(path="sent", method="POST", handle=lambda call: call.body.decode()),
    ]
    mine = plugin("mine", register_commands=commands, register_api_routes=lambda: routes)
    world = await opened(mine)
    await world.operations.plugins._plugins.start(SERVER, known=())
    return world, mine


async def test_verbs_run_with_rights_and_limits(opened: Made) -> None:
    world, mine = await with_extensions(opened)
    run = world.operations.plugins.run
    assert [each.verb for each in world.operations.plugins.commands(ADMIN)] == [
        "mine:broken",
        "mine:say",
        "mine:wrong",
    ]
    viewer = await world.user("vic", foo=Right.VIEW)
    assert await run(viewer, "mine:say", ["a"], deployment="foo") == ["vic foo ['a']"]
    assert await run(viewer, "mine:say", ["foo", "b"], deployment=None) == ["vic foo ['b']"]
    with pytest.raises(NotFound):
        await run(viewer, "mine:say", [], deployment="bar")
    with pytest.raises(Forbidden):
        await run(viewer, "mine:wrong", [], deployment=None)
    with pytest.raises(InvalidInput, match="Name a colour"):
        await run(ADMIN, "mine:wrong", [], deployment=None)
    with pytest.raises(Unavailable, match="The plugin mine failed: RuntimeError: it is broken"):
        await run(ADMIN, "mine:broken", [], deployment=None)
    mine.standing = Standing.SUSPENDED
    with pytest.raises(NotFound, match="There is no verb mine:say"):
        await run(ADMIN, "mine:say", [], deployment="foo")


async def test_routes_answer_with_rights_and_limits(opened: Made) -> None:
    world, _ = await with_extensions(opened)
    request = world.operations.plugins.request
    viewer = await world.user("vic", foo=Right.VIEW)
    assert await request(viewer, "mine", "GET", "report", {"deployment": "foo"}, b"") == {"for": "foo"}
    with pytest.raises(InvalidInput, match="Name the deployment"):
        await request(viewer, "mine", "GET", "report", {}, b"")
    with pytest.raises(Forbidden):
        await request(viewer, "mine", "GET", "page", {}, b"")
    assert await request(ADMIN, "mine", "GET", "page", {}, b"") == Answer(body="<p>", media="text/html")
    assert await request(ADMIN, "mine", "POST", "sent", {}, b"hello") == "hello"
    with pytest.raises(Unavailable, match="no JSON"):
        await request(ADMIN, "mine", "GET", "odd", {}, b"")
    with pytest.raises(NotFound):
        await request(ADMIN, "mine", "GET", "nothing", {}, b"")


async def test_each_call_is_traced_where_somebody_wants_it(
    opened: Made, caplog: pytest.LogCaptureFixture
) -> None:
    world = await opened(plugin("mine", setup=lambda: None))
    with caplog.at_level("INFO", logger="controller.plugins.manager"):
        await deploy(world, SERVICES)
        assert "plugin.call" not in caplog.text
        assert world.operations.plugins.trace(ADMIN, True)
        await deploy(world, {"web": {"image": "web:3", "require": "x"}, "two": {"image": "a"}})
    assert "plugin.call name=mine what=setup" in caplog.text


def test_a_name_that_no_plugin_has_is_told(tmp_path: Path) -> None:
    (tmp_path / "region.py").write_text("")
    found = {each.name: each for each in find_plugins(tmp_path, "region,zzz", taken=["require"])}
    assert (found["zzz"].standing, found["zzz"].why) == (Standing.FAILED, "there is no plugin of that name")
    assert Plugins(list(found.values())).problems() == [
        "The plugin zzz (the setting plugins) is not in use: there is no plugin of that name."
    ]
    assert [each.name for each in find_plugins(tmp_path, "*,-zzz") if each.standing is Standing.FAILED] == [
        "zzz"
    ]
    assert not [each for each in find_plugins(tmp_path, "*") if each.standing is Standing.FAILED]
