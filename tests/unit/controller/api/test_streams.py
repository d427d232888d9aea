"""Answers that go on: signs of life, ends, errors on the way, and clients that leave."""

import asyncio
from collections.abc import AsyncGenerator
from datetime import UTC, datetime

import httpx
import pytest

from controller.client import Client
from controller.errors import Refused, Unavailable
from controller.logs.query import LogQuery, LogStream, Pattern
from controller.types import LogLine, LogSource
from tests.factories import instance, log_line
from tests.unit.controller.world import ADMIN, FOO, World

LOGS = "/v1/deployments/foo/services/app/logs?source=app"
APP = (LogSource.APP,)


class Logs:
    """Prints what it was given, then waits for ever or fails."""

    def __init__(self, *lines: str, error: Exception | None = None) -> None:
        self.lines = lines
        self.error = error
        self.asked: LogQuery | None = None
        self.closed = asyncio.Event()

    def logs(self, query: LogQuery) -> LogStream:
        self.asked = query
        return self

    async def past(self) -> AsyncGenerator[LogLine, None]:
        for each in self.lines:
            yield log_line(each)
        if self.error:
            raise self.error

    async def following(self) -> AsyncGenerator[LogLine, None]:
        try:
            while True:
                await asyncio.sleep(3600)
                yield log_line()
        finally:
            self.closed.set()


@pytest.fixture
async def ready(world: World) -> World:
    await world.app()
    return world


async def test_lines_come_whole_and_in_order(ready: World, client: Client):
    ready.runtime.backend = logs = Logs("one", "zwei\u2028é", "x" * 200_000)
    got = [each.text async for each in client.logs(FOO, sources=APP, lines=7)]
    assert got == list(logs.lines)
    assert logs.asked
    assert (logs.asked.lines, logs.asked.deployment, logs.asked.sources) == (7, "foo", {LogSource.APP})


async def test_silence_is_broken_by_signs_of_life(ready: World, url: str):
    ready.runtime.backend = Logs("one")
    headers = {"Authorization": f"Bearer {ready.sessions.mint(ADMIN.name)}"}
    got = b""
    async with (
        httpx.AsyncClient(base_url=url, headers=headers) as http,
        http.stream("GET", f"{LOGS}&follow=true") as answer,
    ):
        assert answer.headers["content-type"] == "application/x-ndjson"
        async for chunk in answer.aiter_raw():
            got += chunk
            if got.endswith(b"\n\n\n"):
                break
    assert got.count(b"{") == 1


async def test_a_client_that_leaves_ends_it_at_once(ready: World, client: Client):
    ready.runtime.backend = logs = Logs("one")
    lines = client.logs(FOO, sources=APP, follow=True)
    assert (await anext(lines)).text == "one"
    await lines.aclose()
    async with asyncio.timeout(2):
        await logs.closed.wait()


async def test_an_error_on_the_way_reaches_the_client(ready: World, client: Client):
    ready.runtime.backend = Logs("one", error=Unavailable("The backend went away."))
    got = []
    with pytest.raises(Unavailable, match="The backend went away"):
        async for each in client.logs(FOO, sources=APP, since="10m"):
            got.append(each.text)
    assert got == ["one"]


async def test_an_error_before_the_first_line_has_its_true_status(ready: World, client: Client, http):
    answer = await http.get(LOGS)
    assert answer.status_code == 409
    with pytest.raises(Refused, match="keeps no logs"):
        await anext(client.logs(FOO, sources=APP))


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("lines=-1", 422),
        ("lines=10001", 422),
        ("instance=x", 404),
        ("instance=foo-app-x-web-1", 404),
        ("source=apps", 422),
        ("since=yesterday", 422),
        ("until=2026-13-01", 422),
        ("follow=true&until=1m", 422),
        ("text=" + "x" * 1001, 422),
    ],
)
async def test_off_questions_are_refused(ready: World, http: httpx.AsyncClient, query: str, status: int):
    ready.runtime.backend = Logs()
    answer = await http.get(f"{LOGS.partition('?')[0]}?{query}")
    assert answer.status_code == status
    if status == 422:
        assert answer.json()["field"] == query.partition("=")[0].replace("follow", "until")


async def test_all_filters_reach_those_who_read(ready: World, client: Client):
    ready.runtime.backend = logs = Logs("one")
    stream = client.logs(
        FOO,
        sources=(LogSource.APP, LogSource.ROUTER),
        process="web.1",
        instance="foo-app-7-web-1",
        since="2026-01-01",
        until="2026-01-02T03:04:05+01:00",
        text="a*b",
    )
    assert [each.text async for each in stream] == ["one"]
    assert logs.asked == LogQuery(
        deployment="foo",
        service="app",
        sources=frozenset({LogSource.APP, LogSource.ROUTER}),
        process="web.1",
        instance="foo-app-7-web-1",
        since=datetime(2026, 1, 1, tzinfo=UTC),
        until=datetime(2026, 1, 2, 2, 4, 5, tzinfo=UTC),
        pattern=Pattern("a*b"),
        lines=None,
    )


async def test_web_is_the_unnamed_process_type_of_a_service_that_has_no_other(ready: World, client: Client):
    ready.runtime.backend = logs = Logs("one")
    ready.runtime.running = [instance(process_type="")]
    assert [each.text async for each in client.logs(FOO, sources=APP, process="web.2")] == ["one"]
    assert logs.asked
    assert logs.asked.process == "app.2"


async def test_many_who_follow_see_the_same_end(ready: World, client: Client):
    await ready.push()
    following = [asyncio.create_task(_last(client)) for _ in range(20)]
    await asyncio.sleep(0.1)
    await ready.live()
    async with asyncio.timeout(5):
        assert {(await each) for each in following} == {"v1 serves"}


async def _last(client: Client) -> str:
    return [step.text async for step in client.follow(FOO, 1)][-2]
