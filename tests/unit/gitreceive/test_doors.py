"""The routes of the doors: what they refuse, and that they are documented."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from controller.api.app import create_app
from controller.types import Right, User
from gitreceive import arrivals as module
from gitreceive.doors import routes
from tests.servers.receive import Endpoint, start_endpoint
from tests.unit.controller.world import ADMIN, World, make_world

ARCHIVE = "/v1/deployments/foo/services/app/archive"
UPLOADS = ARCHIVE.replace("/archive", "/uploads")
SYNC = "/v1/deployments/foo/services/app/sync"


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    made = await make_world(tmp_path / "world")
    yield made
    await made.operations.close()
    await made.state.close()


@pytest.fixture
async def endpoint(tmp_path: Path) -> AsyncIterator[Endpoint]:
    running = await start_endpoint(tmp_path, push_limit=100_000)
    running.model.users[ADMIN.name] = User(name=ADMIN.name, admin=True)
    yield running
    await running.server.close()
    assert list(running.settings.folders.builds.glob("*")) == []


@pytest.fixture
async def http(world: World, endpoint: Endpoint) -> AsyncIterator[httpx.AsyncClient]:
    app = create_app(world.operations, routers=(routes(endpoint.server.doors, keep_alive=1),))
    headers = {"Authorization": f"Bearer {world.sessions.mint(ADMIN.name)}"}
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test", headers=headers) as client:
        yield client


async def test_an_archive_that_is_too_large_is_refused_before_anything_is_done(
    http: httpx.AsyncClient,
) -> None:
    answer = await http.post(ARCHIVE, content=bytes(100_001))
    assert answer.status_code == 413
    assert "push_limit" in answer.json()["detail"]
    assert answer.headers["content-type"] == "application/problem+json"


async def test_what_goes_wrong_later_is_the_last_line(http: httpx.AsyncClient, endpoint: Endpoint) -> None:
    answer = await http.post(ARCHIVE, content=b"hello")
    *lines, last = [line for line in answer.text.splitlines() if line]
    assert answer.status_code == 200
    assert '"mark":"step"' in lines[0]
    assert last.startswith('{"problem":')
    assert "no archive that is taken here" in last
    assert endpoint.stored() == {}


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        (f"{ARCHIVE}/fetch", {"url": "ftp://example.org/x.zip"}, "url"),
        (f"{ARCHIVE}/fetch", {}, "url"),
        (SYNC, {"url": "https://example.org/a.git", "ref": "-x"}, "ref"),
        (SYNC, {"url": "https://example.org/a.git", "build": "perhaps"}, "build"),
        (SYNC, {"url": "file:///etc"}, "url"),
        ("/v1/git/hosts", {"host": "a b"}, "host"),
    ],
)
async def test_off_input_names_its_field(http: httpx.AsyncClient, path: str, body: Any, field: str) -> None:
    answer = await http.post(path, json=body)
    assert (answer.status_code, answer.json()["field"]) == (422, field)


async def test_one_user_has_only_so_many_archives_on_the_disk(
    http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_ARCHIVES_OF_ONE", 0)
    assert (await http.post(ARCHIVE, content=b"hello")).status_code == 429


@pytest.mark.parametrize("path", [ARCHIVE, f"{ARCHIVE}/fetch", SYNC, UPLOADS])
async def test_who_may_only_view_is_refused(world: World, http: httpx.AsyncClient, path: str) -> None:
    await http.post("/v1/deployments", json={"name": "foo"})
    await http.post("/v1/users", json={"name": "bob"})
    await http.put("/v1/users/bob/rights/foo", json={"right": Right.VIEW})
    bob = {"Authorization": f"Bearer {world.sessions.mint('bob')}"}
    body = {"json": {"url": "https://example.org/a"}} if path != ARCHIVE else {"content": b"x"}
    answer = await http.post(path, headers=bob, **body)
    assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")


async def test_an_archive_may_come_in_pieces(http: httpx.AsyncClient) -> None:
    begun = await http.post(UPLOADS)
    assert (begun.status_code, begun.json()["offset"]) == (201, 0)
    one = f"{UPLOADS}/{begun.json()['id']}"
    assert (await http.patch(f"{one}?offset=0", content=b"hel")).json()["offset"] == 3
    conflict = await http.patch(f"{one}?offset=0", content=b"hello")
    assert (conflict.status_code, conflict.json()["code"]) == (409, "conflict")
    assert (await http.patch(f"{one}?offset=3", content=b"lo")).json()["offset"] == 5
    assert (await http.get(one)).json()["offset"] == 5
    deployed = await http.post(f"{one}/deploy?name=x")
    assert "Unpacking the archive x" in deployed.text
    assert "no archive that is taken here" in deployed.text.splitlines()[-1]
    assert (await http.get(one)).status_code == 404


async def test_one_that_is_too_large_is_refused_and_gone(http: httpx.AsyncClient) -> None:
    one = f"{UPLOADS}/{(await http.post(UPLOADS)).json()['id']}"
    assert (await http.patch(f"{one}?offset=0", content=bytes(100_001))).status_code == 413
    assert (await http.delete(one)).status_code == 404


async def test_one_can_be_given_up(http: httpx.AsyncClient) -> None:
    one = f"{UPLOADS}/{(await http.post(UPLOADS)).json()['id']}"
    assert (await http.patch(f"{one}?offset=0", content=b"half")).status_code == 200
    assert (await http.delete(one)).status_code == 204
    assert (await http.delete(one)).status_code == 404


async def test_the_routes_are_documented(http: httpx.AsyncClient) -> None:
    document = (await http.get("/openapi.json")).json()
    assert ARCHIVE.replace("foo", "{deployment}").replace("/app/", "/{service}/") in document["paths"]
    assert "/v1/git/public-key" in document["paths"]
