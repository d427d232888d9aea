"""Resources of a service file: made and attached by the server, and never taken away by a file."""

from collections.abc import Mapping
from typing import Any

import pytest

from controller.errors import Conflict, InvalidInput, Refused
from controller.names import Address
from controller.operations.provision import Provision
from controller.operations.resources import ResourceOperations
from controller.operations.servicefiles import Request
from controller.servicefile.document import ServiceFile
from controller.types import ResourceStatus
from controller.views import FileOutcome
from tests.unit.controller.world import ADMIN, World

WEB, DB = Address("foo", "web"), Address("foo", "db")
SERVICES: Mapping[str, Any] = {"web": {"image": "web", "require": "db"}, "cron": {"image": "cron"}}
SHARED: Mapping[str, Any] = {"Resources": {"db": "postgres"}}


@pytest.fixture
async def foo(world: World) -> World:
    await world.operations.deployments.create(ADMIN, "foo")
    return world


def request(
    services: Mapping[str, Any] = SERVICES, shared: Mapping[str, Any] = SHARED, *, prune: bool = False
) -> Request:
    file = ServiceFile(services=dict(services), globals=dict(shared))
    return Request(deployment="foo", file=file, prune=prune)


async def deploy(world: World, *words: Any, **options: Any) -> FileOutcome:
    outcome = await world.operations.servicefiles.apply(ADMIN, request(*words, **options))
    await look(world)
    return outcome


async def look(world: World) -> set[str]:
    """Until nothing is left to be done, as the server looks again at what it has changed."""
    for _ in range(3):
        failed = await world.operations.provision.examine({"foo"})
        assert await world.operations.releaser.examine({"foo"}) == set()
    return failed


def held(world: World, address: Address) -> str | None:
    return world.operations.services.get(ADMIN, address).held


async def test_it_is_made_and_attached_before_the_first_version_of_who_requires_it(foo: World) -> None:
    outcome = await deploy(foo)
    assert ([f"{each.sign}{each.name}" for each in outcome.globals], outcome.notes) == (["+Resources.db"], ())
    assert {each.service: each.held for each in outcome.changes} == {"web": "waits for db", "cron": None}
    resource = foo.operations.resources.get(ADMIN, "foo", "db")
    assert (resource.status, resource.created_by) == (ResourceStatus.PENDING, ADMIN.name)
    assert held(foo, WEB) == "waits for db"
    await foo.live(DB)
    await look(foo)
    resource = foo.operations.resources.get(ADMIN, "foo", "db")
    assert (resource.status, resource.attached) == (ResourceStatus.READY, {"web": ""})
    version = foo.state.version("foo", "web", 1)
    assert version and version.definition.env == {"DATABASE_URL": resource.values["URL"]}
    assert foo.state.version("foo", "web", 2) is None
    assert (foo.state.service("foo", "cron") or pytest.fail()).definition.env == {}


async def test_the_same_file_again_is_no_change(foo: World) -> None:
    await deploy(foo)
    await foo.live(DB)
    await look(foo)
    outcome = await deploy(foo)
    assert (outcome.changes, outcome.globals, outcome.notes) == ((), (), ())
    changed = {**SERVICES, "cron": {"image": "cron", "env": {"A": "1"}}}
    outcome = await deploy(foo, changed)
    assert [each.service for each in outcome.changes] == ["cron"]


async def test_what_the_file_attaches_is_detached_by_the_file(foo: World) -> None:
    await deploy(foo)
    await foo.live(DB)
    await look(foo)
    with pytest.raises(Refused, match=r"The service file attaches db to web.*deploy the file"):
        await foo.operations.resources.detach(ADMIN, WEB, "db")
    await deploy(foo, {name: {"image": name} for name in SERVICES})
    await foo.operations.resources.detach(ADMIN, WEB, "db")


async def test_no_file_takes_it_away(foo: World) -> None:
    await deploy(foo)
    await foo.live(DB)
    await look(foo)
    with pytest.raises(Conflict, match="in the section Resources of the service file"):
        await foo.operations.resources.destroy(ADMIN, "foo", "db")
    outcome = await deploy(foo, {"cron": {"image": "cron"}}, {}, prune=True)
    assert outcome.notes == (
        "db is no more in the file. It stays, with its data: resources:destroy takes it away.",
    )
    assert [each.service for each in outcome.changes] == ["web"]
    await foo.operations.removal.idle()
    assert foo.state.service("foo", "web") is None
    assert foo.state.service("foo", "db") is not None
    assert foo.operations.resources.get(ADMIN, "foo", "db").status is ResourceStatus.READY
    await foo.operations.resources.destroy(ADMIN, "foo", "db")


async def test_what_can_not_be_made_is_said_and_tried_again(
    foo: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise Refused("There is no postgres here: install it.")

    with monkeypatch.context() as patched:
        patched.setattr(ResourceOperations, "_check_free", fails)
        await deploy(foo)
        assert await look(foo) == {"foo"}
        assert held(foo, WEB) == "waits for db (which failed: There is no postgres here: install it.)"
        events = [each.text for each in foo.state.events("foo") if each.kind == "resource.failed"]
        assert events == ["db failed: There is no postgres here: install it."], "once"
    assert await look(foo) == set()
    assert held(foo, WEB) == "waits for db"
    await foo.live(DB)
    await look(foo)
    assert held(foo, WEB) is None


async def test_one_that_was_never_made_can_be_given_up(foo: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise Refused("no")

    with monkeypatch.context() as patched:
        patched.setattr(ResourceOperations, "_check_free", fails)
        await deploy(foo)
    await foo.operations.servicefiles.apply(ADMIN, request({"web": {"image": "web"}}, {}))
    await foo.operations.services.define(ADMIN, DB, {"image": "mine"})
    await look(foo)
    await foo.operations.resources.destroy(ADMIN, "foo", "db")
    assert foo.state.service("foo", "db") is not None, "it was never the server of it"
    assert foo.operations.resources.list(ADMIN, "foo") == []


async def test_variables_that_are_there_already_keep_it_from_being_attached(foo: World) -> None:
    services = {"web": {"image": "web", "require": "db", "env": {"DATABASE_URL": "mine"}}}
    await deploy(foo, services)
    await foo.live(DB)
    assert await look(foo) == {"foo"}
    said = held(foo, WEB)
    assert said is not None and "can't be attached: foo/web has DATABASE_URL already" in said
    await deploy(foo, SERVICES)
    assert held(foo, WEB) is None
    assert foo.operations.resources.get(ADMIN, "foo", "db").attached == {"web": ""}


async def test_a_service_that_runs_gets_it_by_a_new_version(foo: World) -> None:
    await deploy(foo, {"web": {"image": "web"}}, {})
    await foo.live(WEB)
    section = {"Resources": {"db": {"kind": "postgres", "attach": {"web": "MAIN"}}}}
    await deploy(foo, {"web": {"image": "web"}}, section)
    await foo.live(DB)
    await look(foo)
    version = foo.state.version("foo", "web", 2)
    assert version and version.definition.env.keys() >= {"MAIN_URL", "MAIN_HOST"}


@pytest.mark.parametrize(
    ("services", "shared", "told"),
    [
        (SERVICES, {"Resources": {"db": "mysql"}}, r"no kind of resource 'mysql'\. Known are: postgres"),
        ({"db": {"image": "x"}}, SHARED, "db is a resource of foo: give the service another name"),
        (SERVICES, {"Resources": {"db": ""}}, "kind is missing"),
    ],
)
async def test_what_can_not_be_deployed(
    foo: World, services: Mapping[str, Any], shared: Mapping[str, Any], told: str
) -> None:
    with pytest.raises(InvalidInput, match=told):
        await foo.operations.servicefiles.apply(ADMIN, request(services, shared))
    assert list(foo.state.services("foo")) == []


async def test_names_that_are_taken(foo: World) -> None:
    await deploy(foo, {"web": {"image": "web"}}, {})
    with pytest.raises(InvalidInput, match="web is a service already"):
        await foo.operations.servicefiles.apply(ADMIN, request({}, {"Resources": {"web": "postgres"}}))
    await deploy(foo)
    with pytest.raises(InvalidInput, match="db is a resource of foo"):
        await foo.operations.servicefiles.apply(ADMIN, request({"db": {"image": "x"}}, {}))
    await foo.operations.resources.create(ADMIN, "foo", "postgres", "other", url="postgres://h/x")
    foo.operations.resources._drivers = {**foo.operations.resources._drivers, "redis": None}  # type: ignore[dict-item]
    with pytest.raises(InvalidInput, match="db is there already, and is of the kind postgres"):
        await foo.operations.servicefiles.apply(ADMIN, request({}, {"Resources": {"db": "redis"}}))


async def test_one_that_is_kept_elsewhere_is_taken_as_it_is(foo: World) -> None:
    await foo.operations.resources.create(ADMIN, "foo", "postgres", "db", url="postgres://h/x")
    outcome = await deploy(foo)
    assert outcome.notes == ()
    assert held(foo, WEB) is None
    version = foo.state.version("foo", "web", 1)
    assert version and version.definition.env == {"DATABASE_URL": "postgres://h/x"}


async def test_what_goes_wrong_in_one_deployment_stops_no_other(
    foo: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await foo.operations.deployments.create(ADMIN, "good")
    for name in ("foo", "good"):
        file = ServiceFile(services=dict(SERVICES), globals=dict(SHARED))
        await foo.operations.servicefiles.apply(ADMIN, Request(deployment=name, file=file))
    made = Provision._make

    async def one(self: Provision, deployment: Any, name: str, wanted: Any) -> bool:
        if deployment.name == "foo":
            raise RuntimeError("broken")
        return await made(self, deployment, name, wanted)

    monkeypatch.setattr(Provision, "_make", one)
    assert await foo.operations.provision.examine({"foo", "good"}) == {"foo"}
    assert foo.operations.resources.get(ADMIN, "good", "db").status is ResourceStatus.PENDING
