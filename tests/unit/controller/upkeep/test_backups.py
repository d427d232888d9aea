"""Which scheduled backups are started when; what each of them does is the operations' own test."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from controller.errors import Conflict
from controller.state import State, put
from controller.store.memory import MemoryStore
from controller.types import BackupPlan, Definition, Resource, Service
from controller.upkeep.backups import AT_ONCE, ScheduledBackups

NOW = datetime(2026, 3, 10, 4, tzinfo=UTC)


class Backups:
    """Each takes until it is let go."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.go = asyncio.Event()
        self.failure: Exception | None = None

    async def __call__(self, *key: str) -> None:
        self.begun.append(key[-1])
        await self.go.wait()
        if self.failure:
            raise self.failure


@pytest.fixture
async def state() -> AsyncIterator[State]:
    made = await State.open(MemoryStore())
    yield made
    await made.close()


async def add(state: State, name: str, *, hours: float, schedule: str = "0 3 * * *") -> None:
    plan = BackupPlan(schedule=schedule, since=NOW - timedelta(hours=hours))
    await state.commit(put(Resource(deployment="foo", name=name, kind="postgres", backup=plan)))


async def test_what_is_due_starts_in_its_turn_and_once(state: State) -> None:
    backups = Backups()
    scheduled = ScheduledBackups(state, backups, backups, clock=lambda: NOW)
    await add(state, "done", hours=0.5)
    await add(state, "late", hours=10)
    await add(state, "later", hours=1000)
    await add(state, "latest", hours=5)
    for _ in range(2):
        await scheduled.look()
        await asyncio.sleep(0)
    assert backups.begun == ["later", "late"] and len(backups.begun) == AT_ONCE
    backups.go.set()
    await scheduled.idle()
    for name in backups.begun:
        await add(state, name, hours=0)
    await scheduled.look()
    await scheduled.idle()
    assert backups.begun == ["later", "late", "latest"]


@pytest.mark.parametrize("failure", [Conflict("it is busy"), RuntimeError("a fault of ours")])
async def test_a_turn_that_was_none_is_still_due(state: State, failure: Exception) -> None:
    backups = Backups()
    backups.failure = failure
    backups.go.set()
    scheduled = ScheduledBackups(state, backups, backups, clock=lambda: NOW)
    await add(state, "db", hours=10)
    for _ in range(2):
        await scheduled.look()
        await scheduled.idle()
    assert backups.begun == ["db", "db"]


async def test_the_end_of_the_server_ends_them(state: State) -> None:
    backups = Backups()
    scheduled = ScheduledBackups(state, backups, backups, clock=lambda: NOW)
    await add(state, "db", hours=10)
    await scheduled.look()
    await asyncio.sleep(0)
    await asyncio.wait_for(scheduled.close(), 5)
    again = ScheduledBackups(state, backups, backups, clock=lambda: NOW)
    await again.look()
    await asyncio.sleep(0)
    assert backups.begun == ["db", "db"], "it is due again at the next start"
    await again.close()


async def add_volumes(state: State, service: Service, **hours: float) -> None:
    plans = {
        name: BackupPlan(schedule="0 3 * * *", since=NOW - timedelta(hours=each), failure="it was down")
        for name, each in hours.items()
    }
    await state.commit(put(replace(service, backups=plans)))


async def test_volumes_have_their_turns_among_resources(state: State) -> None:
    backups = Backups()
    backups.go.set()
    scheduled = ScheduledBackups(state, backups, backups, clock=lambda: NOW)
    service = Service(
        deployment="foo",
        name="redis",
        definition=Definition(volumes={"data": "/srv", "done": "/done"}),
        current=1,
    )
    await add(state, "db", hours=5)
    await add_volumes(state, service, data=10, done=0.5, gone=100)
    for _ in range(2):
        await scheduled.look()
        await scheduled.idle()
    assert backups.begun == ["data", "db", "data", "db"], "until the records say that they were done"
    assert scheduled.problems() == [
        f"The last backup of the volume {each} of foo/redis by its schedule failed: "
        f"`volumes:schedule -a foo/redis {each}` tells why."
        for each in ("data", "done")
    ]


async def test_a_volume_of_what_never_served_rests(state: State) -> None:
    backups = Backups()
    backups.go.set()
    scheduled = ScheduledBackups(state, backups, backups, clock=lambda: NOW)
    service = Service(deployment="foo", name="redis", definition=Definition(volumes={"data": "/srv"}))
    await add_volumes(state, service, data=10)
    await scheduled.look()
    await scheduled.idle()
    assert (backups.begun, scheduled.problems()) == ([], [])
