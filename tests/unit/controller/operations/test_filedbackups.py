"""Schedules of backups that a service file says: they come, change and go with it, and make no version."""

from collections.abc import Mapping
from typing import Any

import pytest

from controller.errors import InvalidInput
from controller.names import Address
from controller.operations.servicefiles import Request
from controller.servicefile.document import ServiceFile
from controller.types import BackupPlan
from controller.views import FileOutcome
from tests.unit.controller.world import ADMIN, World

DB, REDIS = Address("foo", "db"), Address("foo", "redis")
NIGHTLY, LATER = "0 3 * * *", "0 4 * * *"


@pytest.fixture
async def foo(world: World) -> World:
    await world.operations.deployments.create(ADMIN, "foo")
    return world


def request(of_db: Any, of_volume: Any = None, **keys: Any) -> Request:
    """A database and a service with a volume, with these as their `backup`; None: the line is not there."""
    db: Any = "postgres" if of_db is None else {"kind": "postgres", "backup": of_db}
    data: Any = "/srv" if of_volume is None else {"path": "/srv", "backup": of_volume}
    services = {"redis": {"image": "redis", "volumes": {"data": data}, **keys}}
    return Request(deployment="foo", file=ServiceFile(services=services, globals={"Resources": {"db": db}}))


async def deploy(world: World, *words: Any, **keys: Any) -> list[str]:
    """What it says of schedules; it is what its plan says."""
    planned = await world.operations.servicefiles.plan(ADMIN, request(*words, **keys))
    outcome = await world.operations.servicefiles.apply(ADMIN, request(*words, **keys))
    assert told(planned) == told(outcome)
    await world.operations.provision.examine({"foo"})
    return told(outcome)


def told(outcome: FileOutcome) -> list[str]:
    found = [*outcome.globals, *(each for change in outcome.changes for each in change.differences)]
    return [
        f"{each.sign}{each.name}: {str(each.before)[:14]} {str(each.after)[:14]}".replace(' "', "")
        for each in found
        if each.area == "backups"
    ]


def plans(world: World) -> Mapping[str, BackupPlan | None]:
    resource, service = world.state.resource("foo", "db"), world.state.service("foo", "redis")
    assert resource and service
    return {"db": resource.backup, "data": service.backups.get("data")}


def times(world: World) -> list[str | None]:
    return [each and each.schedule for each in plans(world).values()]


async def test_they_come_change_and_go_without_a_version(foo: World) -> None:
    assert len(await deploy(foo, NIGHTLY, NIGHTLY)) == 2
    assert times(foo) == [NIGHTLY, NIGHTLY], "also of a database that was made by it"
    before, event = plans(foo), foo.state.last_event
    assert await deploy(foo, NIGHTLY, NIGHTLY) == []
    outcome = await foo.operations.servicefiles.apply(ADMIN, request(NIGHTLY, NIGHTLY))
    assert (outcome.globals, outcome.changes) == ((), ()), "the same again is no change"
    assert (plans(foo), foo.state.last_event) == (before, event)

    assert len(await deploy(foo, {"schedule": LATER, "keep": 3}, {"schedule": LATER, "keep": 3})) == 2
    assert times(foo) == [LATER, LATER]
    texts = [each.text for each in foo.state.events("foo") if each.kind.endswith(".schedule")]
    assert [text.partition(": ")[2] for text in texts] == [
        'its volume data is backed up at "0 3 * * *" (UTC); 7 are kept',
        'db is backed up at "0 4 * * *" (UTC); 3 are kept',
        'its volume data is backed up at "0 4 * * *" (UTC); 3 are kept',
    ]
    assert len(await deploy(foo, None, None)) == 2
    assert times(foo) == [None, None]
    for name in ("db", "redis"):
        assert [each.number for each in foo.state.versions("foo", name)] == [1]


async def test_a_database_that_leaves_the_file_keeps_no_schedule_of_it(foo: World) -> None:
    await deploy(foo, NIGHTLY)
    outcome = await foo.operations.servicefiles.apply(ADMIN, Request(deployment="foo", file=ServiceFile()))
    assert len(told(outcome)) == 1
    assert times(foo) == [None, None]


async def test_what_people_set_stays_and_the_file_wins_where_it_says_something(foo: World) -> None:
    operations = foo.operations
    await deploy(foo, None)
    await operations.resources.schedule_backups(ADMIN, "foo", "db", LATER)
    await operations.volume_backups.schedule(ADMIN, REDIS, "data", LATER)
    by_people = plans(foo)
    assert await deploy(foo, None) == []
    assert plans(foo) == by_people
    assert len(await deploy(foo, NIGHTLY, NIGHTLY)) == 2
    assert times(foo) == [NIGHTLY, NIGHTLY]

    await operations.resources.schedule_backups(ADMIN, "foo", "db", None)
    await operations.volume_backups.schedule(ADMIN, REDIS, "data", LATER)
    assert len(await deploy(foo, NIGHTLY, NIGHTLY)) == 2, "it says so again"
    await operations.resources.schedule_backups(ADMIN, "foo", "db", NIGHTLY)
    await operations.volume_backups.schedule(ADMIN, REDIS, "data", NIGHTLY)
    assert await deploy(foo, None, None) == [], "who says the same by the verb keeps it"
    assert times(foo) == [NIGHTLY, NIGHTLY]


async def test_one_that_goes_on_forgets_nothing(foo: World) -> None:
    await deploy(foo, NIGHTLY, NIGHTLY)
    before = plans(foo)
    await deploy(foo, {"schedule": NIGHTLY, "keep": 2}, {"schedule": NIGHTLY, "keep": 2}, env={"A": "1"})
    after = plans(foo)
    assert [each and (each.since, each.keep) for each in after.values()] == [
        each and (each.since, 2) for each in before.values()
    ]
    assert [each.number for each in foo.state.versions("foo", "redis")] == [2, 1], "by the variable"


async def test_a_service_that_is_not_in_the_file_keeps_its_own(foo: World) -> None:
    await deploy(foo, NIGHTLY, NIGHTLY)
    shared = {"Resources": {"db": {"kind": "postgres", "backup": NIGHTLY}}}
    other = Request(deployment="foo", file=ServiceFile(services={"web": {"image": "a"}}, globals=shared))
    await foo.operations.servicefiles.apply(ADMIN, other)
    assert times(foo) == [NIGHTLY, NIGHTLY]


async def test_one_that_is_yet_to_be_made_is_told_once(foo: World, monkeypatch: pytest.MonkeyPatch) -> None:
    first = await foo.operations.servicefiles.apply(ADMIN, request(NIGHTLY))
    again = await foo.operations.servicefiles.apply(ADMIN, request(NIGHTLY))
    assert (len(told(first)), told(again)) == (1, [])


async def test_one_that_is_kept_elsewhere_is_told(foo: World) -> None:
    await foo.operations.resources.create(ADMIN, "foo", "postgres", "db", url="postgres://h/x")
    outcome = await foo.operations.servicefiles.apply(ADMIN, request(NIGHTLY))
    assert outcome.notes == (
        "db is kept elsewhere: it is backed up there, and `backup` of the file does nothing here.",
    )
    assert told(outcome) == [] and times(foo) == [None, None]


@pytest.mark.parametrize(
    ("words", "field", "text"),
    [
        (("at night",), "Resources.db.backup.schedule", "five parts"),
        (({"schedule": NIGHTLY, "keep": True},), "Resources.db.backup.keep", "must be a number"),
        ((["x"],), "Resources.db.backup", "must say when"),
        (
            (None, {"schedule": NIGHTLY, "days": -1}),
            "redis.volumes.data.backup.days",
            "redis: The volume data",
        ),
        ((None, {"when": NIGHTLY}), "redis.volumes.data.backup.when", "Known are schedule, keep, days"),
    ],
)
async def test_what_can_not_be_deployed(foo: World, words: Any, field: str, text: str) -> None:
    with pytest.raises(InvalidInput, match=text) as raised:
        await foo.operations.servicefiles.apply(ADMIN, request(*words))
    assert raised.value.field == field
    assert list(foo.state.services("foo")) == []


async def test_a_definition_has_no_schedule(foo: World) -> None:
    with pytest.raises(InvalidInput, match="said by a service file, or by volumes:schedule"):
        long = {"data": {"path": "/srv", "backup": NIGHTLY}}
        await foo.operations.services.define(ADMIN, REDIS, {"image": "redis", "volumes": long})
