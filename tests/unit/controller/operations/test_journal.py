"""What happened: filtered, in pages, and followed for as long as the right to see it lasts."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from controller.errors import InvalidInput, MooringError, NotFound, Unauthenticated, Unavailable
from controller.operations.journal import Wanted
from controller.state import EventDraft, State, delete
from controller.store.memory import MemoryStore
from controller.types import Event, Right
from tests.unit.controller.world import ADMIN, World

OF_FOO = Wanted(deployment="foo")


async def happen(world: World, *kinds: str, deployment: str = "foo", service: str = "app") -> None:
    await world.state.commit(
        events=[EventDraft(kind=each, deployment=deployment, service=service) for each in kinds]
    )


def kinds(events) -> list[str]:
    return [each.kind for each in events]


class Reader:
    """Follows in a task of its own, and keeps what it was told."""

    def __init__(self, stream: AsyncIterator[Event]) -> None:
        self.got: list[Event] = []
        self.error: MooringError | None = None
        self._task = asyncio.create_task(self._read(stream))

    async def _read(self, stream: AsyncIterator[Event]) -> None:
        try:
            async for each in stream:
                self.got.append(each)
        except MooringError as error:
            self.error = error

    async def until(self, count: int) -> list[str]:
        async with asyncio.timeout(5):
            while len(self.got) < count:
                await asyncio.sleep(0.001)
        return kinds(self.got)

    async def end(self) -> MooringError | None:
        async with asyncio.timeout(5):
            await self._task
        return self.error


async def test_kinds_are_told_by_their_beginnings(world: World):
    await world.app()
    await happen(world, "version.live", "version.failed", "versions", "build.failed")
    listed = world.operations.journal.list
    for wanted, found in {
        ("version",): ["version.live", "version.failed"],
        ("version.live", "build"): ["version.live", "build.failed"],
        ("vers",): [],
    }.items():
        assert kinds(listed(ADMIN, Wanted(deployment="foo", kinds=wanted))) == found
    await happen(world, "other", service="api")
    assert kinds(listed(ADMIN, Wanted(deployment="foo", service="api"))) == ["other"]


async def test_pages_go_back_from_the_newest_and_on_from_the_oldest(world: World):
    await world.app()
    await happen(world, *"abcde")
    journal = world.operations.journal
    newest = journal.list(ADMIN, OF_FOO, limit=2)
    assert kinds(newest) == ["d", "e"]
    assert kinds(journal.list(ADMIN, OF_FOO, limit=2, before=newest[0].revision)) == ["b", "c"]
    assert kinds(journal.since(ADMIN, OF_FOO, after=newest[0].revision - 3, limit=2)) == ["b", "c"]


@pytest.mark.parametrize("wanted", [Wanted(service="app"), Wanted(kinds=["x"] * 21)])
async def test_off_questions_are_refused(world: World, wanted: Wanted):
    for ask in (world.operations.journal.list, world.operations.journal.follow):
        with pytest.raises(InvalidInput):
            ask(ADMIN, wanted)


async def test_a_revision_that_is_not_reached_yet_is_told_to_be_off(world: World):
    for ask in (world.operations.journal.since, world.operations.journal.follow):
        with pytest.raises(InvalidInput, match="another server") as caught:
            ask(ADMIN, after=world.state.last_event + 1)
        assert caught.value.field == "after"


async def test_following_begins_where_it_is_told_and_goes_on(world: World):
    await world.app()
    await happen(world, "a", "b")
    last = world.state.last_event
    follow = world.operations.journal.follow
    now, past, since = (
        Reader(follow(ADMIN, OF_FOO)),
        Reader(follow(ADMIN, OF_FOO, past=1)),
        Reader(follow(ADMIN, OF_FOO, after=last - 2)),
    )
    await happen(world, "c")
    assert await now.until(1) == ["c"]
    assert await past.until(2) == ["b", "c"]
    assert await since.until(3) == ["a", "b", "c"]
    await world.state.close()
    for each in (now, past, since):
        assert isinstance(await each.end(), Unavailable)


async def test_each_event_is_shown_to_those_who_may_see_it_at_that_moment(world: World):
    await world.app()
    await world.app("bar")
    robin = await world.user("robin", foo=Right.VIEW)
    reader = Reader(world.operations.journal.follow(robin))
    await happen(world, "a")
    await happen(world, "secret", deployment="bar")
    await happen(world, "whole server", deployment="", service="")
    await happen(world, "b")
    assert await reader.until(2) == ["a", "b"]
    await world.operations.users.grant(ADMIN, "robin", "bar", Right.VIEW)
    await happen(world, "c", deployment="bar")
    assert await reader.until(4) == ["a", "b", "user.rights", "c"]


async def test_it_ends_when_the_right_is_taken_away(world: World):
    await world.app()
    robin = await world.user("robin", foo=Right.VIEW)
    reader = Reader(world.operations.journal.follow(robin, OF_FOO))
    await happen(world, "a")
    await reader.until(1)
    await world.operations.users.grant(ADMIN, "robin", "foo", None)
    assert isinstance(await reader.end(), NotFound)
    assert kinds(reader.got) == ["a"]


@pytest.mark.parametrize("how", ["token", "user"])
async def test_it_ends_with_the_token_and_with_the_user_also_in_silence(
    world: World, how: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("controller.operations.following.CHECK", 0.01)
    await world.app()
    robin = await world.user("robin", foo=Right.VIEW)
    secret, token = await world.operations.credentials.create(robin)
    reader = Reader(
        world.operations.journal.follow(world.operations.credentials.authenticate(secret), OF_FOO)
    )
    await asyncio.sleep(0)
    # No event tells it, as if another process had done it.
    await world.state.commit(delete(token if how == "token" else robin.user))
    assert isinstance(await reader.end(), Unauthenticated)
    assert not reader.got


class TestTrimmed:
    """The journal of this state keeps ten, and is trimmed by hundreds."""

    @pytest.fixture
    async def state(self) -> AsyncIterator[State]:
        state = await State.open(MemoryStore(), journal_limit=10)
        yield state
        await state.close()

    async def fill(self, state: State, count: int) -> None:
        await state.commit(events=[EventDraft(kind=f"k{number}") for number in range(count)])

    async def test_what_is_gone_is_said_and_not_passed_over(self, state: State, world: World):
        await self.fill(state, 115)
        await self.fill(state, 1)
        assert state.trimmed_events == 100
        journal = type(world.operations.journal)(state, renew=lambda asker: asker)
        for found in (
            journal.since(ADMIN, after=40, limit=2),
            [await anext(stream) for stream in [journal.follow(ADMIN, after=40)] for _ in range(3)],
        ):
            first, *others = found
            assert (first.kind, first.revision, first.data) == (
                "journal.trimmed",
                100,
                {"first": 41, "last": 100},
            )
            assert [each.revision for each in others] == [101, 102]
        assert journal.since(ADMIN, after=100, limit=1)[0].revision == 101

    async def test_a_slow_reader_is_told_what_it_missed(self, state: State):
        await self.fill(state, 5)
        reader = state.follow_events(after=4)
        assert (await anext(reader)).revision == 5
        await self.fill(state, 150)
        await self.fill(state, 1)
        missed = await anext(reader)
        assert (missed.kind, missed.data) == ("journal.trimmed", {"first": 6, "last": 100})
        assert (await anext(reader)).revision == 101

    async def test_a_restarted_server_knows_what_is_gone(self):
        store = MemoryStore()
        before = await State.open(store, journal_limit=10)
        await self.fill(before, 115)
        await self.fill(before, 1)
        await before.close()
        after = await State.open(store, journal_limit=10)
        assert after.trimmed_events == 100
        await after.close()
