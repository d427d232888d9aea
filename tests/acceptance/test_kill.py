"""kill -9 of the server at the worst moments: the app serves on, and a retried push succeeds."""

import os
import sqlite3
import subprocess
import threading
import time
from pathlib import Path

import pytest

from tests.acceptance.conftest import Requests

pytestmark = [pytest.mark.real, pytest.mark.acceptance]

APP = "phoenix"

SLOW_TO_START = """
import os, signal, threading, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
VERSION = open("VERSION").read()
time.sleep(float(os.environ.get("BOOT_SECONDS", "0")))
class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        if self.path == "/slow":
            time.sleep(4)
        self.send_response(200)
        self.send_header("Content-Length", str(len(VERSION)))
        self.end_headers()
        self.wfile.write(VERSION.encode())
    def log_message(self, *_):
        pass
class Server(ThreadingHTTPServer):
    request_queue_size = 128
server = Server(("", int(os.environ["PORT"])), Handler)
signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
server.serve_forever(0.05)
"""


@pytest.fixture(scope="module")
def phoenix(system):
    system.moor("create", APP)
    folder = system.checkout(APP)
    system.commit(folder, "slow to start", app__py=SLOW_TO_START, VERSION="before")
    pushed = system.push(folder)
    assert pushed.returncode == 0, pushed.stdout
    return folder


def keys(system, like):
    """Keys in the server's own database: looking there sees each step within a millisecond."""
    with sqlite3.connect(f"file:{system.data}/state.sqlite?mode=ro", uri=True) as database:
        return [row[0] for row in database.execute("SELECT key FROM entry WHERE key LIKE ?", (like,))]


def kinds(system):
    with sqlite3.connect(f"file:{system.data}/state.sqlite?mode=ro", uri=True) as database:
        return database.execute(
            "SELECT count(*) FROM entry WHERE value LIKE '%\"route.changed\"%'"
        ).fetchone()[0]


class DuringPack:
    big = True

    def reached(self, system):
        return any(self.size(each) > 2_000_000 for each in (system.data / "repositories").rglob("*pack*"))

    @staticmethod
    def size(path):
        try:
            return path.stat().st_size if path.is_file() else 0
        except OSError:
            return 0


class DuringBuild:
    big = True

    def reached(self, system):
        return any((system.data / "builds").glob("*.tmp"))


class AfterVersionIsWritten:
    def __init__(self, system):
        self.before = len(keys(system, "versions/%"))

    def reached(self, system):
        return len(keys(system, "versions/%")) > self.before


class WhileInstancesStart:
    boot = 2

    def __init__(self, system):
        self.before = processes(system)

    def reached(self, system):
        return processes(system) > self.before


class BetweenRouteAndDrain:
    slow_request = True

    def __init__(self, system):
        self.before = kinds(system)

    def reached(self, system):
        return kinds(system) > self.before


def processes(system):
    """How many processes run as one of the apps' users, or out of the installation's app folder."""
    count = 0
    for process in Path("/proc").glob("[0-9]*"):
        try:
            count += str(system.data / "apps") in str((process / "cwd").readlink())
        except OSError:
            continue
    return count


def instances(system):
    return [each for each in system.json("ps", "-a", APP) if each["state"] == "running"]


@pytest.mark.parametrize(
    "moment",
    [DuringPack, DuringBuild, AfterVersionIsWritten, WhileInstancesStart, BetweenRouteAndDrain],
    ids=lambda each: each.__name__,
)
def test_killed_server_costs_the_app_nothing_and_the_push_can_be_retried(system, phoenix, moment):
    here = moment(system) if "__init__" in vars(moment) else moment()
    name = moment.__name__
    boot = getattr(moment, "boot", 0)
    if boot:
        system.moor("config:set", "-a", APP, f"BOOT_SECONDS={boot}")
        system.wait_until(lambda: processes(system) == 1, "the instance before is gone")
        here.before = processes(system)
    if getattr(moment, "big", False):
        (phoenix / "big.bin").write_bytes(os.urandom(60_000_000))
    system.commit(phoenix, name, VERSION=f"after {name}")
    with Requests(system, APP) as result:
        slow = threading.Thread(target=system.get, args=(APP, "/slow"))
        if getattr(moment, "slow_request", False):
            slow.start()
            time.sleep(0.3)
        push = subprocess.Popen(
            ["git", "push", "deploy", "master"],
            cwd=phoenix, env=system.env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        end = time.monotonic() + 60
        while not here.reached(system):
            assert time.monotonic() < end and push.poll() is None, f"{name} was never reached"
            time.sleep(0.0005)
        system.kill()
        output, _ = push.communicate(timeout=60)
        assert push.returncode != 0, output
        time.sleep(0.5)
        system.start()
        retried = system.push(phoenix)
        assert retried.returncode == 0, retried.stdout
        if slow.ident:
            slow.join()
    assert result.failed == 0, result
    assert system.get(APP) == (200, f"after {name}")
    system.wait_until(lambda: processes(system) == 1, "only the new instance runs", timeout=30)
    assert len(instances(system)) == 1
    assert not list((system.data / "builds").glob("*.tmp"))
    assert not list((system.data / "repositories").rglob("*incoming*"))
    assert not [each for each in system.json("builds", "-a", APP) if each["status"] == "running"]
    if boot:
        system.moor("config:unset", "-a", APP, "BOOT_SECONDS")
    if (phoenix / "big.bin").exists():
        (phoenix / "big.bin").unlink()
        system.commit(phoenix, "small again")
        assert system.push(phoenix).returncode == 0


def test_supervisord_killed_comes_back_with_its_instances_not_doubled(system, phoenix):
    (pid,) = (system.data / "supervisor").glob("*.pid")
    killed = pid.read_text()
    os.kill(int(killed), 9)
    system.wait_until(lambda: pid.read_text() != killed, "a new supervisor runs")
    system.wait_until(
        lambda: system.get(APP)[0] == 200 and len(instances(system)) == 1 and processes(system) == 1,
        "one instance serves again",
    )


def test_haproxy_killed_is_started_again_with_its_routes(system, phoenix):
    (file,) = (system.data / "haproxy").glob("*.pid")
    killed = file.read_text()
    os.kill(int(killed), 9)

    def serves_again():
        try:
            return file.read_text() != killed and system.get(APP)[0] == 200
        except OSError:
            return False

    system.wait_until(serves_again, "a new proxy serves")


def test_stopped_server_leaves_the_app_serving_and_adopts_it_again(system, phoenix):
    before = system.get(APP)
    with Requests(system, APP) as result:
        system.moor("server:stop")
        time.sleep(0.5)
        assert system.get(APP) == before
        system.start()
        time.sleep(1.5)
    assert result.failed == 0, result
    assert len(instances(system)) == 1
