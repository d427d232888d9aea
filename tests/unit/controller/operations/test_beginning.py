"""What code brings along for a service: it never goes over what people set."""

import pytest

from controller.checks import check_of
from controller.errors import InvalidInput
from controller.operations.beginning import Beginning
from controller.runs import command_after_switch, commands_before_switch
from controller.types import Definition, HealthCheck, Manifest, RunKind, Service, Wish
from tests.factories import slug, version
from tests.unit.controller.world import ADMIN, FOO, World

BEGINNING = Beginning(variables={"COLOR": "blue", "KEY": "secret"}, formation={"web": 2, "worker": 1})


async def released(world: World, content: str = "a", beginning: Beginning = BEGINNING) -> Service:
    await world.operations.versions.release(
        ADMIN, FOO, slug(content * 64), reason="push", beginning=beginning
    )
    service = world.state.service("foo", "app")
    assert service is not None
    return service


async def test_variables_and_scale_come_with_the_first_version(world: World) -> None:
    await world.app()
    service = await released(world)
    assert service.definition.env == {"COLOR": "blue", "KEY": "secret"}
    assert service.scale == {"web": 2, "worker": 1}
    first = world.state.version("foo", "app", 1)
    assert first is not None
    assert (first.definition.env["KEY"], first.staged, first.reason) == ("secret", (), "push")


async def test_what_people_set_stays(world: World) -> None:
    await world.app()
    await world.operations.services.change_config(ADMIN, FOO, values={"COLOR": "red"})
    await world.operations.processes.scale(ADMIN, FOO, {"web": "3"})
    service = await released(world)
    assert service.definition.env == {"COLOR": "red", "KEY": "secret"}
    assert service.scale == {"web": 3, "worker": 1}


async def test_a_deployments_variable_counts_as_set(world: World) -> None:
    await world.app()
    await world.operations.shared.change(ADMIN, "foo", values={"KEY": "of all"})
    assert (await released(world)).definition.env == {"COLOR": "blue"}


async def test_later_versions_get_new_variables_and_no_scale(world: World) -> None:
    await world.app()
    await released(world, beginning=Beginning())
    service = await released(world, "b")
    assert (service.definition.env["COLOR"], service.scale) == ("blue", {})


async def test_a_secret_that_was_rolled_back_is_the_same_again(world: World) -> None:
    await world.app()
    await world.push()
    await world.live()
    asks = Manifest(env={"KEY": Wish(secret=True), "COLOR": Wish(value="blue")})

    async def pushed(content: str, secret: str) -> str:
        beginning = Beginning(variables={"KEY": secret, "COLOR": "blue"})
        await world.operations.versions.release(
            ADMIN, FOO, slug(content * 64, manifest=asks), reason="push", beginning=beginning
        )
        await world.live()
        service = world.state.service("foo", "app")
        assert service is not None
        return service.definition.env["KEY"]

    assert await pushed("b", "first") == "first"
    await world.operations.versions.rollback(ADMIN, FOO, 1)
    await world.live()
    assert await pushed("b", "second") == "first"


@pytest.mark.parametrize(
    "wrong", [{"variables": {"PORT": "1"}}, {"formation": {"web": 101}}, {"formation": {"a b": 1}}]
)
async def test_what_no_service_can_have_is_refused(world: World, wrong: dict[str, dict[str, int]]) -> None:
    await world.app()
    with pytest.raises(InvalidInput):
        await released(world, beginning=Beginning(**wrong))  # type: ignore[arg-type]


UP, OWN = HealthCheck(path="/up"), HealthCheck(path="/own")
ASKED = Manifest(
    predeploy="migrate", postdeploy="warm", first_postdeploy="seed", checks={"web": UP, "clock": UP}
)


def test_a_check_of_the_code_stands_behind_those_of_people() -> None:
    asks = version(artifact=slug(manifest=ASKED))
    assert check_of(asks, "web") == check_of(asks, "") == check_of(asks, "clock") == UP
    assert check_of(asks, "worker") == HealthCheck()
    people = version(artifact=slug(manifest=ASKED), definition=Definition(health=OWN, checks={"clock": OWN}))
    assert check_of(people, "web") == check_of(people, "clock") == OWN


def test_commands_of_the_code_stand_behind_those_of_people() -> None:
    asks = version(artifact=slug(manifest=ASKED), before=1)
    assert commands_before_switch(asks) == {RunKind.PREDEPLOY: "migrate"}
    assert command_after_switch(asks) == "warm"
    people = version(
        artifact=slug(manifest=ASKED), definition=Definition(predeploy="own", postdeploy="own"), before=1
    )
    assert commands_before_switch(people) == {RunKind.PREDEPLOY: "own"}
    assert command_after_switch(people) == "own"


def test_the_command_of_the_first_version_runs_before_that_of_all() -> None:
    assert command_after_switch(version(artifact=slug(manifest=ASKED))) == "{\nseed\n} && {\nwarm\n}"
    only = slug(manifest=Manifest(first_postdeploy="seed"))
    assert command_after_switch(version(artifact=only)) == "seed"
    assert command_after_switch(version(artifact=only, before=1)) is None
