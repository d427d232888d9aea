"""Resources that are backed up by schedule: what is kept, what goes, and what is told."""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from controller.deliveries import Mark
from controller.errors import Conflict, InvalidInput, NotFound, Refused
from controller.operations.backupplans import filed_plan, planned, surplus, wanted_backups, wanted_of
from controller.state import put
from controller.types import Instance
from controller.views import BackupInfo
from tests.factories import instance
from tests.unit.controller.operations.test_rights import Everything
from tests.unit.controller.world import ADMIN, World, make_world

NOW = datetime(2026, 3, 10, 3, tzinfo=UTC)
NIGHTLY = "0 3 * * *"
SERVER: Instance = instance(1, process_type="server", service="db", id="foo-db-1-server-1")


def made(*days: int, scheduled: bool = True) -> list[BackupInfo]:
    """Of so many days ago each."""
    times = [NOW - timedelta(days=each) for each in days]
    return [
        BackupInfo(id=f"{each:%Y%m%dT%H%M%S}", created_at=each, size=1, sha256="", scheduled=scheduled)
        for each in times
    ]


def left(backups: list[BackupInfo], *, keep: int, days: int = 0) -> list[BackupInfo]:
    plan = planned(wanted_backups(NIGHTLY, keep, days), None, NOW)
    assert plan
    gone = surplus(backups, plan, NOW)
    return [each for each in backups if each not in gone]


def test_as_many_stay_as_are_kept() -> None:
    assert left(made(0, 1, 2, 3), keep=2) == made(0, 1)
    assert left(made(0, 1), keep=2) == made(0, 1)


def test_older_ones_go_but_never_the_newest() -> None:
    assert left(made(0, 5, 40), keep=7, days=30) == made(0, 5)
    assert left(made(50, 60), keep=7, days=30) == made(50)


def test_what_people_asked_for_stays_and_does_not_count() -> None:
    asked = made(0, 90, scheduled=False)
    assert left([*asked, *made(1, 2, 3)], keep=1, days=1) == [*asked, *made(1)]


def test_other_times_begin_now_and_the_same_ones_go_on() -> None:
    plan = planned(wanted_backups(NIGHTLY), None, NOW)
    assert plan and plan.since == NOW
    failed, later = replace(plan, failure="it was down"), NOW + timedelta(hours=1)
    assert planned(wanted_backups(NIGHTLY, 3, 9), failed, later) == replace(failed, keep=3, days=9)
    other = planned(wanted_backups("0 4 * * *"), failed, later)
    assert other and (other.since, other.failure) == (later, "")


def test_a_file_takes_back_what_a_file_said_and_nothing_else() -> None:
    by_verb = planned(wanted_backups(NIGHTLY), None, NOW)
    filed = filed_plan(wanted_backups(NIGHTLY), by_verb, NOW)
    assert filed and filed.filed and wanted_of(filed) == wanted_of(by_verb)
    assert filed_plan(None, by_verb, NOW) == by_verb
    assert filed_plan(None, filed, NOW) is filed_plan(None, None, NOW) is None
    assert planned(wanted_backups(NIGHTLY), filed, NOW) == by_verb, "who says it again by the verb keeps it"


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    world = await make_world(tmp_path)
    await world.app()
    await world.operations.resources.create(ADMIN, "foo", "postgres", "db")
    world.runtime.backend = Everything()
    world.runtime.running = [SERVER]
    yield world
    await world.state.close()


def events(world: World) -> list[tuple[str, str]]:
    return [(each.kind, each.text) for each in world.state.events("foo") if "backed up" in each.text]


async def turn(world: World) -> None:
    await world.operations.resources.back_up_by_plan("foo", "db")


async def long_ago(world: World) -> None:
    """Let the last turn be of years ago."""
    resource = world.state.resource("foo", "db")
    assert resource and resource.backup
    await world.state.commit(
        put(replace(resource, backup=replace(resource.backup, since=NOW - timedelta(999))))
    )


async def test_a_plan_is_kept_shown_and_taken_away(world: World) -> None:
    operations = world.operations.resources
    found = await operations.schedule_backups(ADMIN, "foo", "db", " 0 3  * * *", keep=3, days=30)
    assert found.backup and (found.backup.schedule, found.backup.keep, found.backup.days) == (NIGHTLY, 3, 30)
    assert found.backup.next_at and found.backup.next_at > datetime.now(UTC), "nothing before it was missed"
    resource = world.state.resource("foo", "db")
    await operations.schedule_backups(ADMIN, "foo", "db", NIGHTLY, keep=3, days=30)
    assert world.state.resource("foo", "db") == resource, "again: nothing changes"
    assert (await operations.schedule_backups(ADMIN, "foo", "db", None)).backup is None
    assert [text for _, text in events(world)] == [
        'db is backed up at "0 3 * * *" (UTC); 3 are kept, for 30 days at most',
        "db is no longer backed up by itself",
    ]


async def test_what_can_not_be_planned(world: World) -> None:
    operations = world.operations.resources
    for wrong, field in (({"keep": 0}, "keep"), ({"days": -1}, "days"), ({"keep": 10**6}, "keep")):
        with pytest.raises(InvalidInput) as raised:
            await operations.schedule_backups(ADMIN, "foo", "db", NIGHTLY, **wrong)
        assert raised.value.field == field
    await operations.create(ADMIN, "foo", "postgres", "away", url="postgres://h/x")
    with pytest.raises(Refused, match="kept elsewhere"):
        await operations.schedule_backups(ADMIN, "foo", "away", NIGHTLY)
    with pytest.raises(NotFound, match="no resource 'nothing'"):
        await operations.schedule_backups(ADMIN, "foo", "nothing", None)


async def test_a_turn_makes_one_and_keeps_what_the_plan_says(world: World) -> None:
    operations = world.operations.resources
    asked = [each async for each in operations.backup(ADMIN, "foo", "db")][-1].text
    await operations.schedule_backups(ADMIN, "foo", "db", NIGHTLY, keep=2)
    for _ in range(3):
        await turn(world)
    found = await operations.backups(ADMIN, "foo", "db")
    assert [each.scheduled for each in found] == [True, True, False] and found[-1].id == asked
    assert events(world)[-1][1].endswith("; 1 older went")
    plan = operations.get(ADMIN, "foo", "db").backup
    assert plan and plan.failure == ""


async def test_a_turn_that_fails_is_told_and_takes_no_backup_away(world: World) -> None:
    operations = world.operations.resources
    await operations.schedule_backups(ADMIN, "foo", "db", NIGHTLY, keep=1)
    await turn(world)
    before = await operations.backups(ADMIN, "foo", "db")
    world.runtime.running = []
    await long_ago(world)
    await world.operations.upkeep.backups.look()
    await world.operations.upkeep.backups.idle()
    assert await operations.backups(ADMIN, "foo", "db") == before != []
    plan = operations.get(ADMIN, "foo", "db").backup
    assert plan and "does not run now" in plan.failure
    assert events(world)[-1][0] == "resource.backup_failed"
    problem = "The last backup of foo's db by its schedule failed: `resources:info -a foo db` tells why."
    assert problem in world.operations.server.status(ADMIN).problems
    world.runtime.running = [SERVER]
    await turn(world)
    assert problem not in world.operations.server.status(ADMIN).problems


async def test_while_it_is_backed_up_already_the_turn_is_still_to_come(world: World) -> None:
    operations = world.operations.resources
    await operations.schedule_backups(ADMIN, "foo", "db", NIGHTLY)
    await long_ago(world)
    planned_before = world.state.resource("foo", "db")
    async with operations._alone(planned_before):  # type: ignore[arg-type]
        with pytest.raises(Conflict, match="already"):
            await turn(world)
    assert world.state.resource("foo", "db") == planned_before
    assert [each.mark async for each in operations.backup(ADMIN, "foo", "db")][-1] is Mark.DONE


async def test_a_resource_that_is_gone_has_no_turn(world: World) -> None:
    await world.operations.resources.schedule_backups(ADMIN, "foo", "db", NIGHTLY)
    await world.operations.resources.destroy(ADMIN, "foo", "db")
    await turn(world)
    assert events(world)[-1][0] != "resource.backup_failed"
