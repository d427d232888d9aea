"""Lists in pages: complete, in order, whatever comes and goes meanwhile."""

from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from controller.client import Client
from tests.unit.controller.world import ADMIN, FOO, World

SERVICE = "/v1/deployments/{deployment}/services/{service}"
WHOLE = {
    f"{SERVICE}/cron",
    f"{SERVICE}/domains",
    f"{SERVICE}/environment",
    f"{SERVICE}/limits",
    f"{SERVICE}/runs",
    "/v1/deploys",
}
"""Lists that are answered whole: what they hold belongs together, and is little."""


def lists(app: FastAPI) -> list[tuple[str, dict[str, Any]]]:
    found = []
    for path, methods in app.openapi()["paths"].items():
        contents = methods.get("get", {}).get("responses", {}).get("200", {}).get("content", {})
        if contents.get("application/json", {}).get("schema", {}).get("type") == "array":
            found.append((path, methods["get"]))
    return found


def test_every_list_that_can_grow_has_pages(app: FastAPI):
    found = [(path, operation) for path, operation in lists(app) if path not in WHOLE]
    assert len(found) >= 9
    for path, operation in found:
        assert {"limit", "cursor"} <= {each["name"] for each in operation["parameters"]}, path
        assert "Link" in operation["responses"]["200"]["headers"], path


async def in_pages(http: httpx.AsyncClient, path: str, limit: int = 2) -> list[Any]:
    found, url = [], f"{path}{'&' if '?' in path else '?'}limit={limit}"
    while url:
        answer = await http.get(url)
        assert answer.status_code == 200, answer.text
        assert len(answer.json()) <= limit
        found += answer.json()
        url = answer.links.get("next", {}).get("url")
    return found


async def filled(world: World) -> None:
    for number in range(5):
        await world.app(f"app{number}")
        await world.user(f"user{number}")
        await world.operations.credentials.create(ADMIN, user=f"user{number}")
    await world.app()
    for number in range(5):
        await world.push(content=str(number))
        await world.live()
        await world.operations.builds.open(ADMIN, FOO, commit=None)


@pytest.mark.parametrize(
    "path",
    [
        "/v1/deployments",
        "/v1/services",
        "/v1/services?deployment=foo",
        "/v1/users",
        "/v1/tokens",
        "/v1/keys",
        "/v1/deployments/foo/services/app/versions",
        "/v1/deployments/foo/services/app/builds",
        "/v1/deployments/foo/services/app/instances",
    ],
)
async def test_pages_make_the_whole_list(world: World, http: httpx.AsyncClient, path: str):
    await filled(world)
    whole = await http.get(path)
    assert "next" not in whole.links
    assert await in_pages(http, path) == whole.json()
    assert await in_pages(http, path, limit=1) == whole.json()


async def test_what_comes_and_goes_meanwhile_neither_repeats_nor_hides_anything(
    world: World, http: httpx.AsyncClient
):
    await filled(world)
    first = await http.get("/v1/deployments?limit=3")
    assert [each["name"] for each in first.json()] == ["app0", "app1", "app2"]
    await world.app("aaa")
    await world.operations.deployments.destroy(ADMIN, "app2")
    rest = await http.get(first.links["next"]["url"])
    assert [each["name"] for each in rest.json()] == ["app3", "app4", "foo"]
    newest = await http.get("/v1/deployments/foo/services/app/versions?limit=2")
    await world.push(content="f")
    older = await http.get(newest.links["next"]["url"])
    assert [each["number"] for each in (*newest.json(), *older.json())] == [5, 4, 3, 2]


@pytest.mark.parametrize("cursor", ["x", "", "e30=", "bnVsbA==", "WzFd", "WyJhIiwiYiJd", "W251bGxd", "ÿ"])
async def test_a_cursor_that_is_not_of_this_list_is_refused(
    world: World, http: httpx.AsyncClient, cursor: str
):
    await filled(world)
    answer = await http.get("/v1/deployments", params={"cursor": cursor})
    assert (answer.status_code, answer.json()["field"]) == (422, "cursor")


@pytest.mark.parametrize("limit", [0, -1, 1001, "x"])
async def test_a_page_is_bounded(http: httpx.AsyncClient, limit: object):
    answer = await http.get("/v1/deployments", params={"limit": str(limit)})
    assert (answer.status_code, answer.json()["field"]) == (422, "limit")


async def test_the_client_gets_all_pages_or_as_many_as_are_asked_for(
    world: World, client: Client, monkeypatch: pytest.MonkeyPatch
):
    await filled(world)
    monkeypatch.setattr("controller.client.PAGE", 2)
    assert [each.number for each in await client.versions(FOO)] == [5, 4, 3, 2, 1]
    assert [each.number for each in await client.versions(FOO, limit=3)] == [5, 4, 3]
    assert len(await client.deployments()) == 6
    assert len(await client.services()) == 6
    assert len(await client.users()) == 6
    assert len(await client.events(limit=7)) == 7
