"""Logs of all sources, at all doors; and what becomes of router logs when something dies."""

import json
import os
import signal
import subprocess
import time
import urllib.request

import pytest

from contrib.installation import local_opener

pytestmark = [pytest.mark.real, pytest.mark.acceptance]

PRINTING = """
import os, sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        if self.path == "/crash":
            print("going down", flush=True)
            os._exit(7)
        if self.path == "/flood":
            for number in range(200_000):
                sys.stdout.write("flood %d\\n" % number)
            sys.stdout.flush()
        else:
            print("asked for " + self.path, flush=True)
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")
    def log_message(self, *_):
        pass
class Server(ThreadingHTTPServer):
    request_queue_size = 128
Server(("", int(os.environ["PORT"])), Handler).serve_forever(0.05)
"""


@pytest.fixture(scope="module")
def talker(system):
    system.moor("create", "talker")
    folder = system.checkout("talker")
    system.commit(folder, "it prints", app__py=PRINTING)
    pushed = system.push(folder)
    assert pushed.returncode == 0, pushed.stdout
    return folder


def lines(system, *words):
    return [json.loads(each) for each in system.moor("logs", "-a", "talker", "--json", *words).splitlines()]


def wait_for_lines(system, count, *words, timeout=20):
    """The lines of such a query once there are so many."""
    found = []

    def there():
        found[:] = lines(system, *words)
        return len(found) >= count

    system.wait_until(there, f"{count} lines are found by {words}", timeout=timeout)
    return found


def over_api(system, query):
    token = (system.data / "local-token").read_text().strip()
    request = urllib.request.Request(
        f"http://127.0.0.1:{system.api}/v1/deployments/talker/services/app/logs?{query}",
        headers={"Authorization": f"Bearer {token}"},
    )
    with local_opener().open(request, timeout=20) as answer:
        return [json.loads(each) for each in answer.read().splitlines() if each]


def test_all_sources_are_merged_by_time_at_every_door(system, talker):
    assert system.get("talker", "/one?token=secret") == (200, "ok")
    (request,) = wait_for_lines(system, 1, "--source", "router", "--grep", "/one")
    assert request["process"] == "web.1"
    assert "secret" not in request["text"]
    assert 'at=info method=GET path="/one" host=talker.localhost request_id=' in request["text"]
    assert " status=200 " in request["text"]

    found = lines(system)
    assert [each["time"] for each in found] == sorted(each["time"] for each in found)
    assert {each["source"] for each in found} == {"app", "build", "router", "system"}
    texts = [each["text"] for each in found]
    told = ["-----> Python app detected", "v1 is live", "asked for /one?token=secret"]
    assert [texts.index(each) for each in told] == sorted(texts.index(each) for each in told)

    query = ("--source", "router,app,build,system", "-n", "1000")
    local = system.moor("logs", "-a", "talker", *query)
    ssh = subprocess.run(
        system.ssh_command("logs", "talker", *query),
        env=system.env,
        text=True,
        capture_output=True,
        timeout=60,
    )
    assert (ssh.stdout, ssh.returncode) == (local, 0)
    assert "system[deploy]: v1 is live" in local
    assert over_api(system, "source=router&text=one") == [request]
    assert [each["text"] for each in over_api(system, "source=system&lines=1000&text=v1+is+live")] == [
        "v1 is live"
    ]


def test_filters_leave_what_was_asked_for(system, talker):
    moment = lines(system, "-n", "1")[0]["time"]
    assert system.get("talker", "/two")[0] == 200
    found = wait_for_lines(system, 2, "--since", moment, "--grep", "/two")
    assert {each["source"] for each in found} == {"app", "router"}
    assert not [each for each in lines(system, "--until", moment) if "/two" in each["text"]]
    assert lines(system, "-p", "worker") == []
    assert {each["source"] for each in lines(system, "-p", "web.1", "-n", "1000")} == {
        "app",
        "router",
        "system",
    }


def test_lines_of_an_instance_that_crashed_and_is_gone_are_found(system, talker):
    (instance,) = [each["id"] for each in system.json("ps", "-a", "talker")]
    system.get("talker", "/crash")
    wait_for_lines(system, 1, "--instance", instance, "--grep", "exited with status 7")
    (request,) = wait_for_lines(system, 1, "--source", "router", "--grep", "/crash")
    assert "at=error code=H13" in request["text"]
    system.wait_until(lambda: system.get("talker")[0] == 200, "it serves again")
    system.moor("ps:restart", "-a", "talker")
    assert instance not in json.dumps(system.json("ps", "-a", "talker"))
    texts = [each["text"] for each in lines(system, "--instance", instance, "-n", "1000")]
    assert "going down" in texts
    assert "exited with status 7" in texts


def test_stopped_app_says_why_it_answers_503(system, talker):
    system.moor("ps:stop", "-a", "talker")
    assert system.get("talker", "/nobody")[0] == 503
    (request,) = wait_for_lines(system, 1, "--source", "router", "--grep", "/nobody")
    assert "at=error code=H14" in request["text"]
    assert request["process"] == "web"
    system.moor("ps:start", "-a", "talker")


def test_followed_logs_show_a_new_version_and_its_requests(system, talker):
    system.wait_until(lambda: system.get("talker")[0] == 200, "it serves")
    follow = subprocess.Popen(
        system.command(("moor", "logs", "-a", "talker", "-t", "-n", "0", "--json")),
        env=system.env, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        time.sleep(1)  # until it follows: nothing says so
        system.commit(talker, "again")
        assert system.push(talker).returncode == 0
        assert system.get("talker", "/seen")[0] == 200
        seen = []
        for line in follow.stdout:
            seen.append(json.loads(line))
            # Each source is followed for itself: the request may be told before what the app printed.
            asked = any(each["source"] == "router" and "/seen" in each["text"] for each in seen)
            if asked and {each["source"] for each in seen} == {"app", "build", "router", "system"}:
                break
        else:
            raise AssertionError(f"the logs ended after {seen}")
        keys = [(each["time"], each["source"], each["instance"], each["text"]) for each in seen]
        assert len(keys) == len(set(keys))
    finally:
        follow.kill()
        follow.wait()
        follow.stdout.close()


def test_requests_while_the_server_is_killed_reach_the_log(system, talker, requests):
    moment = lines(system, "-n", "1")[0]["time"]
    with requests("talker", rate=100) as result:
        time.sleep(1)
        system.kill()
        time.sleep(2)
        system.start()
        time.sleep(1)
    assert result.failed == 0, result
    found = wait_for_lines(
        system, result.total, "--source", "router", "--since", moment, "--grep", 'path="/"'
    )
    # Those that were read and not yet written when it was killed are all that may be missing.
    assert len(found) == result.total


def proxy(system):
    """Its process."""
    return int((system.data / "haproxy" / "haproxy.pid").read_text())


def test_killed_proxy_loses_at_most_what_it_was_about(system, talker):
    moment = lines(system, "-n", "1")[0]["time"]
    for number in range(20):
        assert system.get("talker", f"/before/{number}")[0] == 200
    killed = proxy(system)
    os.kill(killed, signal.SIGKILL)

    def serves():
        """By the next one: what the killed one had begun may go on for a moment."""
        try:
            return proxy(system) != killed and system.get("talker", "/after")[0] == 200
        except (OSError, ValueError):
            return False

    system.wait_until(serves, "the proxy is back")
    assert (
        len(wait_for_lines(system, 20, "--source", "router", "--since", moment, "--grep", "/before/")) == 20
    )
    wait_for_lines(system, 1, "--source", "router", "--since", moment, "--grep", "/after")


def test_flood_of_lines_is_kept_within_bounds_and_read_in_a_moment(system, talker):
    assert system.get("talker", "/flood")[0] == 200
    wait_for_lines(system, 1, "--source", "app", "--grep", "flood 199999", "-n", "1")
    began = time.monotonic()
    # Only the flood: an app also tells of connections that a killed proxy or a check has reset.
    assert [each["text"] for each in lines(system, "--source", "app", "--grep", "flood ", "-n", "2")] == [
        "flood 199998",
        "flood 199999",
    ]
    assert lines(system, "--source", "app", "--grep", "flood 150000", "-n", "1")
    assert time.monotonic() - began < 10
    assert system.get("talker")[0] == 200


def test_settings_of_router_logs_are_checked(system):
    done = system.run("moor", "server", "--check-config", "--router-logs", "some")
    assert done.returncode != 0
    assert "on, errors and off" in done.stdout
