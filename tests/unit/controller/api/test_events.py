"""Events by each of their doors: pages, NDJSON, server-sent events, a websocket."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from controller.api.limits import OpenStreams
from controller.client import Client
from controller.errors import InvalidInput, Throttled, Unavailable
from controller.state import EventDraft
from controller.types import Right
from tests.unit.controller.world import ADMIN, World


@pytest.fixture
async def ready(world: World) -> World:
    await world.app()
    await happen(world, *"abcde")
    return world


async def happen(world: World, *kinds: str) -> None:
    await world.state.commit(
        events=[EventDraft(kind=each, deployment="foo", service="app") for each in kinds]
    )


def bearer(world: World, name: str = ADMIN.name) -> dict[str, str]:
    return {"Authorization": f"Bearer {world.sessions.mint(name)}"}


@asynccontextmanager
async def sse(url: str, query: str = "", **headers: str) -> AsyncIterator[AsyncIterator[dict[str, str]]]:
    """The events of a stream as browsers read them; comments have only `comment`."""

    async def events(answer: httpx.Response) -> AsyncIterator[dict[str, str]]:
        fields: dict[str, str] = {}
        async for line in answer.aiter_lines():
            if line.startswith(":"):
                fields["comment"] = line
            elif line:
                name, _, value = line.partition(": ")
                fields[name] = value
            else:
                yield fields
                fields = {}

    headers = {"Accept": "text/event-stream", **headers}
    async with (
        httpx.AsyncClient(timeout=5) as http,
        http.stream("GET", f"{url}/v1/events{query}", headers=headers) as answer,
    ):
        assert answer.status_code == 200, await answer.aread()
        assert answer.headers["content-type"].startswith("text/event-stream")
        yield events(answer)


async def test_server_sent_events_have_their_revision_and_kind(ready: World, url: str):
    last = ready.state.last_event
    async with sse(url, "?deployment=foo&limit=2", **bearer(ready)) as events:
        got = [await anext(events), await anext(events)]
        assert [(each["id"], each["event"]) for each in got] == [(str(last - 1), "d"), (str(last), "e")]
        assert json.loads(got[0]["data"])["deployment"] == "foo"
        assert await anext(events) == {"comment": ":"}
        await happen(ready, "f")
        async for event in events:
            if "event" in event:
                assert event["event"] == "f"
                break


async def test_a_browser_that_comes_back_gets_what_it_missed(ready: World, url: str):
    last = ready.state.last_event
    headers = {**bearer(ready), "Last-Event-ID": str(last - 2)}
    async with sse(url, "?after=1", **headers) as events:
        assert [(await anext(events))["event"] for _ in range(2)] == ["d", "e"]


async def test_a_stream_tells_why_it_ends(ready: World, url: str):
    await ready.user("robin", foo=Right.VIEW)
    async with sse(url, "?deployment=foo", **bearer(ready, "robin")) as events:
        await ready.operations.users.grant(ADMIN, "robin", "foo", None)
        told = [each async for each in events if "comment" not in each]
    assert [each["event"] for each in told] == ["problem"]
    assert json.loads(told[0]["data"])["code"] == "not-found"


async def test_the_client_follows_from_where_it_was_told(ready: World, client: Client):
    last = ready.state.last_event
    stream = client.follow_events(deployment="foo", kinds=["d", "f"], after=last - 4)
    assert (await anext(stream)).kind == "d"
    await happen(ready, "e", "f")
    assert (await anext(stream)).kind == "f"
    await stream.aclose()
    stream = client.follow_events(past=2)
    assert [(await anext(stream)).kind for _ in range(2)] == ["e", "f"]
    await stream.aclose()


async def test_the_client_goes_on_after_a_lost_connection(ready: World, client: Client, monkeypatch):
    monkeypatch.setattr("controller.client.RECONNECT", 0.01)
    whole = client._stream

    async def broken(kind: Any, path: str, opened: Any, /, **params: Any) -> AsyncIterator[Any]:
        monkeypatch.setattr(client, "_stream", whole)
        async for each in whole(kind, path, opened, **params):
            yield each
            raise Unavailable("The connection was lost.")

    monkeypatch.setattr(client, "_stream", broken)
    stream = client.follow_events(past=1)
    assert (await anext(stream)).kind == "e"
    await happen(ready, "f")
    async with asyncio.timeout(5):
        assert (await anext(stream)).kind == "f"
    await stream.aclose()


async def test_the_client_gives_up_at_once_where_nobody_answers(world: World):
    async with Client("http://127.0.0.1:9", "x") as client:
        with pytest.raises(Unavailable):
            await anext(client.follow_events(after=1))


async def test_off_questions_are_refused_before_anything_streams(ready: World, client: Client, http):
    for query in ("?after=-1", "?after=x", "?limit=0", "?service=app", "?after=99999", "?cursor=x"):
        answer = await http.get(f"/v1/events{query}")
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid-input"), query
    with pytest.raises(InvalidInput, match="another server"):
        await anext(client.follow_events(after=99999))
    answer = await http.get("/v1/events", headers={"Last-Event-ID": "x"})
    assert answer.status_code == 422


async def test_pages_lead_on_in_both_directions(ready: World, client: Client, http: httpx.AsyncClient):
    older = await http.get("/v1/events?deployment=foo&limit=2")
    assert [each["kind"] for each in older.json()] == ["d", "e"]
    await happen(ready, "f")
    older = await http.get(older.links["next"]["url"])
    assert [each["kind"] for each in older.json()] == ["b", "c"]
    later = await http.get(f"/v1/events?after={older.json()[0]['revision']}&limit=2")
    assert [each["kind"] for each in later.json()] == ["c", "d"]
    later = await http.get(later.links["next"]["url"])
    assert [each["kind"] for each in later.json()] == ["e", "f"]
    assert "next" not in later.links
    everything = [each.revision for each in await client.events(limit=1000)]
    assert everything == list(range(1, ready.state.last_event + 1))
    for mode in ({}, {"after": 0}):
        by_twos = [each async for page in client._pages(dict, "/v1/events", None, **mode) for each in page]
        assert sorted(each["revision"] for each in by_twos) == everything


class TestSocket:
    def open(self, url: str, query: str = "", **headers: str) -> connect:
        address = f"{url.replace('http:', 'ws:')}/v1/events/ws{query}"
        return connect(address, additional_headers=headers, proxy=None)

    async def kinds(self, socket: ClientConnection, count: int) -> list[str]:
        async with asyncio.timeout(5):
            return [json.loads(await socket.recv())["kind"] for _ in range(count)]

    async def test_events_come_as_json(self, ready: World, url: str):
        last = ready.state.last_event
        async with self.open(url, f"?deployment=foo&after={last - 1}", **bearer(ready)) as socket:
            assert await self.kinds(socket, 1) == ["e"]
            await happen(ready, "f", "g")
            assert await self.kinds(socket, 2) == ["f", "g"]

    @pytest.mark.parametrize(
        ("query", "status", "code"),
        [
            ("?deployment=nothing", 404, "not-found"),
            ("?after=x", 422, "invalid-input"),
            ("?after=99999", 422, "invalid-input"),
        ],
    )
    async def test_a_refusal_is_a_problem_with_its_status(
        self, ready: World, url: str, query: str, status: int, code: str
    ):
        await ready.user("robin", foo=Right.VIEW)
        with pytest.raises(InvalidStatus) as caught:
            async with self.open(url, query, **bearer(ready, "robin")):
                pass
        assert caught.value.response.status_code == status
        assert json.loads(caught.value.response.body)["code"] == code

    async def test_without_a_token_it_is_closed(self, ready: World, url: str):
        with pytest.raises(InvalidStatus) as caught:
            async with self.open(url):
                pass
        assert caught.value.response.status_code == 401
        assert caught.value.response.headers["content-type"] == "application/problem+json"

    async def test_it_ends_with_the_right_and_says_so(self, ready: World, url: str):
        await ready.user("robin", foo=Right.VIEW)
        async with self.open(url, "?deployment=foo", **bearer(ready, "robin")) as socket:
            await ready.operations.users.grant(ADMIN, "robin", "foo", None)
            async with asyncio.timeout(5):
                assert json.loads(await socket.recv())["problem"]["code"] == "not-found"
                with pytest.raises(ConnectionClosed):
                    await socket.recv()
            assert socket.close_code == 1008

    async def test_a_client_that_leaves_ends_it(self, ready: World, url: str, app):
        async with self.open(url, **bearer(ready)):
            assert app.state.streams._open == {ADMIN.name: 1}
        async with asyncio.timeout(5):
            while app.state.streams._open:
                await asyncio.sleep(0.005)


class TestOpenStreams:
    async def test_one_user_has_a_bounded_number(self, ready: World, url: str, app, client: Client):
        app.state.streams = OpenStreams(of_one=1)
        async with sse(url, "?limit=1", **bearer(ready)) as events:
            await anext(events)
            with pytest.raises(Throttled, match="ann follows 1 things at once already"):
                await anext(client.follow_events())
            await ready.user("robin", foo=Right.VIEW)
            async with sse(url, "?limit=1", **bearer(ready, "robin")) as others:
                assert (await anext(others))["event"]
            with pytest.raises(InvalidStatus) as caught:
                async with TestSocket().open(url, **bearer(ready)):
                    pass
            assert caught.value.response.status_code == 429
        async with asyncio.timeout(5):
            while app.state.streams._open:
                await asyncio.sleep(0.005)
        stream = client.follow_events(past=1)
        await anext(stream)
        await stream.aclose()

    def test_all_together_are_bounded_too(self):
        streams = OpenStreams(total=1)
        with streams.take("a"), pytest.raises(Throttled, match="busy"), streams.take("b"):
            pass
