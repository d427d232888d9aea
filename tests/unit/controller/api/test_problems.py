"""Whatever goes wrong is told as a problem."""

import asyncio
import logging

import httpx
import pytest
from fastapi import FastAPI

from controller import errors
from controller.api.limits import BodyLimit, FailedLogins
from controller.errors import InvalidInput, MooringError, Refused
from controller.problem import error_of, problem, problem_of
from controller.store.base import StoreConflict, StoreUnavailable, TooLarge
from tests.unit.controller.world import World

MEDIA = "application/problem+json"


def told(answer: httpx.Response) -> dict:
    assert answer.headers["content-type"] == MEDIA
    content = answer.json()
    assert content["status"] == answer.status_code
    assert content["type"] == f"urn:mooring:problem:{content['code']}"
    assert content["title"] and content["detail"]
    return content


async def test_our_own_errors(http: httpx.AsyncClient):
    content = told(await http.get("/v1/deployments/foo"))
    assert (content["status"], content["code"], content["detail"]) == (
        404,
        "not-found",
        "There is no app foo.",
    )


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/v1/nothing", 404, "not-found"),
        ("GET", "/web/nothing", 404, "not-found"),
        ("DELETE", "/v1/me", 405, "method-not-allowed"),
        ("GET", "/v1/deployments/..%2fx/services/app", 404, "not-found"),
        ("GET", "/v1/deployments/-x", 422, "invalid-input"),
        ("GET", "/v1/deployments/foo/services/app/versions/x", 422, "invalid-input"),
        ("GET", "/v1/events?limit=0", 422, "invalid-input"),
    ],
)
async def test_wrong_paths_and_parameters(
    http: httpx.AsyncClient, method: str, path: str, status: int, code: str
):
    content = told(await http.request(method, path))
    assert (content["status"], content["code"]) == (status, code)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b"", "body"),
        (b"{", "body"),
        (b"[]", "body"),
        (b"{}", "name"),
        (b'{"name": 3}', "name"),
        (b'{"name": "foo", "nmae": "x"}', "nmae"),
        (b'{"name": "F"}', "app name"),
        (b"\xff", "body"),
    ],
)
async def test_an_off_body_names_its_field(http: httpx.AsyncClient, body: bytes, field: str):
    answer = await http.post("/v1/deployments", content=body, headers={"Content-Type": "application/json"})
    content = told(answer)
    assert (content["status"], content["code"], content["field"]) == (422, "invalid-input", field)


@pytest.mark.parametrize("method", ["PUT", "OPTIONS", "HEAD", "TRACE", "NONSENSE"])
async def test_a_wrong_method_is_told_which_ones_there_are(http: httpx.AsyncClient, method: str):
    answer = await http.request(
        method, "/v1/deployments/foo/services/app/config", headers={"Idempotency-Key": "x"}
    )
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET, PATCH")
    assert answer.headers["content-type"] == MEDIA


async def test_a_path_with_a_slash_too_many_is_not_there(http: httpx.AsyncClient):
    assert told(await http.get("/v1/deployments/"))["code"] == "not-found"


async def test_a_body_that_is_too_large_is_refused(http: httpx.AsyncClient):
    content = told(await http.post("/v1/deployments", content=b"x" * 3_000_000))
    assert (content["status"], content["code"]) == (413, "invalid-input")


async def test_a_body_of_unknown_length_is_refused_once_it_is_too_large(http: httpx.AsyncClient):
    sent = 0

    async def endless():
        nonlocal sent
        while sent < 100_000_000:
            sent += 100_000
            yield b"x" * 100_000

    headers = {"Content-Type": "application/json"}
    content = told(await http.post("/v1/deployments", content=endless(), headers=headers))
    assert content["status"] == 413
    assert sent < 4_000_000


async def test_a_body_that_does_not_arrive_is_not_waited_for_for_ever():
    parts = [{"type": "http.request", "body": b"{", "more_body": True}]
    answers = []

    async def reads(scope, receive, send):
        while (await receive())["more_body"]:
            pass

    async def receive():
        return parts.pop() if parts else await asyncio.Event().wait()

    async def send(message):
        answers.append(message)

    scope = {"type": "http", "method": "POST", "path": "/", "headers": []}
    await BodyLimit(reads, timeout=0.01)(scope, receive, send)
    assert answers[0]["status"] == 408
    assert (b"connection", b"close") in answers[0]["headers"]


async def test_what_comes_after_the_body_has_no_time_limit():
    messages = [{"type": "http.request", "body": b"", "more_body": False}]
    got = []

    async def streams(scope, receive, send):
        while (message := await receive())["type"] != "http.disconnect":
            got.append(message)

    async def receive():
        if messages:
            return messages.pop()
        await asyncio.sleep(0.05)
        return {"type": "http.disconnect"}

    await BodyLimit(streams, timeout=0.01)({"type": "http", "headers": []}, receive, None)
    assert len(got) == 1


async def test_our_own_faults_are_said_to_be_ours_and_logged_with_their_number(
    http: httpx.AsyncClient, world: World, monkeypatch, caplog
):
    def broken(_: object) -> None:
        raise RuntimeError("a secret of ours")

    monkeypatch.setattr(world.operations.server, "status", broken)
    with caplog.at_level(logging.ERROR):
        content = told(await http.get("/v1/status"))
    assert (content["status"], content["code"]) == (500, "internal")
    assert "secret" not in content["detail"]
    number = content["detail"].split()[-1].rstrip(".")
    assert number in caplog.text
    assert "a secret of ours" in caplog.text


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (StoreUnavailable("gone"), 503),
        (StoreConflict("k", 1, 2), 409),
        (TooLarge("more than it takes"), 409),
        (Refused("no"), 409),
    ],
)
async def test_a_store_that_fails_is_no_fault_of_ours(
    http: httpx.AsyncClient, world: World, monkeypatch, error: Exception, status: int
):
    def failing(_: object) -> None:
        raise error

    monkeypatch.setattr(world.operations.server, "status", failing)
    assert told(await http.get("/v1/status"))["status"] == status


def every_error() -> list[type[MooringError]]:
    return [
        each for each in vars(errors).values() if isinstance(each, type) and each.__base__ is MooringError
    ]


@pytest.mark.parametrize("kind", every_error())
def test_every_error_comes_back_as_itself(kind: type[MooringError]):
    error = InvalidInput("name", "Off.") if kind is InvalidInput else kind("A sentence.")
    back = error_of(problem_of(error))
    assert (type(back), str(back)) == (kind, str(error))
    assert getattr(back, "field", None) == getattr(error, "field", None)


def test_a_code_of_a_newer_server_is_told_as_what_its_status_says():
    assert isinstance(error_of(problem(418, "tea", "No.")), errors.Refused)
    assert isinstance(error_of(problem(507, "full", "No.")), errors.InternalFault)


class TestLogins:
    async def test_without_a_token(self, http: httpx.AsyncClient):
        http.headers.pop("Authorization")
        answer = await http.get("/v1/me")
        assert told(answer)["code"] == "unauthenticated"
        assert answer.headers["www-authenticate"] == "Bearer"

    @pytest.mark.parametrize("value", ["Bearer nonsense", "Basic eDp5", "Bearer", "moor_x", "Bearer \xff"])
    async def test_with_what_is_no_token(self, http: httpx.AsyncClient, value: str):
        answer = await http.get("/v1/me", headers={"Authorization": value.encode("latin-1")})
        assert told(answer)["status"] == 401

    async def test_too_many_failures_are_kept_waiting_and_a_right_token_is_not(
        self, app: FastAPI, http: httpx.AsyncClient
    ):
        codes = [
            (await http.get("/v1/me", headers={"Authorization": f"Bearer {number}"})).status_code
            for number in range(40)
        ]
        assert codes == [401] * 30 + [429] * 10
        assert (await http.get("/v1/me")).status_code == 200


class TestFailedLogins:
    def test_each_address_is_counted_for_itself_and_forgiven_in_time(self):
        now = [0.0]
        failures = FailedLogins(allowed=2, window=60, clock=lambda: now[0])
        assert [failures.add("a") for _ in range(3)] == [None, None, 60]
        assert failures.add("b") is None
        now[0] = 59
        assert failures.add("a") == 1
        now[0] = 60
        assert failures.add("a") is None

    def test_memory_is_bounded(self):
        failures = FailedLogins(addresses=10)
        for number in range(1000):
            failures.add(str(number))
        assert len(failures._seen) == 10
