"""From a push to a served page, and everything that people do with an app afterwards."""

import json
import re
import subprocess
import time

import pytest

pytestmark = [pytest.mark.real, pytest.mark.acceptance]


@pytest.fixture(scope="module")
def hello(system):
    """An app that was pushed once; its checkout."""
    system.moor("create", "hello")
    folder = system.checkout("hello")
    pushed = system.push(folder)
    assert pushed.returncode == 0, pushed.stdout
    return folder


def test_push_shows_its_way_and_serves_the_page(system):
    system.moor("create", "first")
    folder = system.checkout("first")
    pushed = system.push(folder)
    assert pushed.returncode == 0, pushed.stdout
    lines = [line.removeprefix("remote: ").rstrip() for line in pushed.stdout.splitlines()]
    for expected in (
        r"-----> Python app detected",
        r"-----> Discovering process types",
        r"       Procfile declares types -> web",
        r"=====> Application deployed:",
        rf"       http://first\.localhost:{system.http}",
    ):
        assert any(re.match(expected, line) for line in lines), f"{expected!r} is not in:\n{pushed.stdout}"
    assert system.get("first") == (200, "Hello from Mooring\nThis is version 1.\n")


def test_pushing_the_same_again_is_up_to_date(system, hello):
    assert "Everything up-to-date" in system.push(hello).stdout


def test_unknown_domain_is_answered_with_404(system):
    assert system.get("nobody")[0] == 404


def test_second_push_loses_no_request(system, hello, requests):
    system.commit(hello, "second", VERSION="version 2\n")
    with requests("hello") as result:
        time.sleep(0.3)
        pushed = system.push(hello)
        assert pushed.returncode == 0, pushed.stdout
    assert result.total > 50
    assert result.failed == 0, result
    assert "version 2" in system.get("hello")[1]


def test_config_scale_restart_and_rollback_lose_no_request(system, hello, requests):
    with requests("hello") as result:
        system.moor("config:set", "-a", "hello", "GREETING=Ahoy\nthere 100% 'sure'")
        assert system.get("hello")[1].startswith("Ahoy\nthere 100% 'sure'")
        system.moor("ps:scale", "-a", "hello", "web=3")
        system.moor("ps:restart", "-a", "hello")
        system.moor("ps:scale", "-a", "hello", "web=1")
        system.moor("rollback", "-a", "hello")
    assert result.failed == 0, result
    assert system.get("hello")[1].startswith("Hello from Mooring")


def test_broken_version_is_rejected_with_its_log_and_the_old_one_keeps_serving(system, hello, requests):
    before = system.get("hello")
    system.commit(hello, "broken", app__py="import sys\nprint('no database here')\nsys.exit(3)\n")
    with requests("hello") as result:
        pushed = system.push(hello)
    assert pushed.returncode != 0
    assert "exited with status 3" in pushed.stdout
    assert "no database here" in pushed.stdout
    assert "[remote rejected]" in pushed.stdout
    assert result.failed == 0, result
    assert system.get("hello") == before
    system.run("git", "reset", "-q", "--hard", "HEAD~1", folder=hello, check=True)
    system.commit(hello, "mended", VERSION="version 4\n")
    assert system.push(hello).returncode == 0
    assert "version 4" in system.get("hello")[1]


def test_stopped_app_takes_config_and_pushes_and_comes_up_with_them(system, hello):
    system.moor("ps:stop", "-a", "hello")
    assert "ps:start" in system.moor("config:set", "-a", "hello", "GREETING=Later")
    system.commit(hello, "while it is stopped", VERSION="version 5\n")
    pushed = system.push(hello)
    assert pushed.returncode == 0, pushed.stdout
    assert "ps:start" in pushed.stdout
    assert system.get("hello")[0] == 503
    system.moor("ps:start", "-a", "hello")
    assert system.get("hello") == (200, "Later\nThis is version 5.\n")
    system.moor("config:unset", "-a", "hello", "GREETING")


def test_other_branch_is_stored_and_not_deployed(system, hello):
    pushed = system.push(hello, "deploy", "HEAD:refs/heads/feature")
    assert pushed.returncode == 0, pushed.stdout
    assert "stored" in pushed.stdout
    refs = system.run("git", "ls-remote", "deploy", folder=hello).stdout
    assert "refs/heads/feature" in refs


def test_clone_gives_back_what_was_pushed(system, hello, tmp_path):
    done = system.run("git", "clone", "-q", system.remote("hello"), str(tmp_path / "clone"))
    assert done.returncode == 0, done.stdout
    assert (tmp_path / "clone" / "Procfile").read_text() == (hello / "Procfile").read_text()


def test_app_runs_as_a_user_of_its_own_and_sees_nothing_of_the_server(system):
    system.moor("create", "spy")
    folder = system.checkout("spy")
    probe = """
import http.server, json, os
class H(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = json.dumps({"uid": os.getuid(), "groups": os.getgroups(), "env": dict(os.environ),
                           "cwd": os.getcwd(), "secret": os.path.exists("DATA/local-token")
                           and os.access("DATA/local-token", os.R_OK)}).encode()
        self.send_response(200); self.send_header("Content-Length", str(len(body))); self.end_headers()
        self.wfile.write(body)
http.server.ThreadingHTTPServer(("", int(os.environ["PORT"])), H).serve_forever()
""".replace("DATA", str(system.data))
    system.commit(folder, "spy", app__py=probe)
    assert system.push(folder).returncode == 0
    import json
    import os

    seen = json.loads(system.get("spy")[1])
    if os.geteuid() == 0:
        assert seen["uid"] >= 42000
        assert seen["groups"] in ([], [seen["uid"]])
        assert not seen["secret"]
    leaked = [
        name for name in seen["env"] if name.startswith(("MOOR_", "SUPERVISOR", "GIT_", "SSH", "PYTEST"))
    ]
    assert leaked in ([], ["MOOR_RUN"])  # the backend's own mark, by which it finds every child


def test_logs_show_what_the_app_printed(system, hello):
    assert "listens on port" in system.moor("logs", "-a", "hello")


def test_app_of_two_parts_has_an_address_of_its_own_for_each(system):
    system.moor("create", "shop")
    folder = system.checkout("shop")
    system.run("git", "remote", "set-url", "deploy", system.remote("shop/api"), folder=folder, check=True)
    pushed = system.push(folder)
    assert pushed.returncode == 0, pushed.stdout
    assert system.get("api-shop")[0] == 200


def test_static_site_is_served(system):
    system.moor("create", "site")
    folder = system.checkout("site", sample="static")
    pushed = system.push(folder)
    assert pushed.returncode == 0, pushed.stdout
    status, page = system.get("site")
    assert (status, "<html" in page.lower()) == (200, True)
    assert system.get("site", "/../../etc/passwd")[0] in (400, 404)


def test_requirements_are_installed_and_the_cache_makes_the_second_build_shorter(system):
    system.moor("create", "deps")
    folder = system.checkout("deps", sample="python-requirements")
    pushed = system.push(folder)
    assert pushed.returncode == 0, pushed.stdout
    assert system.get("deps")[0] == 200
    system.commit(folder, "again")
    assert system.push(folder).returncode == 0


def test_an_app_json_sets_up_what_nobody_has_set(system):
    system.moor("create", "manifest")
    folder = system.checkout("manifest")
    manifest = {
        "env": {"GREETING": "Hi", "KEY": {"generator": "secret"}, "MAIL": {"description": "its host"}},
        "formation": {"web": {"quantity": 2}},
        "scripts": {"dokku": {"predeploy": "echo $GREETING before"}, "postdeploy": "echo once"},
        "healthchecks": {"web": [{"type": "startup", "path": "/up"}]},
    }
    system.commit(folder, "with an app.json", app__json=json.dumps(manifest))
    refused = system.push(folder)
    assert "MAIL is required, and nobody has set it (its host)." in refused.stdout
    assert "config:set -a manifest MAIL=" in refused.stdout
    system.moor("config:set", "-a", "manifest", "MAIL=mail.example.org")
    pushed = system.push(folder)
    assert pushed.returncode == 0, pushed.stdout
    assert "Setting GREETING, KEY, as app.json says" in pushed.stdout
    assert system.get("manifest")[1].startswith("Hi\n")
    assert (
        "web=2" in system.moor("ps", "-a", "manifest")
        or system.moor("ps", "-a", "manifest").count("web.") >= 2
    )
    secret = system.moor("config:get", "-a", "manifest", "KEY")
    output = system.moor("releases:output", "-a", "manifest", "v1")
    assert ("Hi before" in output, "once" in output) == (True, True)
    system.commit(folder, "again", VERSION="version 2\n")
    assert system.push(folder).returncode == 0
    assert system.moor("config:get", "-a", "manifest", "KEY") == secret
    assert "once" not in system.moor("releases:output", "-a", "manifest", "v2")


def test_worker_only_app_runs_without_a_route(system):
    system.moor("create", "work")
    folder = system.checkout("work", sample="procfile")
    system.moor("ps:scale", "-a", "work", "worker=1")
    pushed = system.push(folder)
    assert pushed.returncode == 0, pushed.stdout
    assert "worker.1" in system.moor("ps", "-a", "work")


def test_destroyed_app_leaves_nothing(system):
    system.moor("create", "gone")
    folder = system.checkout("gone")
    assert system.push(folder).returncode == 0
    system.moor("destroy", "gone", "--force")
    system.wait_until(lambda: system.get("gone")[0] == 404, "the domain is gone")
    system.wait_until(lambda: not list(system.data.glob("*/gone/*")), "its files are gone", timeout=20)
    assert "gone" not in system.moor("list")


class TestOverSsh:
    def run(self, system, *words, stdin=""):
        return subprocess.run(
            system.ssh_command(*words),
            env=system.env,
            input=stdin,
            text=True,
            capture_output=True,
            timeout=60,
        )

    def test_admin_commands_speak_the_grammar_people_know(self, system, hello):
        assert self.run(system, "apps").stdout.split().count("hello") == 1
        assert self.run(system, "ps:scale", "hello", "web=2").returncode == 0
        assert "web=2" in self.run(system, "ps:scale", "hello").stdout
        assert self.run(system, "ps:scale", "hello", "web=1").returncode == 0
        assert self.run(system, "config:set", "hello", "A=1", "B='two words'").returncode == 0
        assert "two words" in self.run(system, "config", "hello").stdout
        assert self.run(system, "--", "--quiet", "config:unset", "hello", "A", "B").returncode == 0
        assert "hello.localhost" in self.run(system, "domains", "hello").stdout
        assert re.search(r"\bv\d+\b", self.run(system, "releases", "hello").stdout)

    def test_domain_that_was_added_serves_at_once(self, system, hello):
        assert self.run(system, "domains:add", "hello", "www.example.localhost").returncode == 0
        system.wait_until(lambda: system.get("www.example")[0] == 200, "the added domain serves", timeout=5)
        assert self.run(system, "domains:remove", "hello", "www.example.localhost").returncode == 0

    def test_failure_has_its_exit_status_and_words(self, system):
        done = self.run(system, "config", "nosuchapp")
        assert done.returncode == 1
        assert done.stderr.startswith(" !     ")
        assert self.run(system, "no:such:verb").returncode == 2

    def test_closed_terminal_ends_following_logs(self, system, hello):
        process = subprocess.Popen(
            ["ssh", "-tt", *system.ssh_command("logs", "hello", "-t")[1:]],
            env=system.env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        assert process.stdout.readline()
        assert process.stdin
        process.stdin.write(b"\x03")
        process.stdin.flush()
        assert process.wait(timeout=10) == 130

    def test_key_without_rights_may_not_push_or_look(self, system, hello, tmp_path):
        other = tmp_path / "other"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", other], check=True)
        system.moor("users:create", "bob")
        system.moor("ssh-keys:add", "bob-key", f"{other}.pub", "--user", "bob")
        done = subprocess.run(
            system.ssh_command("config", "hello", key=other), env=system.env, text=True, capture_output=True
        )
        assert done.returncode == 1
        pushed = subprocess.run(
            ["git", "push", system.remote("hello"), "HEAD:master"],
            cwd=hello,
            env={**system.env, "GIT_SSH_COMMAND": " ".join(["ssh", *system.ssh_options(other)])},
            text=True, capture_output=True,
        )  # fmt: skip
        assert pushed.returncode != 0
        assert " !     " in pushed.stderr
        system.moor("access:add", "bob", "-a", "hello", "--right", "view")
        done = subprocess.run(
            system.ssh_command("config:set", "hello", "A=1", key=other),
            env=system.env,
            text=True,
            capture_output=True,
        )
        assert done.returncode == 1
        assert "operate" in done.stderr or "right" in done.stderr
