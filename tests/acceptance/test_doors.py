"""Events as they happen, tokens that give less, and doors that stay closed, with the real server and the real ssh."""

import json
import select
import subprocess
import urllib.request

import pytest

from cli.verbs import VERBS
from contrib.installation import MOOR, local_opener

pytestmark = [pytest.mark.real, pytest.mark.acceptance]


def records(process, count):
    """So many lines of JSON from a command that goes on."""
    found = []
    while len(found) < count:
        ready, _, _ = select.select([process.stdout], [], [], 30)
        assert ready, f"nothing more came behind {found}"
        found.append(json.loads(process.stdout.readline()))
    return found


@pytest.mark.parametrize("door", ["moor", "ssh"])
def test_events_are_followed_as_they_happen(system, door):
    app = f"seen-by-{door}"
    words = ("events", "--follow", "-n", "1", "--json")
    command = [str(MOOR), *words] if door == "moor" else system.ssh_command(*words)
    following = subprocess.Popen(
        command, env=system.env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, bufsize=0
    )
    try:
        (past,) = records(following, 1)
        system.moor("apps:create", app)
        (new,) = records(following, 1)
        assert (new["kind"], new["deployment"]) == ("deployment.created", app)
        assert new["revision"] > past["revision"]
        told = system.json("events", "--after", str(past["revision"]), "--kind", "deployment")
        assert [each["deployment"] for each in told] == [app]
    finally:
        following.kill()
        following.wait()


def test_a_narrowed_token_gives_what_it_says_and_no_more(system):
    system.moor("apps:create", "mine")
    system.moor("apps:create", "other")
    token = system.moor("tokens:create", "--right", "view", "--app", "mine", "--expires", "1h").strip()
    env = {"PATH": system.env["PATH"], "MOOR_URL": f"http://127.0.0.1:{system.api}", "MOOR_TOKEN": token}

    def moor(*words):
        return subprocess.run([MOOR, *words], env=env, text=True, capture_output=True, timeout=60)

    assert "mine" in moor("apps").stdout
    assert "other" not in moor("apps").stdout
    assert moor("apps:info", "-a", "mine").returncode == 0
    assert "this needs operate" in moor("config:set", "-a", "mine", "A=1").stderr
    assert "There is no app other" in moor("apps:info", "-a", "other").stderr
    assert "narrowed token" in moor("tokens:create").stderr
    assert "narrowed token" in moor("apps:create", "more").stderr
    (shown,) = [each for each in system.json("tokens") if each["right"] == "view"]
    assert (shown["deployments"], bool(shown["expires_at"]), bool(shown["last_used_at"])) == (
        ["mine"],
        True,
        True,
    )
    system.moor("tokens:remove", shown["id"])
    assert "not known here" in moor("apps").stderr


def test_the_same_request_sent_twice_is_done_once_also_by_a_server_that_was_killed(system):
    token = system.moor("tokens:create").strip()
    body = json.dumps({"name": "once"}).encode()

    def create():
        request = urllib.request.Request(
            f"http://127.0.0.1:{system.api}/v1/deployments",
            data=body,
            headers={
                "Authorization": f"Bearer {token}",
                "Content-Type": "application/json",
                "Idempotency-Key": "0123456789abcdef",
            },
        )
        with local_opener().open(request, timeout=30) as answer:
            return answer.status, answer.read(), answer.headers["Idempotency-Replayed"]

    first = create()
    system.kill()
    system.start()
    assert create() == (201, first[1], "true")
    assert first[2] is None


def test_no_verb_and_no_request_of_git_gets_through_without_a_key(system, tmp_path):
    key = tmp_path / "stranger"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    requests = [*VERBS, "", "git-upload-pack 'mine.git'", "git-receive-pack 'mine.git'"]
    for words in requests:
        done = subprocess.run(
            system.ssh_command(*words.split(), key=key), env=system.env, stdin=subprocess.DEVNULL,
            text=True, capture_output=True, timeout=30,
        )  # fmt: skip
        assert (done.returncode, done.stdout) == (255, ""), words
        # Whoever fails so often is not even greeted in the end.
        assert "Permission denied" in done.stderr or "kex_exchange" in done.stderr, words
