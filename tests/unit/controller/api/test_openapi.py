"""The OpenAPI document tells what the API does."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute

BYTES = "application/octet-stream"
OPEN = {"/v1/health"}
OURS = "/v1/"


def operations(app: FastAPI) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in app.openapi()["paths"].items():
        for method, operation in methods.items():
            yield path, method, operation


def routes(app: FastAPI) -> Iterator[tuple[str, str]]:
    def walk(found: list[Any]) -> Iterator[tuple[str, str]]:
        for each in found:
            if isinstance(each, APIRoute):
                for method in each.methods:
                    yield each.path, method.lower()
            elif hasattr(each, "original_router"):
                yield from walk(each.original_router.routes)

    return walk(app.routes)


def test_every_route_is_listed(app: FastAPI):
    listed = {(path, method) for path, method, _ in operations(app)}
    assert set(routes(app)) == listed
    assert len(listed) > 35
    assert all(path.startswith(OURS) for path, _ in listed)


def test_every_operation_has_a_summary_and_documents_its_errors_as_problems(app: FastAPI):
    for path, method, operation in operations(app):
        assert operation["summary"], (path, method)
        assert operation["tags"], (path, method)
        errors = {code: each for code, each in operation["responses"].items() if int(code) >= 400}
        assert {"401", "422", "429", "500", "503"} <= set(errors), (path, method)
        if "{deployment}" in path:
            assert "404" in errors, (path, method)
            if method != "get":
                assert "403" in errors, (path, method)
        for each in errors.values():
            assert set(each["content"]) == {"application/problem+json"}, (path, method)


def test_every_success_has_a_schema(app: FastAPI):
    for path, method, operation in operations(app):
        successes = {code: each for code, each in operation["responses"].items() if int(code) < 400}
        assert len(successes) == 1, (path, method)
        for code, each in successes.items():
            contents = each.get("content", {})
            assert (code == "204") == (not contents), (path, method)
            assert all(content["schema"] for content in contents.values()), (path, method)


def test_every_reference_leads_somewhere(app: FastAPI):
    document = app.openapi()

    def references(value: Any) -> Iterator[str]:
        if isinstance(value, dict):
            if isinstance(value.get("$ref"), str):
                yield value["$ref"]
            for each in value.values():
                yield from references(each)
        elif isinstance(value, list):
            for each in value:
                yield from references(each)

    found = set(references(document))
    assert found
    for each in found:
        part: Any = document
        for name in each.removeprefix("#/").split("/"):
            part = part[name]


def test_every_operation_but_the_health_check_needs_a_token(app: FastAPI):
    for path, _, operation in operations(app):
        assert bool(operation.get("security")) == (path not in OPEN), path


async def test_no_door_opens_without_a_token(app: FastAPI, http: httpx.AsyncClient):
    http.headers.pop("Authorization")
    for path, method, _ in operations(app):
        answer = await http.request(method, path.format_map(dict.fromkeys(_names(path), "x")))
        if path in OPEN:
            assert answer.status_code == 200
        else:
            assert answer.status_code in (401, 429), (path, method)
            assert answer.headers["content-type"] == "application/problem+json"


async def test_the_documents_own_pages_need_no_token(http: httpx.AsyncClient):
    http.headers.pop("Authorization")
    for page in ("/openapi.json", "/docs"):
        assert (await http.get(page)).status_code == 200


async def test_pages_with_scripts_from_elsewhere_have_an_origin_of_their_own(http: httpx.AsyncClient):
    for page in ("/docs", "/redoc"):
        policy = (await http.get(page)).headers["content-security-policy"]
        assert policy.startswith("sandbox ") and "allow-same-origin" not in policy
    described = await http.get("/openapi.json")
    assert described.headers["access-control-allow-origin"] == "*"
    assert "access-control-allow-origin" not in (await http.get("/v1/status")).headers


@pytest.mark.parametrize("code", ["invalid-input", "not-found", "throttled", "internal"])
def test_the_description_lists_the_codes(app: FastAPI, code: str):
    assert f"`{code}`" in app.description


def _names(path: str) -> list[str]:
    return [part[1:-1] for part in path.split("/") if part.startswith("{")]


def test_every_parameter_is_described(app: FastAPI):
    for path, method, operation in operations(app):
        for each in operation.get("parameters", ()):
            assert each.get("description"), (path, method, each["name"])


def test_every_body_has_an_example(app: FastAPI):
    schemas = app.openapi()["components"]["schemas"]
    for path, method, operation in operations(app):
        if "requestBody" not in operation or BYTES in operation["requestBody"]["content"]:
            continue
        (content,) = operation["requestBody"]["content"].values()
        name = content["schema"]["$ref"].rpartition("/")[2]
        for field, each in schemas[name]["properties"].items():
            needed = field in schemas[name].get("required", ())
            told = each.get("examples") or "$ref" in each or each.get("type") == "boolean"
            assert told or not needed, (path, method, field)
            assert needed or told or each.get("description"), (path, method, field)


async def test_a_route_that_forgets_to_ask_who_comes_is_closed(app: FastAPI, http: httpx.AsyncClient):
    @app.get("/v1/forgetful")
    async def forgetful() -> str:
        return "secret"

    assert (await http.get("/v1/forgetful")).text == '"secret"'
    http.headers.pop("Authorization")
    assert (await http.get("/v1/forgetful")).status_code == 401


async def test_a_strangers_body_is_not_read(http: httpx.AsyncClient):
    http.headers.pop("Authorization")

    async def body():
        yield b"{"
        raise AssertionError("it was read on")

    assert (await http.post("/v1/deployments", content=body())).status_code == 401
