"""What keeps one client from taking the API away from the others."""

import asyncio
import json
from collections.abc import AsyncIterator

import httpx
import pytest
from fastapi import FastAPI

from controller.api.connections import Connection
from controller.api.limits import TimeLimit
from tests.unit.controller.world import ADMIN, World

HEALTH = b"GET /v1/health HTTP/1.1\r\nHost: x\r\n\r\n"


class Wire:
    """One connection, byte by byte."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self.writer = writer

    async def ask(self, data: bytes) -> bytes:
        """What comes back: up to the end of a small answer, or of the connection."""
        self.writer.write(data)
        async with asyncio.timeout(5):
            return await self._reader.read(65536)

    async def ended(self) -> bool:
        async with asyncio.timeout(5):
            try:
                return await self._reader.read() is not None
            except ConnectionError:
                return True


@pytest.fixture
async def wires(url: str) -> AsyncIterator[list[Wire]]:
    """To be filled by `opened`."""
    made: list[Wire] = []
    yield made
    for each in made:
        each.writer.close()


@pytest.fixture
def opened(url: str, wires: list[Wire]):
    async def open_one() -> Wire:
        host, port = url.removeprefix("http://").split(":")
        wires.append(Wire(*await asyncio.open_connection(host, int(port))))
        return wires[-1]

    return open_one


class TestHeads:
    @pytest.fixture(autouse=True)
    def impatient(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(Connection, "head_timeout", 0.1)

    async def test_a_connection_that_asks_nothing_ends(self, opened):
        assert await (await opened()).ended()

    async def test_a_head_that_trickles_in_does_not_keep_it_open(self, opened):
        wire = await opened()
        wire.writer.write(HEALTH[:20])
        for byte in HEALTH[20:-1]:
            if wire.writer.is_closing() or wire._reader.at_eof():
                break
            wire.writer.write(bytes([byte]))
            await asyncio.sleep(0.01)
        assert await wire.ended()

    async def test_nor_does_the_second_one(self, opened):
        wire = await opened()
        assert b"200 OK" in await wire.ask(HEALTH)
        wire.writer.write(HEALTH[:20])
        assert await wire.ended()

    async def test_a_stream_is_not_cut(self, opened, world: World):
        wire = await opened()
        token = world.sessions.mint(ADMIN.name)
        wire.writer.write(
            f"GET /v1/events HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n"
            f"Authorization: Bearer {token}\r\n\r\n".encode()
        )
        await asyncio.sleep(0.3)
        assert not wire._reader.at_eof()
        assert b"200 OK" in await wire._reader.read(1000)


async def test_two_requests_at_once_are_both_answered(opened):
    wire = await opened()
    answered = await wire.ask(HEALTH + HEALTH)
    while answered.count(b"200 OK") < 2:
        answered += await wire.ask(b"")


async def test_the_longest_idle_gives_way_to_a_new_one(opened, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Connection, "most", 2)
    first, second = await opened(), await opened()
    for each in (first, second):
        assert b"200 OK" in await each.ask(HEALTH)
    assert b"200 OK" in await (await opened()).ask(HEALTH)
    assert await first.ended()
    assert b"200 OK" in await second.ask(HEALTH)


async def test_where_all_are_at_work_a_new_one_is_told_so(
    opened, monkeypatch: pytest.MonkeyPatch, app: FastAPI, world: World
):
    monkeypatch.setattr(Connection, "most", 1)
    token = world.sessions.mint(ADMIN.name)
    busy = await opened()
    head = f"GET /v1/events HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\nAuthorization: Bearer {token}\r\n\r\n"
    assert b"200 OK" in await busy.ask(head.encode())
    head, _, body = (await (await opened()).ask(HEALTH)).decode().partition("\r\n\r\n")
    assert head.startswith("HTTP/1.1 503 Service Unavailable")
    assert json.loads(body)["code"] == "unavailable"


@pytest.mark.parametrize(
    "request_",
    [b"nonsense\r\n\r\n", b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 70_000],
    ids=["no http", "a large head"],
)
async def test_what_is_no_request_is_told_so(opened, request_: bytes):
    head, _, body = (await (await opened()).ask(request_)).decode().partition("\r\n\r\n")
    assert head.startswith("HTTP/1.1 400")
    assert "application/problem+json" in head
    assert json.loads(body)["status"] == 400


async def test_a_reader_that_does_not_read_is_left(
    opened, world: World, monkeypatch: pytest.MonkeyPatch, app: FastAPI
):
    monkeypatch.setattr(Connection, "write_timeout", 0.1)
    await world.app()

    class Endless:
        async def lines(self) -> AsyncIterator[dict[str, str]]:
            while True:
                yield {"text": "x" * 100_000}

    monkeypatch.setattr(world.operations.journal, "follow", lambda *_, **__: Endless().lines())
    wire = await opened()
    token = world.sessions.mint(ADMIN.name)
    wire.writer.transport.pause_reading()
    wire.writer.write(
        f"GET /v1/events HTTP/1.1\r\nHost: x\r\nAccept: application/x-ndjson\r\n"
        f"Authorization: Bearer {token}\r\n\r\n".encode()
    )
    async with asyncio.timeout(10):
        while not app.state.streams._open:
            await asyncio.sleep(0.005)
        while app.state.streams._open:
            await asyncio.sleep(0.005)


async def test_what_does_not_get_done_is_answered(
    http: httpx.AsyncClient, app: FastAPI, world: World, monkeypatch: pytest.MonkeyPatch
):
    messages = []

    async def stuck(scope, receive, send):
        await asyncio.Event().wait()

    async def send(message):
        messages.append(message)

    scope = {"type": "http", "method": "GET", "path": "/", "headers": []}
    await TimeLimit(stuck, limit=0.01)(scope, None, send)
    assert messages[0]["status"] == 503
    assert b'"code":"unavailable"' in messages[1]["body"]


async def test_what_has_begun_may_go_on():
    messages = []

    async def streams(scope, receive, send):
        await send({"type": "http.response.start", "status": 200})
        await asyncio.sleep(0.05)
        await send({"type": "http.response.body"})

    async def send(message):
        messages.append(message["type"])

    await TimeLimit(streams, limit=0.01)({"type": "http"}, None, send)
    assert messages == ["http.response.start", "http.response.body"]


async def test_a_time_limit_further_in_is_not_ours():
    async def fails(scope, receive, send):
        raise TimeoutError

    with pytest.raises(TimeoutError):
        await TimeLimit(fails)({"type": "http"}, None, None)
