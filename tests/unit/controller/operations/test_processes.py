"""Scaling, restarting, stopping and starting."""

import pytest

from controller.errors import InvalidInput, Refused
from controller.operations.processes import scaled
from tests.factories import service, version
from tests.unit.controller.world import ADMIN, FOO, World

TYPES = {"web": "python app.py", "worker": "python work.py"}


@pytest.mark.parametrize(
    ("changes", "scale"),
    [
        ({"web": "2"}, {"web": 2}),
        ({"web": "+1"}, {"web": 2}),
        ({"worker": "+1"}, {"worker": 1}),
        ({"web": "-1"}, {"web": 0}),
        ({"web": "100", "worker": "0"}, {"web": 100, "worker": 0}),
    ],
)
def test_numbers_are_taken_and_counted_from(changes: dict, scale: dict):
    assert scaled(service(), version(artifact=None), changes={}) == {}
    assert scaled(service(), _version(TYPES), changes) == scale


@pytest.mark.parametrize("amount", ["", "x", "1.5", "101", "-2", "++1", "1e3", "٣", "99999"])
def test_what_is_no_number_of_instances_is_refused(amount: str):
    with pytest.raises(InvalidInput):
        scaled(service(), _version(TYPES), {"web": amount})


def test_an_unknown_process_type_names_the_known_ones():
    with pytest.raises(InvalidInput, match="Known are: web, worker"):
        scaled(service(), _version(TYPES), {"wroker": "1"})


def test_before_the_first_version_any_process_type_may_be_scaled():
    assert scaled(service(scale={"web": 2}), None, {"clock": "1", "web": "+1"}) == {"web": 3, "clock": 1}
    with pytest.raises(InvalidInput):
        scaled(service(), None, {"../x": "1"})


def test_web_means_the_unnamed_type_where_there_is_no_other():
    assert scaled(service(), _version({"": "run"}), {"web": "3"}) == {"": 3}


def _version(types: dict):
    from tests.factories import slug

    return version(artifact=slug(process_types=types))


async def test_a_restart_raises_the_generation(world: World):
    await world.app()
    await world.push()
    await world.live()
    assert (await world.operations.processes.restart(ADMIN, FOO)).number == 1
    after = world.state.service("foo", "app")
    assert (after.generation, after.current_generation) == (2, 1)


async def test_what_does_not_run_can_not_be_restarted(world: World):
    await world.app()
    with pytest.raises(Refused, match="no version"):
        await world.operations.processes.restart(ADMIN, FOO)
    await world.push()
    await world.operations.processes.stop(ADMIN, FOO)
    with pytest.raises(Refused, match="start it"):
        await world.operations.processes.restart(ADMIN, FOO)


async def test_the_same_again_is_no_event(world: World):
    await world.app()
    await world.operations.processes.stop(ADMIN, FOO)
    before = world.state.last_event
    await world.operations.processes.stop(ADMIN, FOO)
    assert world.state.last_event == before


async def test_a_rollout_that_was_stopped_begins_anew(world: World):
    await world.app()
    await world.push()
    await world.operations.processes.stop(ADMIN, FOO)
    before = world.state.service("foo", "app").rollout_started_at
    await world.operations.processes.start(ADMIN, FOO)
    assert world.state.service("foo", "app").rollout_started_at > before


async def test_scaling_makes_no_version(world: World):
    await world.app()
    await world.push()
    await world.operations.processes.scale(ADMIN, FOO, {"web": "3"})
    assert world.state.service("foo", "app").latest == 1
    assert world.operations.services.get(ADMIN, FOO).process_types == {"web": 3}
