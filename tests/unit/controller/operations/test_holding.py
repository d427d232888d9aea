"""`require`: services that wait for others before their first version."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from controller.errors import InvalidInput
from controller.names import Address
from controller.operations.servicefiles import Request
from controller.servicefile.document import ServiceFile
from controller.store.base import StoreUnavailable
from controller.types import BuildStatus
from controller.views import FileOutcome
from tests.factories import slug
from tests.unit.controller.world import ADMIN, World

CHAIN: dict[str, Any] = {
    "web": {"image": "web", "require": ["api", "cache"]},
    "api": {"image": "api", "require": "db"},
    "cache": {"image": "cache"},
    "db": {"image": "db"},
}
WEB, API, CACHE, DB = (Address("foo", each) for each in ("web", "api", "cache", "db"))


@pytest.fixture
async def foo(world: World) -> AsyncIterator[World]:
    await world.operations.deployments.create(ADMIN, "foo")
    yield world


async def deploy(world: World, services: dict[str, Any], **options: Any) -> FileOutcome:
    request = Request(deployment="foo", file=ServiceFile(services=services), **options)
    return await world.operations.servicefiles.apply(ADMIN, request)


async def live(world: World, *addresses: Address) -> None:
    for each in addresses:
        await world.live(each)
    await world.operations.releaser.examine({"foo"})


def held(world: World, address: Address) -> str | None:
    return world.operations.services.get(ADMIN, address).held


def kinds(world: World, service: str) -> list[str]:
    return [each.kind for each in world.state.events("foo", service)]


async def test_a_chain_is_released_link_by_link(foo: World) -> None:
    outcome = await deploy(foo, CHAIN)
    assert {each.service: each.held for each in outcome.changes} == {
        "db": None,
        "cache": None,
        "api": "waits for db",
        "web": "waits for api, cache",
    }
    assert [each.service for each in outcome.changes if each.makes_version] == ["cache", "db"]
    await live(foo, CACHE)
    assert held(foo, WEB) == "waits for api"
    await live(foo, DB)
    assert (held(foo, API), held(foo, WEB)) == (None, "waits for api")
    await live(foo, API)
    assert held(foo, WEB) is None
    version = foo.state.version("foo", "web", 1)
    assert version and version.actor == "ann"
    assert kinds(foo, "web") == [
        "service.created",
        "service.held",
        "service.defined",
        "service.held",
        "service.released",
        "version.created",
    ]


async def test_the_same_file_again_is_no_change_while_services_are_held(foo: World) -> None:
    await deploy(foo, CHAIN)
    assert (await deploy(foo, CHAIN)).changes == ()


async def test_what_a_killed_server_left_held_is_looked_at_by_the_next(foo: World) -> None:
    await deploy(foo, CHAIN)
    await foo.live(DB)  # nobody looked
    assert held(foo, API) == "waits for db"
    assert await foo.operations.releaser.examine({each.name for each in foo.state.deployments()}) == set()
    assert held(foo, API) is None


async def test_a_store_that_does_not_answer_is_asked_again(
    foo: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await deploy(foo, CHAIN)
    await foo.live(DB)

    async def fails(_: object) -> None:
        raise StoreUnavailable("the store is away")

    with monkeypatch.context() as patch:
        patch.setattr(foo.state, "transact", fails)
        assert await foo.operations.releaser.examine({"foo"}) == {"foo"}
    assert held(foo, API) == "waits for db"
    assert await foo.operations.releaser.examine({"foo"}) == set()
    assert held(foo, API) is None


async def test_later_deploys_wait_for_nothing(foo: World) -> None:
    await deploy(foo, {"web": {"image": "web", "require": "db"}, "db": {"image": "db"}})
    await live(foo, DB)
    await live(foo, WEB)
    await foo.operations.services.destroy(ADMIN, DB)
    outcome = await deploy(foo, {"web": {"image": "web:2", "require": "db"}})
    assert [(each.service, each.version, each.held) for each in outcome.changes] == [("web", 2, None)]


async def test_a_first_version_that_fails_is_not_held_again(foo: World) -> None:
    await deploy(foo, {"web": {"image": "web", "require": "db"}, "db": {"image": "db"}})
    await live(foo, DB)
    await foo.failed(WEB)
    outcome = await deploy(foo, {"web": {"image": "web:2", "require": ["db", "more"]}})
    assert [(each.version, each.held) for each in outcome.changes] == [(2, None)]


@pytest.mark.parametrize(
    ("required", "why"),
    [
        ("nobody", "waits for nobody (there is no service or resource of that name yet)"),
        ("broken", "waits for broken (which was given up: it crashed)"),
    ],
)
async def test_what_it_waits_for_is_told(foo: World, required: str, why: str) -> None:
    await deploy(foo, {"broken": {"image": "broken"}})
    await foo.failed(Address("foo", "broken"))
    outcome = await deploy(foo, {"web": {"image": "web", "require": required}})
    assert [(each.service, each.held) for each in outcome.changes] == [("web", why)]


async def test_taking_require_away_releases(foo: World) -> None:
    await deploy(foo, {"web": {"image": "web", "require": "nobody"}})
    change = await foo.operations.services.define(ADMIN, WEB, {"require": None})
    assert change.version and change.version.number == 1
    assert kinds(foo, "web")[-2:] == ["service.released", "version.created"]


async def test_a_service_set_by_itself_is_held_too(foo: World) -> None:
    change = await foo.operations.services.define(ADMIN, WEB, {"image": "web", "require": "db"})
    assert (change.version, change.held, change.needs_code) == (
        None,
        "waits for db (there is no service or resource of that name yet)",
        False,
    )
    await foo.operations.services.define(ADMIN, DB, {"image": "db"})
    await live(foo, DB)
    assert held(foo, WEB) is None


async def test_variables_that_are_set_meanwhile_go_into_the_first_version(foo: World) -> None:
    await deploy(foo, {"web": {"image": "web", "require": "db"}, "db": {"image": "db"}})
    change = await foo.operations.services.change_config(ADMIN, WEB, values={"COLOR": "blue"})
    assert (change.version, change.held) == (None, "waits for db")
    await live(foo, DB)
    version = foo.state.version("foo", "web", 1)
    assert version and version.definition.env == {"COLOR": "blue"}


async def test_code_that_is_brought_meanwhile_is_kept_for_the_first_version(foo: World) -> None:
    outcome = await deploy(foo, {"web": {"git": ".", "require": "db"}, "db": {"image": "db"}})
    web = next(each for each in outcome.changes if each.service == "web")
    assert web.held == "waits for db; no code yet: git push deploy master"
    builds, versions = foo.operations.builds, foo.operations.versions
    build = await builds.open(ADMIN, WEB, commit="c" * 40)
    artifact = slug("a" * 64)
    await builds.close(ADMIN, build.id, BuildStatus.SUCCEEDED, artifact=artifact)
    change = await versions.release(ADMIN, WEB, artifact, commit="c" * 40, build=build.id, reason="push")
    assert (change.version, change.held) == (None, "waits for db")
    assert foo.state.count_holders(artifact.reference) == 1, "its slug is not collected"
    await live(foo, DB)
    version, kept = foo.state.version("foo", "web", 1), foo.state.build(build.id)
    assert version and (version.artifact, version.commit) == (artifact, "c" * 40)
    assert kept and kept.version == 1
    service = foo.state.service("foo", "web")
    assert service and service.code is None and not service.holds
    assert foo.state.count_holders(artifact.reference) == 1


async def test_without_code_nothing_is_released(foo: World) -> None:
    await deploy(foo, {"web": {"git": ".", "require": "db"}, "db": {"image": "db"}})
    await live(foo, DB)
    assert held(foo, WEB) == "no code yet: git push deploy master"
    assert await foo.push(WEB) == 1


async def test_a_circle_is_refused(foo: World) -> None:
    circle = {"a": {"image": "a", "require": "b"}, "b": {"image": "b", "require": ["c"]}}
    with pytest.raises(InvalidInput, match="a requires b requires c requires a: none of them") as refused:
        await deploy(foo, {**circle, "c": {"image": "c", "require": "a"}})
    assert refused.value.field == "require"
    assert foo.state.services("foo") == []
    await deploy(foo, circle)
    with pytest.raises(InvalidInput, match="Take one of these out of require"):
        await foo.operations.services.define(ADMIN, Address("foo", "c"), {"image": "c", "require": "a"})


async def test_a_service_can_not_wait_for_itself(foo: World) -> None:
    with pytest.raises(InvalidInput, match="web requires web"):
        await deploy(foo, {"web": {"image": "web", "require": "web"}})


async def test_the_releaser_looks_when_something_has_changed(foo: World) -> None:
    import asyncio

    task = asyncio.create_task(foo.operations.releaser.run())
    try:
        await deploy(foo, CHAIN)
        for each in (CACHE, DB, API):
            await foo.live(each)
            await asyncio.sleep(0.01)
        assert held(foo, WEB) is None
    finally:
        task.cancel()
