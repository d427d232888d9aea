"""Processes of an app, as people handle them: one type, one instance, maintenance, limits, crash loops."""

import pytest

pytestmark = [pytest.mark.real, pytest.mark.acceptance]

MIB = 1024**2
APP = """
import os, sys, threading, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        if self.path == "/eat":
            held.append(bytearray(300_000_000))
        if self.path == "/exit":
            os._exit(3)
        body = os.environ.get("MOORING_VERSION", "").encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_):
        pass
class Server(ThreadingHTTPServer):
    request_queue_size = 128
held = []
Server(("", int(os.environ["PORT"])), Handler).serve_forever()
"""
WORKER = """
import os, sys, time
time.sleep(0.2 if os.path.exists("/tmp/%s.dies" % os.environ["MOORING_APP"]) else 10_000)
sys.exit(3)
"""


@pytest.fixture(scope="module")
def mill(system):
    """An app with web=2 and worker=1."""
    system.moor("create", "mill")
    folder = system.checkout("mill")
    procfile = "web: python app.py\nworker: python worker.py\n"
    system.commit(folder, "mill", app__py=APP, worker__py=WORKER, Procfile=procfile)
    pushed = system.push(folder)
    assert pushed.returncode == 0, pushed.stdout
    system.moor("ps:scale", "-a", "mill", "web=2", "worker=1")
    return folder


def ids(system, kind="web"):
    return [each["id"] for each in system.json("ps", "-a", "mill") if each["process_type"] == kind]


def events(system):
    return [each["text"] for each in system.json("events", "mill")]


def test_one_instance_and_one_type_are_restarted_without_a_lost_request(system, mill, requests):
    one, two = ids(system)
    with requests("mill") as result:
        printed = system.moor("ps:restart", "-a", "mill", "web.1")
        assert f"Restarted {one}" in printed
        assert one not in ids(system) and two in ids(system)
        before = ids(system)
        system.moor("ps:restart", "-a", "mill", "web")
        assert len(ids(system)) == 2 and not set(before) & set(ids(system))
        done = system.run(*system.ssh_command("ps:restart", "mill", ids(system)[0]))
        assert done.returncode == 0, done.stdout
    assert result.failed == 0, result
    assert len(ids(system, "worker")) == 1


def test_one_type_and_one_instance_are_stopped_and_started(system, mill, requests):
    with requests("mill") as result:
        system.moor("ps:stop", "-a", "mill", "worker")
        assert ids(system, "worker") == []
        name = f"web.{ids(system)[1].rpartition('-')[2]}"
        system.moor("ps:stop", "-a", "mill", name)
        assert len(ids(system)) == 1
        assert f"worker {name}" in system.moor("apps:info", "mill")
        system.moor("ps:start", "-a", "mill", name)
        assert len(ids(system)) == 2
        system.moor("ps:start", "-a", "mill")
        assert len(ids(system, "worker")) == 1
    assert result.failed == 0, result
    unknown = system.run("moor", "ps:stop", "-a", "mill", "wroker")
    assert unknown.returncode == 1
    assert "known are: web, worker" in unknown.stdout


def test_maintenance_answers_for_the_app_while_it_runs_and_is_deployed(system, mill):
    page = system.folder / "soon.html"
    page.write_text("<h1>Bis gleich\n{um 8}</h1>")
    system.moor("maintenance:on", "-a", "mill", "--page", str(page))
    assert system.get("mill") == (503, "<h1>Bis gleich {um 8}</h1>")
    assert len(ids(system)) == 2
    system.moor("config:set", "-a", "mill", "NEW=1")
    assert system.get("mill")[0] == 503
    assert "on, with a page of its own" in system.moor("maintenance", "-a", "mill")
    system.moor("maintenance:on", "-a", "mill")
    assert "Down for maintenance" in system.get("mill")[1]
    system.moor("maintenance:off", "-a", "mill")
    assert system.get("mill")[0] == 200


def test_instance_above_its_memory_limit_is_killed_and_says_so(system, mill):
    system.moor("limits:set", "-a", "mill", "web", "--memory", "100M", "--pids", "64")
    found = {each["process_type"]: each for each in system.json("limits", "-a", "mill")}
    assert found["web"]["limits"]["memory"] == 100 * MIB
    assert (found["web"]["sources"]["memory"], found["web"]["sources"]["nofile"]) == ("type", "server")
    assert found["worker"]["limits"]["memory"] == 512 * MIB
    assert set(system.json("status")["limits"]) == {"cpu", "memory", "pids", "nofile"}
    system.get("mill", "/eat")
    said = "killed: used more than its limit of 100 MiB"
    system.wait_until(lambda: any(said in each for each in events(system)), "its end is told")
    system.wait_until(lambda: system.get("mill")[0] == 200, "it serves again")


def test_crash_loop_is_told_once_and_ends_with_a_restart(system, mill):
    (name,) = ids(system, "worker")
    trigger = system.folder.parent / "mill.dies"
    trigger.touch()
    try:
        system.moor(
            "ps:restart", "-a", "mill", "--detach"
        )  # fails: the worker can't come up, the old one stays
        system.wait_until(lambda: any("Restart failed" in each for each in events(system)), "it is given up")
        assert ids(system, "worker") == [name]
    finally:
        trigger.unlink()
    system.moor("ps:restart", "-a", "mill", "worker")
    assert ids(system, "worker") != [name]
