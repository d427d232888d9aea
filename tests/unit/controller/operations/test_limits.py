"""Limits: what people write, what counts, and the version that comes of it."""

import pytest

from controller.errors import InvalidInput
from controller.limits import effective_limits, limits_for
from controller.operations.definition import changed_definition
from controller.operations.limits import changed_limits, read_limits
from controller.types import Definition, Limits
from controller.views import LimitSource
from tests.unit.controller.world import ADMIN, FOO, World

MIB = 1024**2
DEFAULTS = Limits(cpu=0, memory=512 * MIB, pids=512, nofile=65536)
TYPES = {"web": "python app.py", "worker": "python work.py"}


@pytest.mark.parametrize(
    ("given", "limits"),
    [
        (None, {}),
        ({}, {}),
        ({"memory": "512M"}, {"": Limits(memory=512 * MIB)}),
        (
            {"memory": "1GiB", "worker": {"cpu": "0.5"}},
            {"": Limits(memory=1024 * MIB), "worker": Limits(cpu=0.5)},
        ),
        ({"": {"pids": 100}, "web": {"nofile": 1024}}, {"": Limits(pids=100), "web": Limits(nofile=1024)}),
        ({"web": {"memory": 0, "pids": "none"}}, {"web": Limits(memory=0, pids=0)}),
        ({"web": {"memory": None}}, {}),
    ],
)
def test_definitions_may_say_limits_for_all_types_and_for_each(given: object, limits: dict):
    assert changed_definition(Definition(), {"limits": given}).limits == limits


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("512M", "must be a mapping"),
        ({"ram": 1}, "cpu, memory, pids, nofile, not 'ram'"),
        ({"memory": "lots"}, "limits.memory must be a whole number, to which K, M, G or T"),
        ({"memory": 1.5}, "limits.memory must be a whole number"),
        ({"memory": True}, "limits.memory must be a whole number"),
        ({"memory": 1000}, "limits.memory must be 8388608 to"),
        ({"web": {"cpu": -1}}, "limits.web.cpu must be a number of cores"),
        ({"web": {"cpu": True}}, "limits.web.cpu must be a number of cores"),
        ({"web": {"cpu": "nan"}}, "limits.web.cpu must be a number of cores"),
        ({"pids": 2}, "limits.pids must be 4 to"),
        ({"../x": {"pids": 20}}, "no valid process type"),
    ],
)
def test_what_is_no_limit_is_refused_in_words(given: object, told: str):
    with pytest.raises(InvalidInput, match=told):
        read_limits(given)


def test_type_counts_before_service_before_server_and_0_is_no_limit():
    definition = Definition(limits={"": Limits(memory=MIB, pids=0), "web": Limits(memory=2 * MIB, nofile=0)})
    limits, sources = effective_limits(definition, "web", DEFAULTS)
    assert limits == Limits(cpu=None, memory=2 * MIB, pids=None, nofile=None)
    assert sources == {
        "cpu": LimitSource.SERVER,
        "memory": LimitSource.TYPE,
        "pids": LimitSource.SERVICE,
        "nofile": LimitSource.TYPE,
    }
    assert limits_for(definition, "worker", DEFAULTS).memory == MIB
    assert limits_for(Definition(), "", DEFAULTS) == Limits(memory=512 * MIB, pids=512, nofile=65536)


def test_limits_are_changed_one_by_one_and_an_empty_set_goes():
    before = {"": Limits(memory=64 * MIB), "web": Limits(cpu=1, pids=99)}
    after = changed_limits(before, "web", values={"cpu": "2"}, drop=["pids"])
    assert after == {"": Limits(memory=64 * MIB), "web": Limits(cpu=2)}
    assert changed_limits(after, "web", values={}, drop=["cpu"]) == {"": Limits(memory=64 * MIB)}
    with pytest.raises(InvalidInput, match="set and to be removed"):
        changed_limits(before, "web", values={"cpu": "2"}, drop=["cpu"])
    with pytest.raises(InvalidInput, match="not 'ram'"):
        changed_limits(before, "web", values={}, drop=["ram"])


async def test_a_change_of_limits_is_a_version_and_the_same_again_none(world: World):
    await world.app()
    await world.push(process_types=TYPES)
    services = world.operations.services
    made = await services.change_limits(ADMIN, FOO, "worker", values={"memory": "1G"})
    assert made.version is not None
    assert (made.version.number, made.version.reason) == (2, "limits:set memory=1G for worker")
    assert made.version.definition.limits == {"worker": Limits(memory=1024 * MIB)}
    again = await services.change_limits(ADMIN, FOO, "worker", values={"memory": "1024M"})
    assert again.version is None
    found = {each.process_type: each for each in services.limits(ADMIN, FOO)}
    assert found["worker"].limits.memory == 1024 * MIB
    assert found["web"].limits == Limits(memory=512 * MIB, pids=512, nofile=65536)
    dropped = await services.change_limits(ADMIN, FOO, "worker", values={}, drop=["memory", "cpu"])
    assert dropped.version is not None and dropped.version.definition.limits == {}


async def test_an_unknown_process_type_is_not_limited(world: World):
    await world.app()
    await world.push(process_types=TYPES)
    with pytest.raises(InvalidInput, match="Known are: web, worker"):
        await world.operations.services.change_limits(ADMIN, FOO, "wroker", values={"pids": 9})
    with pytest.raises(InvalidInput, match="at least one limit"):
        await world.operations.services.change_limits(ADMIN, FOO, values={})


async def test_limits_may_be_set_before_the_first_version(world: World):
    await world.app()
    made = await world.operations.services.change_limits(ADMIN, FOO, values={"pids": 9})
    assert made.version is None and made.held
    assert [each.limits.pids for each in world.operations.services.limits(ADMIN, FOO)] == [9]
