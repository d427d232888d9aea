"""Containers that are started before their source is there: taken once, and gone where nobody takes them."""

import asyncio
from pathlib import Path

import pytest

from builder.early import MOST, EarlyContainers, Ready, identity
from builder.types import Expected
from controller.engine import EngineError


class Engine:
    """What the containers come from: names of those that are there."""

    def __init__(self) -> None:
        self.there = set[str]()
        self.ready = asyncio.Event()
        self.ready.set()
        self.broken = False

    async def start(self, name, expected):
        if self.broken:
            raise EngineError("It does not answer.")
        self.there.add(name)
        await self.ready.wait()
        return Ready(None, "image", expected.uid, identity(expected.cache))

    async def remove(self, name):
        self.there.discard(name)


@pytest.fixture
def engine():
    return Engine()


def expected(tmp_path, service="app"):
    return Expected(deployment="foo", service=service, cache=tmp_path, uid=1000)


async def test_one_that_is_expected_waits_and_is_taken_once(engine, tmp_path):
    early = EarlyContainers(engine.start, engine.remove)
    early.expect(expected(tmp_path))
    early.expect(expected(tmp_path))
    taken = early.take("foo", "app")
    assert taken is not None and early.take("foo", "app") is None
    await taken.ready
    assert engine.there == {taken.name}
    await early.close()
    assert engine.there == {taken.name}, "one that was taken is the taker's"


async def test_one_that_nobody_takes_goes_by_itself(engine, tmp_path):
    early = EarlyContainers(engine.start, engine.remove, kept_for=0.01)
    early.expect(expected(tmp_path))
    await asyncio.sleep(0)
    assert len(engine.there) == 1
    async with asyncio.timeout(5):
        while engine.there:
            await asyncio.sleep(0.01)
    assert early.take("foo", "app") is None


async def test_one_that_is_still_being_made_when_it_must_go_is_removed_afterwards(engine, tmp_path):
    engine.ready.clear()
    early = EarlyContainers(engine.start, engine.remove)
    early.expect(expected(tmp_path))
    await asyncio.sleep(0)
    closing = asyncio.create_task(early.close())
    await asyncio.sleep(0.01)
    assert not closing.done() and engine.there
    engine.ready.set()
    await asyncio.wait_for(closing, 5)
    assert not engine.there


async def test_few_wait_at_a_time(engine, tmp_path):
    early = EarlyContainers(engine.start, engine.remove)
    for number in range(MOST + 3):
        early.expect(expected(tmp_path, f"app-{number}"))
    await asyncio.sleep(0)
    assert len(engine.there) == MOST
    await early.close()
    assert not engine.there


async def test_an_engine_that_does_not_answer_is_the_takers_to_find_out(engine, tmp_path):
    engine.broken = True
    early = EarlyContainers(engine.start, engine.remove)
    early.expect(expected(tmp_path))
    early.expect(expected(tmp_path, "other"))
    await asyncio.sleep(0)
    taken = early.take("foo", "app")
    with pytest.raises(EngineError):
        await taken.ready
    await early.close()


def test_it_fits_only_what_would_be_made_now(tmp_path):
    cache = tmp_path / "cache"
    cache.mkdir()
    ready = Ready(None, "image", 1000, identity(cache))
    assert ready.fits("image", 1000, cache)
    assert not ready.fits("another", 1000, cache) and not ready.fits("image", 1001, cache)
    cache.rename(tmp_path / "purged")
    assert not ready.fits("image", 1000, cache)
    cache.mkdir()
    assert not ready.fits("image", 1000, cache)
    assert identity(Path(tmp_path / "none")) is None


async def test_after_a_build_one_waits_for_the_next_push(engine, tmp_path):
    early = EarlyContainers(engine.start, engine.remove, kept_after=60.0, pause=0.01)
    early.linger(expected(tmp_path))
    assert early.take("foo", "app") is None, "what was built is to start first"
    early.linger(expected(tmp_path))
    await until(lambda: len(engine.there) == 1)
    assert (await early.take("foo", "app").ready).uid == 1000
    await early.close()


async def test_one_that_waits_for_anybody_makes_room_for_a_push(engine, tmp_path):
    early = EarlyContainers(engine.start, engine.remove, kept_after=60.0, pause=0.0)
    for number in range(MOST):
        early.linger(expected(tmp_path, f"built-{number}"))
    await until(lambda: len(engine.there) == MOST)
    for number in range(MOST + 1):
        early.expect(expected(tmp_path, f"pushed-{number}"))
    taken = [early.take("foo", f"pushed-{number}") for number in range(MOST + 1)]
    assert [each is not None for each in taken] == [True] * MOST + [False]
    await until(lambda: engine.there == {each.name for each in taken if each})
    await early.close()


async def test_none_waits_where_none_shall(engine, tmp_path):
    early = EarlyContainers(engine.start, engine.remove, pause=0.0)
    early.linger(expected(tmp_path))
    await asyncio.sleep(0.02)
    assert not engine.there
    await early.close()


async def until(true):
    async with asyncio.timeout(5):
        while not true():
            await asyncio.sleep(0.005)
