"""Routers of other parts of the server, and bodies that are streams of bytes."""

import httpx
import pytest
from fastapi import APIRouter, FastAPI, Request
from starlette.responses import Response

from controller.api.answers import nothing, respond
from controller.api.app import create_app
from controller.api.auth import Asker
from controller.api.limits import MAX_BODY
from controller.api.methods import UPLOAD
from tests.unit.controller.world import World

KEY = {"Idempotency-Key": "0123456789abcdef"}


@pytest.fixture
def app(world: World) -> FastAPI:
    router = APIRouter()

    @router.post("/v1/upload/{name}", openapi_extra={**UPLOAD})
    async def upload(asker: Asker, name: str, request: Request) -> Response:
        size = sum([len(chunk) async for chunk in request.stream()])
        return respond({"name": name, "size": size, "asker": asker.name})

    @router.post("/v1/plain")
    async def plain(request: Request) -> Response:
        await request.body()
        return nothing()

    return create_app(world.operations, routers=(router,))


async def test_an_upload_bounds_itself_and_other_bodies_are_bounded(http: httpx.AsyncClient) -> None:
    body = bytes(MAX_BODY + 1)
    answer = await http.post("/v1/upload/x", content=body)
    assert (answer.status_code, answer.json()["size"]) == (200, len(body))
    assert (await http.post("/v1/plain", content=body)).status_code == 413


async def test_an_upload_is_not_kept_to_be_compared(http: httpx.AsyncClient, world: World) -> None:
    for body in (b"one", b"other"):
        answer = await http.post("/v1/upload/x", content=body, headers=KEY)
        assert answer.json()["size"] == len(body)
    assert not world.state.receipts()
    assert (await http.post("/v1/plain", headers=KEY)).status_code == 204
    assert world.state.receipts()


async def test_further_routes_are_behind_the_gate_and_in_the_document(
    http: httpx.AsyncClient, app: FastAPI
) -> None:
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as stranger:
        assert (await stranger.post("/v1/upload/x", content=b"")).status_code == 401
    paths = (await http.get("/openapi.json")).json()["paths"]
    upload, plain = paths["/v1/upload/{name}"]["post"], paths["/v1/plain"]["post"]
    assert list(upload["requestBody"]["content"]) == ["application/octet-stream"]
    assert [each["name"] for each in upload["parameters"]] == ["name"]
    assert [each["name"] for each in plain["parameters"]] == ["Idempotency-Key"]
    answer = await http.get("/v1/upload/x")
    assert (answer.status_code, answer.headers["Allow"]) == (405, "POST")
