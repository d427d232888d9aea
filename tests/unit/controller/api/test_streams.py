"""Answers that go on: signs of life, ends, errors on the way, and clients that leave."""

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from controller.client import Client
from controller.errors import Refused, Unavailable
from controller.types import LogLine, LogSource
from tests.factories import instance
from tests.unit.controller.world import ADMIN, FOO, World

LOGS = "/v1/deployments/foo/services/app/logs"


def line(text: str) -> LogLine:
    return LogLine(
        time=datetime(2026, 1, 1, tzinfo=UTC), source=LogSource.APP, instance="i", process="web.1", text=text
    )


class Logs:
    """Prints what it was given, then waits for ever or fails."""

    def __init__(self, *lines: str, error: Exception | None = None, follow: bool = True) -> None:
        self.lines = lines
        self.error = error
        self.follow = follow
        self.asked: dict[str, Any] = {}
        self.closed = asyncio.Event()

    def logs(self, **asked: Any) -> AsyncIterator[LogLine]:
        self.asked = asked
        return self._lines()

    async def _lines(self) -> AsyncIterator[LogLine]:
        try:
            for each in self.lines:
                yield line(each)
            if self.error:
                raise self.error
            if self.follow:
                await asyncio.Event().wait()
        finally:
            self.closed.set()


@pytest.fixture
async def ready(world: World) -> World:
    await world.app()
    return world


async def test_lines_come_whole_and_in_order(ready: World, client: Client):
    ready.runtime.backend = logs = Logs("one", "zwei\u2028é", "x" * 200_000, follow=False)
    got = [each.text async for each in client.logs(FOO, lines=7)]
    assert got == list(logs.lines)
    assert (logs.asked["lines"], logs.asked["follow"], logs.asked["deployment"]) == (7, False, "foo")


async def test_silence_is_broken_by_signs_of_life(ready: World, url: str):
    ready.runtime.backend = Logs("one")
    headers = {"Authorization": f"Bearer {ready.sessions.mint(ADMIN.name)}"}
    got = b""
    async with httpx.AsyncClient(base_url=url, headers=headers) as http, http.stream("GET", LOGS) as answer:
        assert answer.headers["content-type"] == "application/x-ndjson"
        async for chunk in answer.aiter_raw():
            got += chunk
            if got.endswith(b"\n\n\n"):
                break
    assert got.count(b"{") == 1


async def test_a_client_that_leaves_ends_it_at_once(ready: World, client: Client):
    ready.runtime.backend = logs = Logs("one")
    lines = client.logs(FOO, follow=True)
    assert (await anext(lines)).text == "one"
    left = time.monotonic()
    await lines.aclose()
    async with asyncio.timeout(2):
        await logs.closed.wait()
    assert time.monotonic() - left < 0.5


async def test_an_error_on_the_way_reaches_the_client(ready: World, client: Client):
    ready.runtime.backend = Logs("one", error=Unavailable("The backend went away."))
    got = []
    with pytest.raises(Unavailable, match="The backend went away"):
        async for each in client.logs(FOO):
            got.append(each.text)
    assert got == ["one"]


async def test_an_error_before_the_first_line_has_its_true_status(ready: World, client: Client, http):
    answer = await http.get(LOGS)
    assert answer.status_code == 409
    with pytest.raises(Refused, match="keeps no logs"):
        await anext(client.logs(FOO))


@pytest.mark.parametrize(("query", "status"), [("lines=-1", 422), ("lines=100001", 422), ("instance=x", 404)])
async def test_off_questions_are_refused(ready: World, http: httpx.AsyncClient, query: str, status: int):
    ready.runtime.backend = Logs()
    assert (await http.get(f"{LOGS}?{query}")).status_code == status


async def test_one_instance_can_be_asked_for(ready: World, client: Client):
    ready.runtime.backend = logs = Logs("one", follow=False)
    ready.runtime.running = [instance()]
    assert [each.text async for each in client.logs(FOO, instance="foo-app-1-web-1")] == ["one"]
    assert logs.asked["instance"] == "foo-app-1-web-1"


async def test_many_who_follow_see_the_same_end(ready: World, client: Client):
    await ready.push()
    following = [asyncio.create_task(_last(client)) for _ in range(20)]
    await asyncio.sleep(0.1)
    await ready.live()
    async with asyncio.timeout(5):
        assert {(await each) for each in following} == {"v1 serves"}


async def _last(client: Client) -> str:
    return [step.text async for step in client.follow(FOO, 1)][-2]
