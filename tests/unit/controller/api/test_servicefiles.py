"""Service files over HTTP."""

import httpx
import pytest

from controller.client import Client
from controller.errors import InvalidInput
from controller.views import FileChangeKind
from tests.unit.controller.world import World

BODY = {
    "services": {"redis": {"image": "redis:7"}, "web": {"image": "web", "env": {"KEY": "secret"}}},
    "globals": {"Env": {"BRAND": "x"}},
}


async def test_a_plan_then_the_deploy_then_nothing(client: Client) -> None:
    await client.create_deployment("foo")
    plan = await client.plan_file("foo", BODY, name="Servicefile")
    done = await client.deploy_file("foo", BODY, name="shop.yml")
    again = await client.deploy_file("foo", BODY, name="shop.yml")
    assert [each.kind for each in plan.changes] == [FileChangeKind.CREATE] * 2
    assert (plan.applied, [each.version for each in plan.changes]) == (False, [None, None])
    assert (done.applied, [each.version for each in done.changes]) == (True, [1, 1])
    assert (again.changes, again.unchanged) == ((), 2)
    gone = await client.deploy_file("foo", {**BODY, "services": {}}, name="shop.yml", prune=True)
    assert [each.kind for each in gone.changes] == [FileChangeKind.REMOVE] * 2


async def test_secrets_are_not_in_the_answer(client: Client, http: httpx.AsyncClient) -> None:
    await client.create_deployment("foo")
    answer = await http.post("/v1/deployments/foo/servicefile", json=BODY)
    assert answer.status_code == 200
    assert "secret" not in answer.text


async def test_what_is_wrong_is_a_problem_with_its_field(client: Client, http: httpx.AsyncClient) -> None:
    await client.create_deployment("foo")
    answer = await http.post("/v1/deployments/foo/servicefile", json={"services": {"web": {"port": "x"}}})
    assert (answer.status_code, answer.json()["field"]) == (422, "web.port")
    assert answer.json()["detail"] == "web: port must be a port number from 1 to 65535, or assign."
    with pytest.raises(InvalidInput):
        await client.plan_file("foo", {"services": {"W": {}}}, name="x")


async def test_the_schema_is_there(http: httpx.AsyncClient) -> None:
    answer = await http.get("/v1/servicefile/schema")
    assert answer.json()["title"] == "Mooring service file"


async def test_the_same_request_sent_twice_is_answered_the_same(
    client: Client, http: httpx.AsyncClient, world: World
) -> None:
    await client.create_deployment("foo")
    headers = {"Idempotency-Key": "0123456789abcdef"}
    first = await http.post("/v1/deployments/foo/servicefile", json=BODY, headers=headers)
    second = await http.post("/v1/deployments/foo/servicefile", json=BODY, headers=headers)
    assert (first.text, second.headers["Idempotency-Replayed"]) == (second.text, "true")
    assert len(world.state.versions("foo", "web")) == 1
