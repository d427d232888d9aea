"""Scaling, restarting, stopping and starting."""

from dataclasses import replace

import pytest

from controller.errors import InvalidInput, NotFound, Refused
from controller.operations.processes import scaled
from controller.state import put
from controller.types import Service
from controller.wire import from_json
from tests.factories import instance, service, slug, version
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


async def test_what_never_came_up_is_tried_again_as_a_further_version(world: World):
    await world.app()
    await world.push()
    failed = world.state.service("foo", "app")
    await world.state.commit(put(replace(failed, target=None, rollout_failure="no port is free")))
    assert (await world.operations.processes.restart(ADMIN, FOO)).number == 2
    after = world.state.service("foo", "app")
    assert (after.target, after.rollout_failure) == (2, "")
    versions = [world.state.version("foo", "app", each) for each in (1, 2)]
    assert versions[0].artifact == versions[1].artifact


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


@pytest.fixture
async def serving(world: World) -> World:
    """v1 serves with web.1, web.2 and worker.1."""
    await world.app()
    await world.push(process_types=TYPES)
    await world.live()
    await world.operations.processes.scale(ADMIN, FOO, {"web": "2", "worker": "1"})
    world.runtime.running = [instance(1, 1), instance(1, 2), instance(1, 1, "worker")]
    return world


def foo(world: World):
    return world.state.service("foo", "app")


def due(world: World) -> int:
    return world.operations.services.get(ADMIN, FOO).due


@pytest.mark.parametrize("name", ["web.2", "foo-app-1-web-2"])
async def test_one_instance_is_restarted_by_the_name_that_people_see_or_its_id(serving: World, name: str):
    await serving.operations.processes.restart(ADMIN, FOO, name)
    assert foo(serving).replacing == ("foo-app-1-web-2",)
    assert foo(serving).generation == 1
    assert serving.state.events("foo", "app")[-1].text == "restart of web.2 was asked for"


async def test_all_of_a_type_are_restarted(serving: World):
    await serving.operations.processes.restart(ADMIN, FOO, "web")
    assert foo(serving).replacing == ("foo-app-1-web-1", "foo-app-1-web-2")


@pytest.mark.parametrize(
    ("name", "error", "told"),
    [
        ("web.9", NotFound, "no instance web.9 now"),
        ("clock", InvalidInput, "known are: web, worker"),
        ("foo-app-7-web-1", InvalidInput, "of v7, and v1 is"),
        ("bar-app-1-web-1", InvalidInput, "neither a process type"),
        ("../x", InvalidInput, "neither a process type"),
    ],
)
async def test_what_is_no_process_is_refused_in_words(serving: World, name: str, error: type, told: str):
    for verb in ("restart", "stop", "start"):
        with pytest.raises(error, match=told):
            await getattr(serving.operations.processes, verb)(ADMIN, FOO, name)


async def test_a_stopped_type_keeps_its_scale_until_it_is_started(serving: World):
    await serving.operations.processes.stop(ADMIN, FOO, "worker")
    assert foo(serving).stopped_types == ("worker",)
    assert (foo(serving).scale["worker"], due(serving)) == (1, 2)
    with pytest.raises(Refused, match="runs no worker"):
        serving.runtime.running.pop()
        await serving.operations.processes.restart(ADMIN, FOO, "worker")
    await serving.operations.processes.start(ADMIN, FOO, "worker")
    assert (foo(serving).stopped_types, due(serving)) == ((), 3)
    assert foo(serving).raised["worker"].reason == "started"


async def test_a_stopped_instance_is_due_again_once_it_is_started(serving: World):
    await serving.operations.processes.stop(ADMIN, FOO, "web.2")
    assert (foo(serving).withdrawn, due(serving)) == (("foo-app-1-web-2",), 2)
    serving.runtime.running = [instance(1, 1), instance(1, 1, "worker")]
    await serving.operations.processes.stop(ADMIN, FOO, "web.2")  # the same again
    await serving.operations.processes.start(ADMIN, FOO, "web.2")
    assert (foo(serving).withdrawn, due(serving)) == ((), 3)


async def test_scaling_or_a_new_version_brings_back_what_was_stopped(serving: World):
    await serving.operations.processes.stop(ADMIN, FOO, "web.2")
    await serving.operations.processes.scale(ADMIN, FOO, {"worker": "2"})
    assert foo(serving).withdrawn
    await serving.operations.processes.scale(ADMIN, FOO, {"web": "3"})
    assert foo(serving).withdrawn == ()
    assert foo(serving).raised["web"].reason == "scaled up to 3"
    await serving.operations.processes.stop(ADMIN, FOO, "web.1")
    await serving.push(content="b", process_types=TYPES)
    assert foo(serving).withdrawn == ()


async def test_start_of_all_undoes_every_stop(serving: World):
    await serving.operations.processes.stop(ADMIN, FOO, "web.2")
    await serving.operations.processes.stop(ADMIN, FOO, "worker")
    await serving.operations.processes.start(ADMIN, FOO)
    assert (foo(serving).withdrawn, foo(serving).stopped_types, due(serving)) == ((), (), 3)


async def test_single_instances_are_left_to_a_rollout_that_is_under_way(serving: World):
    await serving.push(content="b", process_types=TYPES)
    with pytest.raises(Refused, match="v2 of foo is being rolled out"):
        await serving.operations.processes.restart(ADMIN, FOO, "web")


async def test_maintenance_keeps_its_page_while_it_is_on(serving: World):
    processes = serving.operations.processes
    await processes.set_maintenance(ADMIN, FOO, True, page="<p>\n soon\x01</p>")
    assert (foo(serving).maintenance, foo(serving).maintenance_page) == (True, "<p>  soon</p>")
    await processes.set_maintenance(ADMIN, FOO, True)
    assert serving.state.events("foo", "app")[-1].text == "the maintenance page was changed"
    await processes.set_maintenance(ADMIN, FOO, False, page="ignored")
    assert (foo(serving).maintenance, foo(serving).maintenance_page) == (False, "")
    for page in ("x" * 8193, "\ud800"):
        with pytest.raises(InvalidInput, match="at most 8 KiB"):
            await processes.set_maintenance(ADMIN, FOO, True, page=page)


async def test_a_service_that_an_older_server_wrote_is_read():
    older = {"deployment": "foo", "name": "app", "scale": {"web": 2}, "definition": {"env": {"A": "1"}}}
    read = from_json(Service, older)
    assert (read.maintenance, read.withdrawn, read.definition.limits) == (False, (), {})
