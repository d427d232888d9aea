"""One server holds a store."""

import asyncio

import pytest

from cli.tenure import NAME, tenure
from controller.errors import Refused
from controller.store.base import StoreUnavailable
from controller.store.memory import MemoryStore


async def test_store_is_held_while_the_block_runs_and_free_afterwards():
    store = MemoryStore()
    async with tenure(store, "one"):
        assert await store.acquire(NAME, owner="two", ttl=1) is None
    assert await store.acquire(NAME, owner="two", ttl=1) is not None


async def test_store_that_another_server_holds_is_refused_after_a_wait():
    store = MemoryStore()
    async with tenure(store, "one"):
        with pytest.raises(Refused, match="Another server holds"):
            async with tenure(store, "two", ttl=0.02, margin=0.01):
                pass


async def test_server_that_was_killed_gets_its_store_back_at_once():
    store = MemoryStore()
    assert await store.acquire(NAME, owner="one", ttl=1000)
    async with tenure(store, "one", ttl=1000):
        pass


async def test_store_that_another_server_took_ends_the_tenure():
    store = MemoryStore()
    async with tenure(store, "one", ttl=0.04) as kept:
        store._leases.clear()
        assert await store.acquire(NAME, owner="two", ttl=1000)
        with pytest.raises(Refused):
            await asyncio.wait_for(kept, 5)


async def test_store_that_does_not_answer_is_asked_again():
    store = MemoryStore()
    async with tenure(store, "one", ttl=0.04) as kept:
        acquire, failures = store.acquire, []

        async def away(*_, **__):
            failures.append(1)
            raise StoreUnavailable("no answer")

        store._leases.clear()
        store.acquire = away
        while not failures:
            await asyncio.sleep(0.005)
        store.acquire = acquire
        while NAME not in store._leases:
            await asyncio.sleep(0.005)
        assert not kept.done()
