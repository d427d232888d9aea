"""Deciding on a rollout, and where one that waits is shown."""

from controller.types import VersionStatus
from tests.unit.cli.doors import local
from tests.unit.cli.fake_client import FakeClient

CANARY = "v2 runs as a canary with 1 instance beside v1"


async def test_promoted_restart_is_followed_until_it_has_settled() -> None:
    client = FakeClient()
    client.rolling = VersionStatus.LIVE
    result = await local(client)("deploy:promote", "-a", "foo")
    assert result.status == 0
    assert [each[0] for each in client.calls] == ["promote"]
    assert "new instances are healthy" in result.out
    assert "is live" not in result.out


async def test_resumed_rollout_that_fails_is_a_failure() -> None:
    client = FakeClient()
    client.broken_rollout = "it crashed"
    result = await local(client)("deploy:resume", "-a", "foo")
    assert result.status == 1
    assert "v2 was given up: it crashed" in result.err


async def test_what_a_rollout_waits_for_is_shown_where_people_look() -> None:
    client = FakeClient()
    client.rollout = CANARY
    for verb in ("ps", "apps:info"):
        result = await local(client)(verb, "-a", "foo")
        assert CANARY in result.out + result.err
