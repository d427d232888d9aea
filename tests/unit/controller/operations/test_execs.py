"""`Exec`: commands that run once, what waits for them, and what becomes of those that fail."""

from collections.abc import Mapping
from typing import Any

import pytest

from controller.environment import environment
from controller.errors import Conflict, InvalidInput, NotFound
from controller.names import Address
from controller.operations.execs import provisional_version
from controller.operations.servicefiles import Request
from controller.provided import effective
from controller.run_record import ended
from controller.servicefile.document import ServiceFile
from controller.types import ResourceStatus, Run, RunKind, RunStatus
from controller.views import ExecInfo, FileOutcome
from tests.factories import NOW, slug
from tests.unit.controller.world import ADMIN, World

WEB, DB = Address("foo", "web"), Address("foo", "db")
SERVICES: dict[str, Any] = {
    "db": {"image": "postgres"},
    "web": {"image": "web", "require": "Init", "env": {"KEY": "{Key}"}},
}
SHARED: dict[str, Any] = {
    "Exec": {"Init": {"service": "web", "cmd": "init {Key}", "require": "db"}},
    "Generate": {"Key": 4},
}


@pytest.fixture
async def foo(world: World) -> World:
    await world.operations.deployments.create(ADMIN, "foo")
    return world


async def deploy(
    world: World, services: Mapping[str, Any] = SERVICES, shared: Mapping[str, Any] = SHARED
) -> FileOutcome:
    file = ServiceFile(services=dict(services), globals=dict(shared))
    outcome = await world.operations.servicefiles.apply(ADMIN, Request(deployment="foo", file=file))
    await look(world)
    return outcome


async def look(world: World) -> None:
    """Until nothing is left to be done, as the server looks again at what it has changed."""
    for _ in range(4):
        assert await world.operations.releaser.examine({"foo"}) == set()


async def live(world: World, *addresses: Address) -> None:
    for each in addresses:
        await world.live(each)
    await look(world)


async def end(world: World, status: RunStatus, detail: str = "", run: str = "foo-web-0-exec-1") -> None:
    await world.state.transact(lambda: ended(world.state, run, status, detail, now=NOW))
    await look(world)


def info(world: World, name: str = "Init") -> ExecInfo:
    return next(each for each in world.operations.execs.list(ADMIN, "foo") if each.name == name)


def runs(world: World) -> list[Run]:
    return [each for each in world.state.runs("foo", "web") if each.kind is RunKind.EXEC]


def held(world: World, address: Address = WEB) -> str | None:
    return world.operations.services.get(ADMIN, address).held


async def test_it_runs_once_what_it_requires_is_there_and_releases_who_waits_for_it(foo: World) -> None:
    await deploy(foo)
    assert held(foo) == "waits for Init (its command has not run yet)"
    assert (info(foo).waits, runs(foo)) == ("waits for db", [])
    await live(foo, DB)
    (run,) = runs(foo)
    assert (run.id, run.version, run.resource, run.command) == ("foo-web-0-exec-1", 0, "Init", "init {Key}")
    assert (info(foo).status, info(foo).waits, info(foo).run) == ("pending", None, "exec.1")
    assert held(foo) == "waits for Init"
    await end(foo, RunStatus.SUCCEEDED)
    assert (info(foo).status, held(foo)) == ("ready", None)
    assert foo.state.version("foo", "web", 1) is not None
    await deploy(foo)
    assert len(runs(foo)) == 1, "only once"


async def test_two_of_one_service_may_begin_at_once(foo: World) -> None:
    exec_ = {"A": {"service": "web", "cmd": "a"}, "B": {"service": "web", "cmd": "b"}}
    await deploy(foo, {"web": {"image": "web", "require": "A"}}, {"Exec": exec_})
    assert {(each.resource, each.number, each.command) for each in runs(foo)} == {
        ("A", 1, "a"),
        ("B", 2, "b"),
    }


async def test_it_runs_in_what_a_held_service_would_have(foo: World) -> None:
    await deploy(foo)
    service = foo.state.service("foo", "web")
    assert service
    version = provisional_version(foo.state, service)
    assert version and version.artifact and version.artifact.reference == "web"
    key = foo.operations.shared.generated(ADMIN, "foo")["Key"]
    assert environment(effective(version))["KEY"] == key
    assert foo.state.versions("foo", "web") == []


async def test_it_waits_for_the_code_of_its_service(foo: World) -> None:
    await deploy(
        foo, {"web": {"git": ".", "require": "Init"}}, {"Exec": {"Init": {"service": "web", "cmd": "a"}}}
    )
    assert info(foo).waits == "waits for the code of web (no code yet: git push deploy master)"
    change = await foo.operations.versions.release(ADMIN, WEB, slug(), reason="push")
    assert change.held == "waits for Init (its command has not run yet)"
    await look(foo)
    assert [each.version for each in runs(foo)] == [0]


async def test_with_a_version_it_runs_in_that_one(foo: World) -> None:
    services = {"web": {"image": "web"}}
    await deploy(foo, services, {})
    await live(foo, WEB)
    await deploy(foo, services, {"Exec": {"Init": {"service": "web", "cmd": "a"}}})
    assert [(each.id, each.version) for each in runs(foo)] == [("foo-web-1-exec-1", 1)]


@pytest.mark.parametrize(
    ("status", "detail", "why"),
    [
        (RunStatus.FAILED, "exited with status 3", "exec.1 of foo/web: exited with status 3"),
        (RunStatus.STOPPED, "ann asked for its end", "exec.1 of foo/web: ann asked for its end"),
        (RunStatus.LOST, "", "exec.1 of foo/web: it lost"),
    ],
)
async def test_what_fails_is_told_and_run_again_when_somebody_asks(
    foo: World, status: RunStatus, detail: str, why: str
) -> None:
    await deploy(foo)
    with pytest.raises(Conflict, match="has not ended yet"):
        await foo.operations.execs.retry(ADMIN, "foo", "Init")
    await live(foo, DB)
    await end(foo, status, detail)
    assert info(foo).failure == f"{why} (run:logs -a foo/web exec.1)"
    assert held(foo) == f"waits for Init (which failed: {why} (run:logs -a foo/web exec.1))"
    await deploy(foo)
    assert len(runs(foo)) == 1, "not by itself"
    again = await foo.operations.execs.retry(ADMIN, "foo", "Init")
    assert (again.status, again.failure) == ("pending", "")
    await look(foo)
    assert len(runs(foo)) == 2
    await end(foo, RunStatus.SUCCEEDED, run="foo-web-0-exec-2")
    assert held(foo) is None
    with pytest.raises(Conflict, match="ended well, and runs only once"):
        await foo.operations.execs.retry(ADMIN, "foo", "Init")
    kinds = [each.kind for each in foo.state.events("foo") if each.kind.startswith("resource.")]
    assert kinds == ["resource.failed", "resource.pending", "resource.ready"]


async def test_another_command_in_place_of_one_that_failed_is_run(foo: World) -> None:
    await deploy(foo)
    await live(foo, DB)
    await end(foo, RunStatus.FAILED, "exited with status 3")
    await deploy(
        foo, SERVICES, {**SHARED, "Exec": {"Init": {"service": "web", "cmd": "better", "require": "db"}}}
    )
    assert [each.command for each in runs(foo)] == ["better", "init {Key}"]


async def test_another_command_in_place_of_one_that_ended_well_is_not_run(foo: World) -> None:
    await deploy(foo)
    await live(foo, DB)
    await end(foo, RunStatus.SUCCEEDED)
    await deploy(foo, SERVICES, {**SHARED, "Exec": {"Init": {"service": "web", "cmd": "better"}}})
    assert len(runs(foo)) == 1


async def test_one_that_is_wanted_no_more(foo: World) -> None:
    await deploy(foo)
    await live(foo, DB)
    await end(foo, RunStatus.FAILED, "exited with status 3")
    await deploy(foo, {"db": SERVICES["db"], "web": {"image": "web"}}, {"Exec": None, "Generate": {"Key": 4}})
    assert foo.operations.execs.list(ADMIN, "foo") == []
    with pytest.raises(NotFound):
        await foo.operations.execs.retry(ADMIN, "foo", "Init")


async def test_what_ended_well_is_remembered_when_its_command_is_taken_out(foo: World) -> None:
    await deploy(foo)
    await live(foo, DB)
    await end(foo, RunStatus.SUCCEEDED)
    await deploy(foo, SERVICES, {"Generate": {"Key": 4}})
    assert (info(foo).status, info(foo).command) == (ResourceStatus.READY, "init {Key}")
    await deploy(foo)
    assert len(runs(foo)) == 1, "a database is not set up a second time"


async def test_one_that_was_destroyed_leaves_nothing(foo: World) -> None:
    await deploy(foo)
    await live(foo, DB)
    await foo.operations.deployments.destroy(ADMIN, "foo")
    assert foo.state.resources() == []


@pytest.mark.parametrize(
    ("exec_", "why"),
    [
        ({"db": {"service": "web", "cmd": "a"}}, "db is a service or a resource already"),
        ({"Init": {"service": "nobody", "cmd": "a"}}, "Init: nobody is no service of the file"),
        ({"Init": {"service": "web", "cmd": "a", "require": "web"}}, "web requires Init requires web"),
        ({"Init": {"service": "web", "cmd": "a", "require": "Init"}}, "Init requires Init"),
        (["Init"], "Exec must map names to commands"),
        ({"Init": "a"}, "Init must be a mapping"),
    ],
)
async def test_what_could_never_be_is_refused(foo: World, exec_: Any, why: str) -> None:
    with pytest.raises(InvalidInput, match=why):
        await deploy(foo, SERVICES, {**SHARED, "Exec": exec_})
    assert foo.state.services("foo") == []


async def test_services_are_shown_in_the_order_that_commands_give(foo: World) -> None:
    outcome = await deploy(foo, {"web": SERVICES["web"], "db": SERVICES["db"]})
    assert [each.service for each in outcome.changes] == ["db", "web"]
