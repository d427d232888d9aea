"""A server that starts while its store does not answer."""

import asyncio
import contextlib

import httpx
import pytest

from cli import waiting
from cli.waiting import Stopped, once_it_answers
from controller.store.base import StoreUnavailable, StoreUnusable


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    monkeypatch.setattr(waiting, "RETRY", 0.001)


class Store:
    """Does not answer the first times."""

    def __init__(self, silent=0, error=StoreUnavailable):
        self.silent = silent
        self.error = error
        self.asked = 0
        self.meanwhile = None

    async def open(self):
        self.asked += 1
        if self.asked <= self.silent:
            raise self.error("etcd at 10.0.0.1:2379 can't be reached.")
        return "opened"

    @contextlib.asynccontextmanager
    async def serving(self, app):
        self.meanwhile = app
        try:
            yield
        finally:
            self.meanwhile = None

    async def opened(self, *, patience=60.0, stopped=None):
        return await once_it_answers(
            self.open, patience=patience, stopped=stopped or asyncio.Event(), serving=self.serving
        )


async def test_store_that_answers_is_opened_at_once():
    store = Store()
    assert (await store.opened(), store.asked) == ("opened", 1)


async def test_store_that_comes_later_is_waited_for():
    store = Store(silent=3)
    assert (await store.opened(), store.asked, store.meanwhile) == ("opened", 4, None)


async def test_waiting_ends_with_what_was_waited_for():
    with pytest.raises(
        StoreUnavailable, match=r"10\.0\.0\.1:2379 can't be reached\. It was waited for 0\.01 s"
    ):
        await Store(silent=10**6).opened(patience=0.01)


async def test_store_that_is_of_no_use_is_not_waited_for():
    store = Store(silent=1, error=StoreUnusable)
    with pytest.raises(StoreUnusable):
        await store.opened()
    assert store.asked == 1


async def test_server_that_waits_can_be_stopped():
    stopped = asyncio.Event()
    store = Store(silent=10**6)
    waits = asyncio.create_task(store.opened(stopped=stopped))
    while store.asked < 2:
        await asyncio.sleep(0)
    stopped.set()
    with pytest.raises(Stopped):
        await waits
    assert store.meanwhile is None


async def test_requests_are_told_meanwhile_what_is_waited_for():
    store = Store(silent=10**6)
    waits = asyncio.create_task(store.opened())
    while store.meanwhile is None:
        await asyncio.sleep(0)
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(store.meanwhile), base_url="http://x"
    ) as client:
        answer = await client.get("/v1/services")
    waits.cancel()
    assert answer.status_code == 503
    assert answer.json()["code"] == "unavailable"
    assert "waits for its store" in answer.json()["detail"]
