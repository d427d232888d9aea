"""Services that are told where others of their deployment are."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from controller.backends.base import BackendError, InstanceSpec
from controller.errors import InvalidInput
from controller.exposing import check_place, inner_ports
from controller.names import Address
from controller.operations.places import InnerPlaces
from controller.operations.servicefiles import Request
from controller.plugins.manager import Plugins
from controller.plugins.preparing import Preparing
from controller.reconcile.plan_runs import run_spec
from controller.servicefile.document import ServiceFile
from controller.types import Artifact, ArtifactKind, Definition, Deployment, Limits, RunKind
from router.base import RouterError
from router.types import Inner
from tests.factories import instance, run, version
from tests.unit.controller.world import ADMIN, World, make_world


class Router:
    """Has inner ports, at an address that may be gone for a while."""

    def __init__(self) -> None:
        self.problem = ""

    async def inner_address(self) -> str:
        if self.problem:
            raise RouterError(self.problem)
        return "10.201.0.1"

    async def admit(self, group: str, address: str) -> None: ...

    async def dismiss(self, address: str) -> None: ...


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    world = await make_world(tmp_path)
    for name in ("shop", "other"):
        await world.operations.deployments.create(ADMIN, name)
    yield world
    await world.operations.close()
    await world.state.close()


def places_of(
    world: World, *, ports: range = range(30000, 30003), router: Router | None = None
) -> InnerPlaces:
    return InnerPlaces(world.state, router or Router(), ports=ports)


async def test_a_port_is_given_once_and_kept(world: World) -> None:
    places = places_of(world)
    assert await places.places("shop", ["cache", "mail:smtp", "cache"]) == {
        "cache": "10.201.0.1:30000",
        "mail:smtp": "10.201.0.1:30001",
    }
    assert await places.places("other", ["cache"]) == {"cache": "10.201.0.1:30002"}
    revision = world.state.last_event
    assert await places.places("shop", ["cache"]) == {"cache": "10.201.0.1:30000"}
    assert world.state.last_event == revision
    told = [each.text for each in world.state.events() if each.kind == "service.reachable"]
    assert told[0] == "cache is reached by others of shop at port 30000 within the machine"


async def test_those_of_a_destroyed_deployment_are_given_again(world: World) -> None:
    places = places_of(world, ports=range(30000, 30001))
    await exposing(world, "other", {"CACHE": "cache"})
    await places.places("other", ["cache"])
    with pytest.raises(BackendError, match=r"no port is left.*inner_ports: 30000-30000"):
        await places.places("shop", ["cache"])
    await world.operations.deployments.destroy(ADMIN, "other")
    assert await places.places("shop", ["cache"]) == {"cache": "10.201.0.1:30000"}


async def test_what_nothing_is_told_of_any_more_is_given_again(world: World) -> None:
    places = places_of(world, ports=range(30000, 30002))
    await exposing(world, "other", {"A": "one", "B": "two"})
    await places.places("other", ["one", "two"])
    with pytest.raises(BackendError, match="no port is left"):
        await places.places("shop", ["cache"])
    await exposing(world, "other", {"A": "one"})
    assert await places.places("shop", ["cache"]) == {"cache": "10.201.0.1:30001"}
    assert await places.places("other", ["one"]) == {"one": "10.201.0.1:30000"}


async def exposing(world: World, deployment: str, exposed: dict[str, str]) -> None:
    file = ServiceFile(services={"web": {"image": "web", "expose": exposed}}, globals={})
    await world.operations.servicefiles.apply(ADMIN, Request(deployment=deployment, file=file))
    await world.live(Address(deployment, "web"))


async def test_a_deployment_has_no_more_than_its_share(world: World) -> None:
    places = places_of(world, ports=range(30000, 30256))
    with pytest.raises(BackendError, match="a deployment can have 64 places"):
        await places.places("shop", [f"s{number}" for number in range(65)])
    assert len(await places.places("other", [f"s{number}" for number in range(64)])) == 64


async def test_another_range_gives_other_ports(world: World) -> None:
    await places_of(world).places("shop", ["cache"])
    later = places_of(world, ports=range(31000, 31003))
    assert await later.places("shop", ["cache"]) == {"cache": "10.201.0.1:31000"}


@pytest.mark.parametrize("exposed", [{"PORT": "cache"}, {f"A{number}": "cache" for number in range(33)}])
async def test_what_a_service_can_not_be_told(world: World, exposed: dict[str, str]) -> None:
    with pytest.raises(InvalidInput, match="32 variables, and PORT is the service's own"):
        await exposing(world, "shop", exposed)


async def test_a_router_without_them_is_told_and_may_come_back(world: World) -> None:
    router = Router()
    router.problem = "HAProxy is gone"
    with pytest.raises(
        BackendError, match="where cache is reached can't be said now: HAProxy is gone"
    ) as caught:
        await places_of(world, router=router).places("shop", ["cache"])
    assert caught.value.retryable


@pytest.mark.parametrize("text", ["Cache", "other/cache", "", "cache:", "cache:Smtp", "a b"])
def test_what_is_no_place(text: str) -> None:
    with pytest.raises(InvalidInput, match=r"^expose: "):
        check_place(text)


def test_ports_with_a_name_are_those_of_the_version() -> None:
    deployment = Deployment(name="shop", inner_ports={"mail": 1, "mail:smtp": 2, "mail:pop": 3, "web": 4})
    image = version(1)
    definition = Definition(image="mail", extra={"ports": {"": 80, "smtp": 2525}})
    image = replace(
        image, definition=definition, artifact=Artifact(kind=ArtifactKind.IMAGE, reference="mail")
    )
    older = replace(image, number=2, definition=replace(definition, extra={"ports": {"smtp": 25}}))
    routed = [instance(number) for number in (1, 2, 3)]
    names = [each.id for each in routed]
    found = inner_ports(deployment, "mail", routed, {1: image, 2: older}.get)
    assert found == {
        Inner(1, "shop"),
        Inner(2, "shop", frozenset({(names[0], 2525), (names[1], 25)})),
        Inner(3, "shop", frozenset()),
    }
    assert inner_ports(deployment, "db", routed, {1: image}.get) == frozenset()
    assert inner_ports(None, "mail", routed, {1: image}.get) == frozenset()


async def deployed(world: World) -> None:
    file = ServiceFile(
        services={
            "cache": {"image": "redis", "ports": {"": 6379}},
            "web": {"image": "web", "expose": {"CACHE": "cache"}, "env": {"CACHE_PORT": "mine"}},
        },
        globals={},
    )
    await world.operations.servicefiles.apply(ADMIN, Request(deployment="shop", file=file))


def spec_of(world: World, service: str = "web", *, number: int = 1) -> InstanceSpec:
    made = world.state.version("shop", service, 1)
    kept = world.state.service("shop", service)
    assert made is not None
    assert kept is not None
    spec = run_spec(kept, made, replace(run(1, RunKind.RUN), deployment="shop", service=service), Limits())
    return replace(spec, version=number)


async def test_what_starts_is_told_where_it_finds_the_other(world: World) -> None:
    await deployed(world)
    preparing = Preparing(Plugins([]), world.state, places_of(world))
    for once in (True, False):
        env = (await preparing.prepared(replace(spec_of(world), once=once))).env
        assert {name: value for name, value in env.items() if name.startswith("CACHE")} == {
            "CACHE": "10.201.0.1:30000",
            "CACHE_HOST": "10.201.0.1",
            "CACHE_PORT": "30000",
        }
    spec = spec_of(world, "cache")
    assert await preparing.prepared(spec) is spec


async def test_one_that_can_not_be_told_does_not_start(world: World) -> None:
    await deployed(world)
    router = Router()
    router.problem = "away"
    with pytest.raises(BackendError, match="away"):
        await Preparing(Plugins([]), world.state, places_of(world, router=router)).prepared(spec_of(world))
