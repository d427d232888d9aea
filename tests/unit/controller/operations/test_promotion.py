"""What serves in one deployment is taken over into another."""

from typing import Any

import pytest

from controller.environment import environment
from controller.errors import Conflict, Forbidden, InvalidInput, NotFound, Refused, Unavailable
from controller.names import Address
from controller.operations.promotion import Request
from controller.types import Artifact, ArtifactKind, Manifest, Right, Version, Wish
from controller.views import FileOutcome
from tests.factories import slug
from tests.unit.controller.world import ADMIN, World

STAGING, PRODUCTION = Address("staging"), Address("production")
PROMOTE = Request(source="staging", target="production")
IMAGE = Artifact(kind=ArtifactKind.IMAGE, reference=f"sha256:{'e' * 64}", buildpack="Dockerfile")


@pytest.fixture
async def both(world: World) -> World:
    """New code is live in staging, and production has older code and config of its own."""
    for name in ("staging", "production"):
        await world.app(name)
    await world.push(PRODUCTION, "a")
    await world.live(PRODUCTION)
    await world.operations.services.change_config(ADMIN, PRODUCTION, values={"COLOR": "red"})
    await world.live(PRODUCTION)
    await world.operations.services.change_config(ADMIN, STAGING, values={"COLOR": "blue", "DEBUG": "1"})
    await released(world, slug("b" * 64), commit="b" * 40, origin="d" * 40)
    return world


async def released(world: World, artifact: Artifact, address: Address = STAGING, **said: Any) -> None:
    await world.operations.versions.release(ADMIN, address, artifact, reason="push", **said)
    await world.live(address)


async def promoted(world: World, request: Request = PROMOTE) -> FileOutcome:
    outcome = await world.operations.promotion.apply(ADMIN, request)
    again = await world.operations.promotion.plan(ADMIN, request)
    assert again.changes == (), "the same again changes nothing"
    return outcome


def newest(world: World, service: str = "app") -> Version:
    return world.state.versions("production", service)[0]


async def test_the_code_is_taken_over_and_the_config_stays(both: World) -> None:
    plan = await both.operations.promotion.plan(ADMIN, PROMOTE)
    assert newest(both).number == 2
    outcome = await promoted(both)
    (change,) = outcome.changes
    assert (change.deployment, change.service, change.version, outcome.applied) == (
        "production",
        "app",
        3,
        True,
    )
    (difference,) = change.differences
    assert (difference.name, difference.before, difference.after) == ("code", "c" * 12, "b" * 12)
    assert plan.changes[0].differences == change.differences
    version = newest(both)
    assert version.artifact == slug("b" * 64)
    assert (version.commit, version.origin, version.build) == ("b" * 40, "d" * 40, None)
    assert version.reason == "promoted from staging v1"
    assert environment(version)["COLOR"] == "red"
    assert "DEBUG" not in environment(version)


async def test_only_what_serves_is_taken_over(both: World) -> None:
    await both.operations.versions.release(ADMIN, STAGING, slug("f" * 64), reason="under way")
    await promoted(both)
    assert newest(both).artifact == slug("b" * 64)


async def test_the_code_keeps_what_it_asks_for_and_gets_its_variables(both: World) -> None:
    asks = Manifest(
        env={"KEY": Wish(secret=True), "SIZE": Wish(value="10"), "COLOR": Wish(value="green")},
        predeploy="migrate",
    )
    await released(both, slug("b" * 64, manifest=asks))
    plan = await both.operations.promotion.plan(ADMIN, PROMOTE)
    assert [each.name for each in plan.changes[0].differences][-2:] == ["KEY", "SIZE"]
    await promoted(both)
    version = newest(both)
    assert version.artifact is not None and version.artifact.manifest == asks
    found = version.definition.env
    assert (found["COLOR"], found["SIZE"], len(found["KEY"])) == ("red", "10", 64)


async def test_code_that_lacks_a_variable_there_is_refused_with_the_way_out(both: World) -> None:
    await released(both, slug("b" * 64, manifest=Manifest(env={"MAIL": Wish(), "HOST": Wish()})))
    with pytest.raises(
        Refused, match="production lacks MAIL and HOST, which this code requires: config:set -a"
    ):
        await promoted(both)


async def test_images_of_definitions_are_taken_over(both: World) -> None:
    for name, tag in (("staging", "2"), ("production", "1")):
        definition = {"image": f"redis:{tag}", "env": {"AT": name}}
        await both.operations.services.define(ADMIN, Address(name, "redis"), definition)
        await both.live(Address(name, "redis"))
    outcome = await promoted(both, Request(source="staging", target="production", services=("redis",)))
    (difference,) = outcome.changes[0].differences
    assert (difference.name, difference.before, difference.after) == ("image", "redis:1", "redis:2")
    version = newest(both, "redis")
    assert version.artifact is not None
    assert (version.artifact.reference, version.definition.env) == ("redis:2", {"AT": "production"})


async def test_an_image_that_was_built_is_kept_for_the_target_too(both: World) -> None:
    kept = list[tuple[str, str, str]]()

    async def keep_image(*given: str) -> None:
        kept.append((given[0], given[1], given[2]))

    both.storage.keep_image = keep_image  # type: ignore[method-assign]
    await released(both, IMAGE)
    await promoted(both)
    assert kept == [("production", "app", IMAGE.reference)]
    assert newest(both).artifact == IMAGE


async def test_an_image_that_the_engine_does_not_keep_is_not_taken_over(both: World) -> None:
    await released(both, IMAGE)
    with pytest.raises(Unavailable, match="no container engine is at hand"):
        await promoted(both)
    assert newest(both).number == 2


async def test_an_image_that_came_meanwhile_is_not_taken_over_unkept(both: World) -> None:
    async def keep_image(*_given: str) -> None:
        await released(both, Artifact(kind=ArtifactKind.IMAGE, reference=f"sha256:{'f' * 64}"))

    both.storage.keep_image = keep_image  # type: ignore[method-assign]
    await released(both, IMAGE)
    with pytest.raises(Conflict, match="staging got something new meanwhile"):
        await promoted(both)


async def test_what_can_not_be_taken_over_is_told_and_refused_where_it_was_named(both: World) -> None:
    for name in ("new", "only"):
        await both.operations.services.ensure(ADMIN, Address("staging", name))
    await released(both, slug("b" * 64), Address("staging", "only"))
    await both.operations.services.define(ADMIN, Address("staging", "mixed"), {"image": "redis"})
    await both.live(Address("staging", "mixed"))
    await released_to(both, "mixed")
    outcome = await promoted(both)
    assert outcome.notes == (
        "staging/mixed runs the image redis, and production/mixed runs code: set its image first.",
        "staging/new serves nothing yet: there is nothing to take over.",
        "production has no service only: deploy its service file there first.",
    )
    assert [each.service for each in outcome.changes] == ["app"]
    for name in ("new", "only", "mixed"):
        with pytest.raises(Refused):
            await promoted(both, Request(source="staging", target="production", services=(name,)))
    with pytest.raises(NotFound, match="staging has no service nobody"):
        await promoted(both, Request(source="staging", target="production", services=("nobody",)))


async def released_to(world: World, name: str) -> None:
    address = Address("production", name)
    await world.operations.services.ensure(ADMIN, address)
    await released(world, slug("c" * 64), address)


async def test_a_held_service_keeps_the_code_for_its_first_version(both: World) -> None:
    for name in ("staging", "production"):
        await both.operations.services.ensure(ADMIN, Address(name, "web"))
    await released(both, slug("b" * 64), Address("staging", "web"), commit="b" * 40)
    await both.operations.services.define(ADMIN, Address("production", "web"), {"require": ["db"]})
    outcome = await promoted(both, Request(source="staging", target="production", services=("web",)))
    (change,) = outcome.changes
    assert (change.version, change.held is not None and "db" in change.held) == (None, True)
    service = both.state.service("production", "web")
    assert service is not None and service.code is not None
    assert (service.code.artifact, service.code.commit) == (slug("b" * 64), "b" * 40)


async def test_nothing_at_all_is_refused(both: World) -> None:
    with pytest.raises(InvalidInput, match="is promoted to itself"):
        await promoted(both, Request(source="staging", target="staging"))
    await both.operations.deployments.create(ADMIN, "empty")
    with pytest.raises(Refused, match="Nothing can be taken over"):
        await promoted(both, Request(source="empty", target="production"))


@pytest.mark.parametrize(
    ("staging", "production", "error"),
    [
        (Right.DEPLOY, Right.DEPLOY, None),
        (Right.VIEW, Right.MANAGE, Forbidden),
        (Right.MANAGE, Right.VIEW, Forbidden),
        (Right.MANAGE, None, NotFound),
        (None, Right.MANAGE, NotFound),
    ],
)
async def test_it_takes_the_right_to_deploy_on_both(
    both: World, staging: Right | None, production: Right | None, error: type[Exception] | None
) -> None:
    rights = {"staging": staging, "production": production}
    who = await both.user("robin", **{name: right for name, right in rights.items() if right})
    if error is None:
        await both.operations.promotion.apply(who, PROMOTE)
        return
    for ask in (both.operations.promotion.plan, both.operations.promotion.apply):
        with pytest.raises(error):
            await ask(who, PROMOTE)
    assert newest(both).number == 2


async def test_an_image_of_a_definition_takes_the_right_to_operate(both: World) -> None:
    for name, tag in (("staging", "2"), ("production", "1")):
        await both.operations.services.define(ADMIN, Address(name, "redis"), {"image": f"redis:{tag}"})
        await both.live(Address(name, "redis"))
    who = await both.user("robin", staging=Right.DEPLOY, production=Right.DEPLOY)
    with pytest.raises(Forbidden, match="needs operate"):
        await both.operations.promotion.plan(who, PROMOTE)
