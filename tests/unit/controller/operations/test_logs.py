"""The logs of a service: its journal and builds among what its instances print."""

import asyncio
import os
import time
from pathlib import Path

import pytest

from controller.backends.base import BackendError, Observation
from controller.backends.keeper.output import stamp
from controller.errors import NotFound
from controller.names import Address
from controller.operations.operations import Operations
from controller.state import EventDraft
from controller.types import Instance, LogSource, Right
from tests.factories import instance
from tests.unit.controller.world import ADMIN, FOO, World


async def logged(operations: Operations, address: Address = FOO, **asked: object) -> list[tuple[str, str]]:
    lines = operations.logs.read(ADMIN, address, **asked)  # type: ignore[arg-type]
    return [(f"{each.source}[{each.process}]", each.text) async for each in lines]


async def test_journal_of_the_service_is_part_of_its_logs(world: World) -> None:
    await world.app()
    await world.push()
    await world.live()
    await world.state.commit(
        events=[
            EventDraft(
                kind="instance.crashed",
                deployment="foo",
                service="app",
                text="foo-app-1-web-2 exited with status 1",
                data={"instance": "foo-app-1-web-2"},
            )
        ]
    )
    found = await logged(world.operations, sources=[LogSource.SYSTEM])
    assert ("system[deploy]", "v1 serves") in found
    assert found[-1] == ("system[web.2]", "foo-app-1-web-2 exited with status 1")
    assert await logged(world.operations, instance="foo-app-1-web-2") == found[-1:]
    assert await logged(world.operations, process="web") == found[-1:]
    assert await logged(world.operations, lines=1) == found[-1:]
    assert await logged(world.operations, text="SERVES") == [("system[deploy]", "v1 serves")]


async def test_journal_of_an_older_app_of_the_same_name_is_not_part_of_them(world: World) -> None:
    await world.app()
    await world.push()
    await world.live()
    await world.operations.deployments.destroy(ADMIN, "foo")
    await world.operations.removal.idle()
    await world.app()
    assert not [text for _, text in await logged(world.operations) if "serves" in text]


async def test_followed_journal_goes_on_where_the_past_ended(world: World) -> None:
    await world.app()
    await world.push()
    robin = await world.user("robin", foo=Right.VIEW)
    lines = world.operations.logs.read(robin, FOO, sources=[LogSource.SYSTEM], lines=1, follow=True)
    async with asyncio.timeout(5):
        await anext(lines)
        await world.live()
        assert (await anext(lines)).text == "v1 serves"


async def test_requests_of_an_older_app_of_the_same_name_are_not_shown(world: World) -> None:
    await world.app()
    service = world.state.service("foo", "app")
    assert service
    assert service.created_at
    path = world.settings.folders.logs / "foo" / "app" / "router.log"
    path.parent.mkdir(parents=True)
    begin = service.created_at.timestamp()
    path.write_bytes(stamp(begin - 1) + b" router - its own\n" + stamp(begin + 1) + b" router - ours\n")
    assert await logged(world.operations, sources=[LogSource.ROUTER]) == [("router[web]", "ours")]
    assert await logged(world.operations, sources=[LogSource.ROUTER], since="2d") == [("router[web]", "ours")]


# Builds


async def test_lines_of_builds_are_merged_by_their_times(world: World) -> None:
    await world.app()
    build = await world.operations.builds.open(ADMIN, FOO, commit=None)
    await world.operations.builds.append_log(ADMIN, build.id, ["-----> one", "two\nlines"])
    found = await logged(world.operations, sources=[LogSource.BUILD])
    assert found == [(f"build[{build.id}]", text) for text in ("-----> one", "two", "lines")]
    assert await logged(world.operations, instance=build.id, text="one") == found[:1]
    assert await world.operations.builds.log(ADMIN, build.id) == "-----> one\ntwo\nlines\n"


async def test_log_of_a_build_that_an_older_release_kept_is_read(world: World) -> None:
    await world.app()
    build = await world.operations.builds.open(ADMIN, FOO, commit=None)
    folder = world.settings.folders.builds
    folder.mkdir(exist_ok=True)
    (folder / f"{build.id}.log").write_text("-----> one\ntwo\n")
    lines = world.operations.logs.read(ADMIN, FOO, sources=[LogSource.BUILD])
    assert [(each.text, each.time) async for each in lines] == [
        ("-----> one", build.started_at),
        ("two", build.started_at),
    ]
    assert await world.operations.builds.log(ADMIN, build.id) == "-----> one\ntwo\n"


async def test_build_of_another_service_can_not_be_asked_for(world: World) -> None:
    await world.app()
    await world.app("bar")
    build = await world.operations.builds.open(ADMIN, Address("bar"), commit=None)
    with pytest.raises(NotFound, match="never had an instance"):
        world.operations.logs.read(ADMIN, FOO, instance=build.id)


# How much is kept


class Seeing:
    """A backend that sees these instances."""

    def __init__(self, *running: Instance, unreachable: bool = False, fault: bool = False) -> None:
        self.observation = Observation(
            instances=running, unreachable=frozenset({"h"}) if unreachable else frozenset()
        )
        self.fault = fault

    async def observe(self) -> Observation:
        if self.fault:
            raise BackendError("gone")
        return self.observation


def printed(world: World, name: str, *, age: float = 1000) -> Path:
    path = world.settings.folders.logs / "foo" / "app" / f"{name}.log"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.truncate(world.settings.log_limit)
    os.utime(path, (time.time() - age,) * 2)
    return path


async def test_oldest_logs_of_a_service_go_once_there_are_too_many(world: World) -> None:
    await world.app()
    runs, ended = printed(world, "foo-app-2-web-1"), printed(world, "foo-app-1-web-1")
    world.runtime.backend = Seeing(instance(2))
    await world.operations.tidy()
    assert (runs.exists(), ended.exists()) == (True, False)


@pytest.mark.parametrize("trouble", ["unreachable", "fault"])
async def test_nothing_goes_while_it_is_not_known_what_runs(world: World, trouble: str) -> None:
    await world.app()
    paths = [printed(world, f"foo-app-{number}-web-1") for number in (1, 2)]
    world.runtime.backend = Seeing(**{trouble: True})
    await world.operations.tidy()
    assert all(each.exists() for each in paths)


async def test_logs_of_a_service_that_is_being_removed_are_left_to_its_removal(world: World) -> None:
    path = printed(world, "foo-app-1-web-1")
    world.runtime.backend = Seeing()
    await world.operations.tidy()
    assert path.exists()
