"""Being attached: what is written down, and everything that may end it."""

import asyncio
from contextlib import aclosing
from dataclasses import replace
from typing import Any

import pytest

from controller.backends.base import InstanceSpec, Terminal
from controller.backends.echo import Echo
from controller.backends.memory import Behaviour, MemoryBackend
from controller.errors import NotFound, Refused, Unavailable
from controller.operations import attaching
from controller.operations.attaching import SHELL
from controller.operations.runs import Order
from controller.state import put
from controller.types import Right, RunKind, RunStatus
from tests.factories import NOW, instance, run
from tests.unit.controller.world import ADMIN, FOO, World

CAT = Order(command=["cat"], env={"SECRET": "hush"})


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attaching, "CHECK", 0.01)


@pytest.fixture
async def here(world: World) -> World:
    await world.app()
    await world.push()
    world.runtime.backend = MemoryBackend()
    return world


def last(world: World) -> Any:
    return world.state.runs("foo", "app")[0]


async def test_it_is_listed_while_it_lives_and_its_end_is_noted(here: World) -> None:
    async with here.operations.attaching.run(ADMIN, FOO, CAT, None) as attachment:
        shown = here.operations.runs.get(ADMIN, FOO, "run.1")
        assert (shown.status, shown.attached, shown.env) == (RunStatus.RUNNING, True, {"SECRET": "(hidden)"})
        await attachment.process.write(b"x")
        async with aclosing(attachment.process.output()) as output:
            assert await anext(output) == (1, b"x")
        await attachment.process.close_input()
        assert await attachment.outcome() == (0, "exited with status 0")
    assert (last(here).status, last(here).exit_code, last(here).env) == (
        RunStatus.SUCCEEDED,
        0,
        {"SECRET": ""},
    )
    assert "hush" not in repr(here.state.events("foo"))
    assert [each.kind for each in here.state.events("foo")][-2:] == ["run.started", "run.ended"]


async def test_who_leaves_ends_it(here: World) -> None:
    async with here.operations.attaching.run(ADMIN, FOO, CAT, None) as attachment:
        process = attachment.process
    assert last(here).status is RunStatus.STOPPED
    assert (await process.wait())[0] == 137


async def test_a_connection_that_breaks_leaves_no_record_open(here: World) -> None:
    async def broken() -> None:
        async with here.operations.attaching.run(ADMIN, FOO, CAT, None):
            await asyncio.Event().wait()

    task = asyncio.create_task(broken())
    while not here.state.runs():
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert last(here).status.over


async def test_time_to_live_ends_it(here: World) -> None:
    order = replace(CAT, ttl=0.05)
    async with here.operations.attaching.run(ADMIN, FOO, order, None) as attachment:
        assert (await attachment.outcome())[1] == "it did not end within 0.05 s"
    assert last(here).status is RunStatus.TIMED_OUT


async def test_wish_of_somebody_else_ends_it(here: World) -> None:
    async with here.operations.attaching.run(ADMIN, FOO, CAT, None) as attachment:
        await here.operations.runs.stop(ADMIN, FOO, "run.1")
        assert (await attachment.outcome())[1] == "ann asked for its end"
    assert last(here).status is RunStatus.STOPPED


async def test_taken_rights_end_it(here: World) -> None:
    who = await here.user("olaf", foo=Right.OPERATE)
    async with here.operations.attaching.run(who, FOO, CAT, None) as attachment:
        await here.state.commit(put(replace(who.user, rights={})))
        assert "may no longer" in (await attachment.outcome())[1]
    assert last(here).status is RunStatus.STOPPED


async def test_what_can_not_be_started_has_failed(here: World) -> None:
    here.runtime.backend = MemoryBackend(behaviour=lambda _: Behaviour(refused="no space"))
    with pytest.raises(Unavailable, match=r"run\.1 could not be started: no space"):
        async with here.operations.attaching.run(ADMIN, FOO, CAT, None):
            pass
    assert (last(here).status, last(here).detail) == (RunStatus.FAILED, "it could not be started: no space")


async def test_server_that_was_killed_has_lost_it(here: World) -> None:
    await here.state.commit(
        put(run(1, attached=True, status=RunStatus.RUNNING, started_at=NOW)),
        put(run(2, status=RunStatus.RUNNING, started_at=NOW)),
    )
    await here.operations.attaching.sweep()
    assert here.state.run("foo-app-1-run-1").status is RunStatus.LOST  # type: ignore[union-attr]
    assert here.state.run("foo-app-1-run-2").status is RunStatus.RUNNING  # type: ignore[union-attr]


class Doors(MemoryBackend):
    entered: tuple[str, str] = ("", "")

    async def enter(self, instance: str, command: str, *, env: Any, terminal: Terminal | None) -> Echo:
        self.entered = (instance, command)
        return Echo(0, terminal)

    async def run(self, spec: InstanceSpec, *, terminal: Terminal | None) -> Echo:
        raise AssertionError("it is to be entered")


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (None, "foo-app-1-web-1"),
        ("web.2", "foo-app-1-web-2"),
        ("worker", "foo-app-1-worker-1"),
        ("foo-app-1-worker-1", "foo-app-1-worker-1"),
    ],
)
async def test_process_to_enter_is_found_by_any_of_its_names(
    here: World, wanted: str | None, found: str
) -> None:
    here.runtime.backend = Doors()
    here.runtime.running = [
        instance(1, 1, "worker", port=None),
        instance(1, 2),
        instance(1, 1),
    ]
    async with here.operations.attaching.enter(ADMIN, FOO, wanted, Order(command=[]), None) as attachment:
        assert here.runtime.backend.entered == (found, SHELL)
        assert (attachment.run.kind, attachment.run.process) == (RunKind.ENTER, "enter.1")


async def test_process_that_does_not_run_can_not_be_entered(here: World) -> None:
    with pytest.raises(Refused, match="Nothing of foo runs"):
        async with here.operations.attaching.enter(ADMIN, FOO, None, CAT, None):
            pass
    here.runtime.running = [instance(1, 1)]
    with pytest.raises(NotFound, match=r"what runs: web\.1"):
        async with here.operations.attaching.enter(ADMIN, FOO, "web.9", CAT, None):
            pass


async def test_backend_that_can_attach_nobody_is_told(here: World) -> None:
    here.runtime.backend = object()
    with pytest.raises(Refused, match="run:detached"):
        async with here.operations.attaching.run(ADMIN, FOO, CAT, None):
            pass
