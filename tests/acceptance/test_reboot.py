"""After a reboot: what ran before runs again, everything is routed to itself, and nothing to a stranger."""

import http.server
import os
import signal
import threading
from contextlib import contextmanager

import pytest

from controller.backends.keeper.processes import Census, Family

pytestmark = [pytest.mark.real, pytest.mark.acceptance]

ANOTHER_BOOT = "00000000-0000-0000-0000-000000000000"
APPS = {"north": 2, "south": 1, "east": 1}
SERVES = """
import os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
PAGE = open("VERSION").read().encode()
class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", str(len(PAGE)))
        self.end_headers()
        self.wfile.write(PAGE)
    def log_message(self, *_):
        pass
ThreadingHTTPServer(("", int(os.environ["PORT"])), Handler).serve_forever()
"""


def page(app, version):
    return f"{app} {version}"


def deployed(system, app, version):
    folder = system.checkout(app)
    system.commit(folder, f"{app} {version}", app__py=SERVES, VERSION=page(app, version))
    pushed = system.push(folder)
    assert pushed.returncode == 0, pushed.stdout
    return folder


def power_cut(system):
    """Everything of it is gone at once, and what was noted of processes is of another boot."""
    haproxy = int((system.data / "haproxy" / "haproxy.pid").read_text())
    keeper = int((system.data / "supervisor" / "supervisord.pid").read_text())
    realm = (system.data / "supervisor" / "realm").read_text()
    census = Census.take()
    doomed = census.living(census.below({haproxy, keeper})) | Family(f"{realm}/").members(census)
    system.kill()
    for pid in doomed:
        os.kill(pid, signal.SIGKILL)
    system.wait_until(lambda: not Census.take().living(doomed), "everything is gone")
    for file in (system.data / "supervisor" / "instances").glob("*.pid"):
        _, pid, started = file.read_text().split()
        file.write_text(f"{ANOTHER_BOOT} {pid} {started}\n")
    (system.data / "haproxy" / "current" / "boot").write_text(ANOTHER_BOOT)


@contextmanager
def stranger(port):
    """A program that has nothing to do with us was started before us, on a port of ours."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            met.append(self.headers.get("Host"))
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"stranger")

        def log_message(self, *_):
            pass

    met = []
    server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield met
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def running(system, app):
    return [each for each in system.json("ps", "-a", app) if each["state"] == "running"]


def test_after_a_reboot_the_same_runs_and_each_is_routed_to_itself(system):
    for app in APPS:
        system.moor("create", app)
        folder = deployed(system, app, 1)
    system.moor("ps:scale", "-a", "north", "web=3")
    system.moor("ps:stop", "-a", "north", "web.3")
    system.commit(folder, "broken", app__py="raise SystemExit(3)")
    assert system.push(folder).returncode != 0
    before = {app: running(system, app) for app in APPS}
    assert {app: len(found) for app, found in before.items()} == APPS
    lost = before["north"][0]

    power_cut(system)
    with stranger(lost["port"]) as met:
        system.start()
        system.wait_until(
            lambda: {app: len(running(system, app)) for app in APPS} == APPS, "all run again", timeout=60
        )
        after = {app: running(system, app) for app in APPS}
        for app in APPS:
            system.wait_until(lambda app=app: system.get(app)[0] == 200, f"{app} is routed")
            assert {system.get(app) for _ in range(12)} == {(200, page(app, 1))}
            assert [(each["id"], each["version"]) for each in after[app]] == [
                (each["id"], each["version"]) for each in before[app]
            ]
        assert lost["port"] not in {each["port"] for found in after.values() for each in found}
        assert [each for each in met if each and "localhost" in each] == []
    assert system.json("status")["problems"] == []
    assert [each["restarts"] for found in after.values() for each in found] == [0] * 4
