"""Which processes a command is about, and what is said of those that don't run."""

from dataclasses import replace
from datetime import timedelta

import pytest

from controller.names import Address
from controller.types import InstanceState
from tests.factories import NOW, instance
from tests.unit.cli.doors import local, ssh
from tests.unit.cli.fake_client import FakeClient


@pytest.mark.parametrize("verb", ["restart", "stop", "start"])
async def test_type_or_instance_is_named_after_the_app_or_with_it(verb: str) -> None:
    client = FakeClient()
    assert (await local(client)(f"ps:{verb}", "-a", "foo", "web.1")).status == 0
    assert (await ssh(client)(f"ps:{verb}", "foo", "worker")).status == 0
    assert (await ssh(client)(f"ps:{verb}", "foo:worker")).status == 0
    assert (await ssh(client)(f"ps:{verb}", "foo")).status == 0
    assert [each[2] for each in client.calls if each[0] == verb] == ["web.1", "worker", "worker", None]
    both = await ssh(client)(f"ps:{verb}", "foo:worker", "web")
    assert (both.status, "names a process type already" in both.err) == (1, True)


async def test_what_was_stopped_is_listed_in_the_words_that_start_it() -> None:
    client = FakeClient()
    stopped = {"stopped_types": ("worker",), "withdrawn": ("foo-app-2-web-2",)}
    client.services_["foo", "app"] = replace(client.services_["foo", "app"], **stopped)
    assert "Stopped: worker web.2." in (await local(client)("ps", "-a", "foo")).out
    assert "worker web.2" in (await local(client)("apps:info", "foo")).out


async def test_crash_loop_is_shown_with_its_last_exit_and_the_next_start() -> None:
    client = FakeClient()
    crashing = instance(
        2,
        state=InstanceState.CRASH_LOOPING,
        detail="exited with status 1 (5 restarts)",
        next_start_at=NOW + timedelta(seconds=8),
    )
    client.instances_["foo", "app"] = [crashing]
    told = "exited with status 1 (5 restarts); next start at 2026-01-01T12:00:08Z"
    assert told in (await local(client)("ps", "-a", "foo")).out
    assert f"{crashing.id}: {told}" in (await local(client)("apps:info", "foo")).out


async def test_page_for_maintenance_comes_on_standard_input_over_ssh() -> None:
    client = FakeClient()
    assert (await ssh(client)("maintenance:on", "foo", "--page", "-", typed="<p>soon</p>")).status == 0
    assert client.calls[-1] == ("maintenance", Address("foo"), True, "<p>soon</p>")
    refused = await ssh(client)("maintenance:on", "foo", "--page", "soon.html")
    assert (refused.status, "standard input" in refused.err) == (1, True)
