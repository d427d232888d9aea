"""The whole server with its state in etcd: pushed to, left alone by etcd for a while, and moved there and back."""

import asyncio
import contextlib
from pathlib import Path

import pytest

from contrib.installation import Installation, NotReady
from controller.client import Client
from controller.errors import Unavailable
from tests.acceptance.conftest import Requests, missing_commands
from tests.servers.etcd import running_etcd

pytestmark = [pytest.mark.real, pytest.mark.acceptance]

APP = "phoenix"


@pytest.fixture
def etcd():
    with running_etcd() as server:
        yield server


@pytest.fixture
def here(etcd):
    if missing := missing_commands():
        pytest.skip(f"not installed: {', '.join(missing)}")
    here = Installation(settings={"store": "etcd", "etcd": etcd.address, "stop-grace": "5"})
    try:
        here.start()
        here.add_key()
        yield here
    finally:
        log = here.last_lines(200)
        here.remove()
        print(log)


def running(here):
    """The process ids of what runs out of the app folder, whatever the server thinks of it."""
    found = set()
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if str(here.data / "apps") in str((process / "cwd").readlink()):
                found.add(process.name)
    return found


async def deployments(url, token):
    async with Client(url, token) as client:
        return await client.deployments()


def follows(here):
    return "can't be followed" not in here.moor("status")


def test_server_on_etcd_outlives_its_store_and_moves_to_another(here, etcd):
    here.moor("create", APP)
    folder = here.checkout(APP)
    pushed = here.push(folder)
    assert pushed.returncode == 0, pushed.stdout
    before, page = running(here), here.get(APP)
    assert page[0] == 200

    with Requests(here, APP) as result:
        etcd.kill()
        refused = here.run("moor", "config:set", "-a", APP, "COLOUR=red")
        assert refused.returncode == 1
        assert (
            "The store does not answer; look before you ask again, it may be done: etcd at" in refused.stdout
        )
        here.wait_until(lambda: not follows(here), "the server says that etcd is gone")
        assert running(here) == before
        etcd.start()
        here.wait_until(lambda: follows(here), "it follows etcd again")
        assert running(here) == before
    assert (result.failed, here.get(APP)) == (0, page)
    here.moor("config:set", "-a", APP, "COLOUR=red")
    here.wait_until(lambda: running(here) and not running(here) & before, "the old instance is gone")

    refused = here.run("moor", "store:copy", "--data", str(here.data), "--from", "etcd", "--to", "sqlite")
    assert refused.returncode == 1
    assert "Stop it with `moor server:stop`" in refused.stdout
    now = running(here)
    here.moor("server:stop")
    options = ["--data", str(here.data), "--etcd", etcd.address]
    assert "entries copied and compared" in here.moor(
        "store:copy", *options, "--from", "etcd", "--to", "sqlite"
    )
    here.settings["store"] = "sqlite"
    here.start()
    assert running(here) == now
    assert here.moor("config:get", "-a", APP, "COLOUR").strip() == "red"


def test_second_server_on_the_same_state_is_refused(here, etcd):
    other = Installation(settings=dict(here.settings))
    try:
        with pytest.raises(NotReady, match="Another server holds the state in this store"):
            other.start()
    finally:
        other.remove()
    assert here.answers()


def test_server_that_was_killed_takes_its_state_up_again_at_once(here):
    here.moor("create", APP)
    here.kill()
    here.start()
    assert APP in here.moor("apps")


def test_server_that_starts_before_its_store_waits_for_it_and_says_so(here, etcd):
    here.kill()
    etcd.stop()
    here.settings["store-patience"] = "30"
    here.launch()
    here.wait_until(lambda: "waiting for the store for 30 s" in here.last_lines(), "it says that it waits")
    token = (here.data / "local-token").read_text().strip()
    with pytest.raises(Unavailable, match="waits for its store, which does not answer: etcd at"):
        asyncio.run(deployments(f"http://127.0.0.1:{here.api}", token))
    etcd.start()
    here.wait_until(here.answers, "the server answers")
    assert "No apps yet" in here.moor("apps")


def test_server_that_waits_for_its_store_can_be_stopped_and_does_not_wait_for_ever(here, etcd):
    here.kill()
    etcd.stop()
    here.launch()
    here.wait_until(lambda: "waiting for the store" in here.last_lines(), "it says that it waits")
    here.moor("server:stop")
    assert here.server.wait(10) == 0
    here.settings["store-patience"] = "1"
    here.launch()
    assert here.server.wait(30) == 1
    assert "It was waited for 1 s (setting store_patience)" in here.last_lines()
