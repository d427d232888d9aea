"""Taking over what runs in one deployment into another, at the local door."""

from tests.unit.cli.doors import local
from tests.unit.cli.fake_client import FakeClient


async def test_it_is_shown_done_and_followed() -> None:
    client = FakeClient()
    plan = await local(client)("promote", "foo", "bare", "--plan")
    assert plan.out.splitlines() == ["~ app: a new version", "    + code: 222222222222", "    + env.KEY"]
    assert plan.err == " !     bare has no service db: deploy its service file there first.\n"
    done = await local(client)("promote", "foo", "bare", "app")
    assert done.out.splitlines() == [
        "----> app v1: a new version",
        "       + code: 222222222222",
        "       + env.KEY",
        "       new instances start",
        "       new instances are healthy",
    ]
    assert client.calls[-1] == ("promote", "foo", "bare", ("app",), False)


async def test_a_version_that_is_given_up_fails_it() -> None:
    client = FakeClient()
    client.broken_rollout = "it crashed"
    result = await local(client)("promote", "foo", "bare")
    assert (result.status, "bare v1 was given up: it crashed" in result.err) == (1, True)
    assert (await local(client)("promote", "foo", "bare", "--detach")).status == 0


async def test_what_can_not_be_is_told() -> None:
    result = await local()("promote", "bare", "foo")
    assert (result.status, "bare serves nothing yet" in result.err) == (1, True)
    assert (await local()("promote", "foo/web", "bare")).status != 0
