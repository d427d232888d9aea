import pytest

from controller.errors import InvalidInput
from tests.unit.controller.world import ADMIN, FOO


@pytest.fixture
async def sources(world):
    await world.app()
    await world.push()
    await world.live()
    return world.operations.sources


async def test_buildpacks_are_kept_in_their_order_and_make_no_version(world, sources):
    before = world.state.service("foo", "app").latest
    assert (await sources.change_buildpacks(ADMIN, FOO, only=["heroku/python"])).buildpacks == ("python",)
    assert (await sources.change_buildpacks(ADMIN, FOO, add=["nodejs"], at=1)).buildpacks == (
        "nodejs",
        "python",
    )
    assert (await sources.change_buildpacks(ADMIN, FOO, add=["null"])).buildpacks == (
        "nodejs",
        "python",
        "null",
    )
    assert (await sources.change_buildpacks(ADMIN, FOO, remove=["python"])).buildpacks == ("nodejs", "null")
    assert (await sources.change_buildpacks(ADMIN, FOO, only=[])).buildpacks == ()
    assert world.state.service("foo", "app").latest == before
    assert [each.kind for each in world.state.events()][-1] == "service.source"


@pytest.mark.parametrize(
    "change",
    [
        {"only": ["no such name"]},
        {"add": ["python", "python"]},
        {"add": ["python"], "at": 0},
        {"remove": ["go"]},
        {"only": [f"p{number}" for number in range(21)]},
    ],
)
async def test_what_makes_no_sense_changes_nothing(world, sources, change):
    with pytest.raises(InvalidInput):
        await sources.change_buildpacks(ADMIN, FOO, **change)
    assert world.state.service("foo", "app").buildpacks == ()


async def test_a_folder_outside_of_the_repository_is_refused(world, sources):
    assert (await sources.set_build_dir(ADMIN, FOO, "./services/api/")).build_dir == "services/api"
    with pytest.raises(InvalidInput, match="inside the repository"):
        await sources.set_build_dir(ADMIN, FOO, "../other")
    assert (await sources.set_build_dir(ADMIN, FOO, "")).build_dir == ""


async def test_the_buildpacks_are_asked_with_the_variables_that_a_build_sees(world, sources):
    await world.operations.shared.change(ADMIN, "foo", values={"SHARED": "1"})
    await world.operations.services.change_config(ADMIN, FOO, values={"OWN": "1"}, replace_all=True)
    (verdict,) = await sources.detect(ADMIN, FOO, "next")
    assert verdict.words == "app on next, ['OWN', 'SHARED']"
