"""Volumes that are backed up by schedule: as resources are, and only while there is something to save."""

import shutil
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from controller.errors import Conflict, InvalidInput, NotFound, Refused
from controller.names import Address
from controller.operations.volumebackups import _Volume
from controller.state import put
from controller.types import Service
from tests.unit.controller.world import ADMIN, World

REDIS = Address("foo", "redis")
NIGHTLY = "0 3 * * *"


async def define(world: World, **definition: Any) -> None:
    await world.operations.services.define(ADMIN, REDIS, {"image": "redis:7", **definition})


@pytest.fixture
async def folder(world: World) -> Path:
    """Of the volume `data` of a service that serves."""
    await world.operations.deployments.create(ADMIN, "foo")
    await define(world, volumes={"data": "/srv"})
    await world.live(REDIS)
    folder = world.settings.folders.volumes / "foo" / "redis" / "data"
    folder.mkdir(parents=True)
    (folder / "dump.rdb").write_bytes(b"x" * 10_000)
    return folder


async def schedule(world: World, *words: str | None, **options: int) -> None:
    await world.operations.volume_backups.schedule(ADMIN, REDIS, "data", *(words or (NIGHTLY,)), **options)


def redis(world: World) -> Service:
    service = world.state.service("foo", "redis")
    assert service
    return service


async def turn(world: World) -> None:
    """Let the last one be of years ago, and look what is due."""
    service = redis(world)
    ago = datetime.now(UTC) - timedelta(999)
    plans = {name: replace(each, since=ago) for name, each in service.backups.items()}
    await world.state.commit(put(replace(service, backups=plans)))
    await world.operations.upkeep.backups.look()
    await world.operations.upkeep.backups.idle()


def events(world: World) -> list[tuple[str, str]]:
    return [(each.kind, each.text) for each in world.state.events("foo", "redis") if "backed up" in each.text]


async def kept(world: World) -> list[bool]:
    """Newest first: whether a schedule made it."""
    return [each.scheduled for each in await world.operations.volume_backups.list(ADMIN, REDIS, "data")]


async def test_it_is_kept_shown_and_taken_away(world: World, folder: Path) -> None:
    operations = world.operations.volume_backups
    versions = world.state.versions("foo", "redis")
    assert operations.scheduled(ADMIN, REDIS, "data").backup is None
    await schedule(world, " 0 3  * * *", keep=3, days=30)
    shown = operations.scheduled(ADMIN, REDIS, "data").backup
    assert shown and (shown.schedule, shown.keep, shown.days) == (NIGHTLY, 3, 30)
    assert shown.next_at and shown.next_at > datetime.now(UTC), "nothing before it was missed"
    (listed,) = await world.operations.volumes.list(ADMIN, "foo")
    assert listed.backup == shown
    before = redis(world)
    await schedule(world, NIGHTLY, keep=3, days=30)
    assert redis(world) == before, "again: nothing changes"
    await schedule(world, None)
    assert operations.scheduled(ADMIN, REDIS, "data").backup is None
    assert [text for _, text in events(world)] == [
        'its volume data is backed up at "0 3 * * *" (UTC); 3 are kept, for 30 days at most',
        "its volume data is no longer backed up by itself",
    ]
    assert world.state.versions("foo", "redis") == versions


async def test_what_can_not_be_planned(world: World, folder: Path) -> None:
    operations = world.operations.volume_backups
    with pytest.raises(InvalidInput, match="keep must be"):
        await schedule(world, NIGHTLY, keep=0)
    for words in ((NIGHTLY,), (None,)):
        with pytest.raises(NotFound, match="no volume 'other'"):
            await operations.schedule(ADMIN, REDIS, "other", *words)
    await world.operations.resources.create(ADMIN, "foo", "postgres", "db")
    with pytest.raises(Refused, match="use resources:backup"):
        await operations.schedule(ADMIN, Address("foo", "db"), "data", NIGHTLY)


async def test_turns_keep_what_the_plan_says_and_what_people_asked_for(world: World, folder: Path) -> None:
    operations = world.operations.volume_backups
    assert [each async for each in operations.backup(ADMIN, REDIS, "data")]
    await schedule(world, NIGHTLY, keep=2)
    for _ in range(3):
        await turn(world)
    assert await kept(world) == [True, True, False]
    assert events(world)[-1][0] == "volume.backup" and events(world)[-1][1].endswith("; 1 older went")
    assert redis(world).backups["data"].since > datetime.now(UTC) - timedelta(1), "what was missed is done"


async def test_a_turn_that_fails_is_told_and_takes_no_backup_away(world: World, folder: Path) -> None:
    await schedule(world, NIGHTLY, keep=1)
    await turn(world)
    shutil.rmtree(folder)
    await turn(world)
    assert await kept(world) == [True]
    plan = world.operations.volume_backups.scheduled(ADMIN, REDIS, "data").backup
    assert plan and plan.failure == "The folder of the volume data of foo/redis is not there."
    assert events(world)[-1][0] == "volume.backup_failed"
    problem = "The last backup of the volume data of foo/redis by its schedule failed: "
    problem += "`volumes:schedule -a foo/redis data` tells why."
    assert problem in world.operations.server.status(ADMIN).problems
    folder.mkdir()
    await turn(world)
    assert problem not in world.operations.server.status(ADMIN).problems
    assert await kept(world) == [True]


async def test_while_it_is_saved_already_the_turn_is_still_to_come(world: World, folder: Path) -> None:
    operations = world.operations.volume_backups
    await schedule(world)
    before = redis(world)
    async with operations._alone(_Volume(before, "data")):
        with pytest.raises(Conflict, match="already"):
            await operations.back_up_by_plan("foo", "redis", "data")
    assert redis(world) == before
    assert await kept(world) == []


async def test_it_rests_while_the_definition_has_no_such_volume(world: World, folder: Path) -> None:
    await schedule(world)
    await define(world, volumes={})
    await world.live(REDIS)
    await turn(world)
    (listed,) = await world.operations.volumes.list(ADMIN, "foo")
    assert listed.backup and listed.backup.next_at is None
    await define(world, volumes={"data": "/srv"})
    assert await kept(world) == []
    await turn(world)
    assert await kept(world) == [True]
    await define(world, volumes={})
    await schedule(world, None)
    assert redis(world).backups == {}


async def test_it_goes_with_its_volume_and_with_its_service(world: World, folder: Path) -> None:
    await schedule(world)
    await define(world, volumes={})
    await world.live(REDIS)
    await world.operations.volumes.destroy(ADMIN, REDIS, "data")
    assert redis(world).backups == {}

    await define(world, volumes={"data": "/srv"})
    await schedule(world)
    await world.operations.services.destroy(ADMIN, REDIS)
    await world.operations.volume_backups.back_up_by_plan("foo", "redis", "data")
    await world.operations.removal.idle()
    await define(world, volumes={"data": "/srv"})
    assert redis(world).backups == {}


async def test_one_whose_service_goes_meanwhile_is_written_nowhere(
    world: World, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    operations = world.operations.volume_backups
    await schedule(world)

    async def gone(*_: object, **__: object) -> None:
        await world.operations.services.destroy(ADMIN, REDIS)
        await world.operations.removal.idle()
        await define(world, volumes={"data": "/srv"})
        raise Refused("no")

    monkeypatch.setattr(operations, "_made", gone)
    await operations.back_up_by_plan("foo", "redis", "data")
    assert redis(world).backups == {}
    assert "volume.backup_failed" not in [kind for kind, _ in events(world)]
