"""A request with an Idempotency-Key is carried out once, whatever becomes of its answer."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import httpx
import pytest
from fastapi import FastAPI

from controller.api.app import create_app
from controller.client import Client
from controller.errors import AnswerLost, Unavailable
from controller.operations.receipts import KEPT, Receipts
from controller.state import State, delete, put
from controller.store.base import StoreUnavailable
from controller.types import Receipt, Right
from controller.wire import encode
from tests.unit.controller.world import ADMIN, FOO, World

SCALE = "/v1/deployments/foo/services/app/scale"


@pytest.fixture
async def ready(world: World) -> World:
    await world.app()
    await world.push()
    await world.live()
    return world


def key() -> dict[str, str]:
    return {"Idempotency-Key": str(uuid4())}


async def test_the_same_again_is_answered_alike_and_done_once(ready: World, http: httpx.AsyncClient):
    same, body = key(), {"changes": {"web": "+1"}}
    first = await http.patch(SCALE, json=body, headers=same)
    again = await http.patch(SCALE, json=body, headers=same)
    assert (first.status_code, first.json()["process_types"]) == (200, {"web": 2})
    assert (again.status_code, again.content) == (200, first.content)
    assert again.headers["content-type"] == first.headers["content-type"]
    assert again.headers["idempotency-replayed"] == "true"
    assert "idempotency-replayed" not in first.headers
    assert (await http.patch(SCALE, json=body)).json()["process_types"] == {"web": 3}


async def test_the_status_is_the_same_too(world: World, http: httpx.AsyncClient):
    same = key()
    for _ in range(2):
        answer = await http.post("/v1/deployments", json={"name": "foo"}, headers=same)
        assert (answer.status_code, answer.json()["name"]) == (201, "foo")
    build = (await http.post("/v1/deployments/foo/services", json={"name": "app"})).status_code
    assert build == 200


async def test_a_key_belongs_to_one_request(ready: World, http: httpx.AsyncClient):
    same = key()
    await http.patch(SCALE, json={"changes": {"web": "+1"}}, headers=same)
    for other in (
        http.patch(SCALE, json={"changes": {"web": "+2"}}, headers=same),
        http.post("/v1/deployments", json={"name": "bar"}, headers=same),
        http.patch(f"{SCALE}?x=1", json={"changes": {"web": "+1"}}, headers=same),
    ):
        answer = await other
        assert (answer.status_code, answer.json()["code"]) == (422, "key-reused")


async def test_a_key_is_its_users_own(ready: World, http: httpx.AsyncClient, app: FastAPI):
    same, body = key(), {"changes": {"web": "+1"}}
    await http.patch(SCALE, json=body, headers=same)
    await ready.user("robin", foo=Right.OPERATE)
    narrow, _ = await ready.operations.credentials.create(ADMIN, right=Right.VIEW)
    for secret, status in ((ready.sessions.mint("robin"), 200), (narrow, 403)):
        answer = await http.patch(SCALE, json=body, headers={**same, "Authorization": f"Bearer {secret}"})
        assert answer.status_code == status
        assert "idempotency-replayed" not in answer.headers


async def test_errors_are_not_kept(world: World, http: httpx.AsyncClient):
    same = key()
    path, body = "/v1/deployments/foo/services", {"name": "app"}
    assert (await http.post(path, json=body, headers=same)).status_code == 404
    await world.operations.deployments.create(ADMIN, "foo")
    assert (await http.post(path, json=body, headers=same)).status_code == 200


@pytest.mark.parametrize("off", ["", "short", "x" * 256, "é" * 20])
async def test_an_off_key_is_refused(ready: World, http: httpx.AsyncClient, off: str):
    answer = await http.patch(
        SCALE, json={"changes": {"web": "+1"}}, headers={"Idempotency-Key": off.encode()}
    )
    assert (answer.status_code, answer.json()["field"]) == (422, "Idempotency-Key")
    assert not ready.state.receipts()


async def test_reading_takes_no_key(ready: World, http: httpx.AsyncClient):
    await http.get("/v1/me", headers=key())
    assert not ready.state.receipts()


async def test_a_second_one_waits_for_the_first(ready: World, http: httpx.AsyncClient):
    same, body = key(), {"changes": {"web": "+1"}}
    answers = await asyncio.gather(*(http.patch(SCALE, json=body, headers=same) for _ in range(5)))
    assert {each.content for each in answers} == {answers[0].content}
    assert sum("idempotency-replayed" in each.headers for each in answers) == 4
    assert ready.operations.receipts._turns == {}


async def test_it_holds_over_a_restart_of_the_server(ready: World, http: httpx.AsyncClient):
    same, body = key(), {"changes": {"web": "+1"}}
    first = await http.patch(SCALE, json=body, headers=same)
    restarted = create_app(ready.operations)
    ready.operations.receipts._state = await State.open(ready.state._store)
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(restarted), base_url="http://test", headers=http.headers
    ) as later:
        assert (await later.patch(SCALE, json=body, headers=same)).content == first.content
    await ready.operations.receipts._state.close()


async def test_a_server_killed_before_it_answered_does_not_do_it_again(
    ready: World, http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
):
    async def killed(*_: object) -> None:
        raise StoreUnavailable("killed")

    same, body = key(), {"changes": {"web": "+1"}}
    with monkeypatch.context() as patch:
        patch.setattr(Receipts, "keep", killed)
        assert (await http.patch(SCALE, json=body, headers=same)).status_code == 200
    again = await http.patch(SCALE, json=body, headers=same)
    assert (again.status_code, again.json()["code"]) == (409, "answer-lost")
    assert ready.state.service("foo", "app").scale == {"web": 2}


async def test_what_a_request_leaves_behind_later_is_not_its_receipts_matter(ready: World):
    """A task that it started may write long after its end."""
    begun = asyncio.Event()

    async def later() -> None:
        await begun.wait()
        await ready.state.commit(put((await ready.user("sam")).user))

    receipt = Receipt(id="r", user="ann", fingerprint="f", created_at=datetime.now(UTC))
    with ready.state.along(receipt):
        task = asyncio.create_task(later())
    begun.set()
    await task
    assert ready.state.receipt("r") is None


async def test_secrets_of_answers_are_kept_nowhere_in_the_clear(world: World, http: httpx.AsyncClient):
    same, body = key(), {"description": "build server"}
    made = await http.post("/v1/tokens", json=body, headers=same)
    again = await http.post("/v1/tokens", json=body, headers=same)
    secret = made.json()["secret"]
    assert again.json() == made.json()
    assert len(world.state.tokens()) == 1
    entries, _ = await world.state._store.list("")
    everything = encode([each.value for each in entries]).decode()
    assert secret not in everything + repr(world.state.receipts())
    assert same["Idempotency-Key"] not in everything
    assert "build server" not in repr(world.state.receipts())


async def test_a_large_answer_is_known_to_be_given_and_not_kept(
    ready: World, http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("controller.operations.receipts.MAX_ANSWER", 10)
    same, body = key(), {"changes": {"web": "+1"}}
    assert (await http.patch(SCALE, json=body, headers=same)).status_code == 200
    assert (await http.patch(SCALE, json=body, headers=same)).json()["code"] == "answer-lost"


async def test_receipts_are_bounded_and_end(ready: World, monkeypatch: pytest.MonkeyPatch, http):
    monkeypatch.setattr("controller.operations.receipts.MAX_OF_ONE", 3)
    for _ in range(5):
        await http.post("/v1/tokens", json={}, headers=key())
    assert len(ready.state.receipts()) == 3
    await ready.user("robin")
    monkeypatch.setattr("controller.operations.receipts.MAX", 3)
    headers = {**key(), "Authorization": f"Bearer {ready.sessions.mint('robin')}"}
    await http.post("/v1/tokens", json={}, headers=headers)
    assert [each.user for each in ready.state.receipts()] == ["ann", "ann", "robin"]
    await ready.operations.receipts.tidy()
    assert len(ready.state.receipts()) == 3
    now = datetime.now(UTC) + KEPT + timedelta(seconds=1)
    await Receipts(ready.state, clock=lambda: now).tidy()
    assert not ready.state.receipts()


async def test_after_a_day_a_key_is_new_again(ready: World, http: httpx.AsyncClient):
    same, body = key(), {"changes": {"web": "+1"}}
    await http.patch(SCALE, json=body, headers=same)
    ready.operations.receipts._clock = lambda: datetime.now(UTC) + KEPT
    assert (await http.patch(SCALE, json=body, headers=same)).json()["process_types"] == {"web": 3}


async def test_every_route_that_makes_something_documents_it(app: FastAPI):
    for path, methods in app.openapi()["paths"].items():
        for method in methods.keys() & {"post", "patch"}:
            names = {each["name"] for each in methods[method]["parameters"]}
            assert "Idempotency-Key" in names, (path, method)
            assert "409" in methods[method]["responses"], (path, method)


@asynccontextmanager
async def cutting(url: str, cut: int) -> AsyncIterator[tuple[str, list[bytes]]]:
    """A way to the server that loses the first `cut` answers; what it was asked."""
    host, port = url.removeprefix("http://").split(":")
    asked: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await reader.read(65536)
        asked.append(request)
        there, back = await asyncio.open_connection(host, int(port))
        back.write(request)
        answer = await there.read(65536)
        back.close()
        if len(asked) > cut:
            writer.write(answer)
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", asked


class TestClient:
    @pytest.fixture(autouse=True)
    def quick(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("controller.client.RECONNECT", 0.0)

    async def test_it_asks_once_more_where_the_connection_was_lost(self, ready: World, url: str):
        async with cutting(url, 1) as (way, asked), Client(way, ready.sessions.mint("ann")) as client:
            assert (await client.scale(FOO, {"web": "+1"})).process_types == {"web": 2}
        assert len(asked) == 2

    async def test_it_asks_no_third_time(self, ready: World, url: str):
        async with cutting(url, 9) as (way, asked), Client(way, ready.sessions.mint("ann")) as client:
            with pytest.raises(Unavailable, match="was lost"):
                await client.scale(FOO, {"web": "+1"})
        assert len(asked) == 2

    async def test_lines_of_a_log_are_not_sent_twice(self, ready: World, url: str):
        build = await ready.operations.builds.open(ADMIN, FOO, commit=None)
        async with cutting(url, 1) as (way, asked), Client(way, ready.sessions.mint("ann")) as client:
            with pytest.raises(Unavailable):
                await client.append_build_log(build.id, ["once"])
        assert len(asked) == 1
        assert await ready.operations.builds.log(ADMIN, build.id) == "once\n"

    async def test_an_answer_that_is_lost_for_good_says_so(
        self, ready: World, url: str, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setattr("controller.operations.receipts.MAX_ANSWER", 10)
        async with cutting(url, 1) as (way, _), Client(way, ready.sessions.mint("ann")) as client:
            with pytest.raises(AnswerLost, match="look how things stand"):
                await client.scale(FOO, {"web": "+1"})


async def test_a_receipt_goes_with_nothing_that_is_not_written(ready: World, http: httpx.AsyncClient):
    same = key()
    answer = await http.post("/v1/deployments/foo/services", json={"name": "app"}, headers=same)
    assert answer.status_code == 200
    (receipt,) = ready.state.receipts()  # made for the answer alone: there was nothing to change
    assert receipt.answer
    await ready.state.commit(delete(receipt))
    assert (await http.post("/v1/deployments", json={"name": "foo"}, headers=same)).status_code == 409
    assert not ready.state.receipts()
