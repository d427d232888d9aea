"""Rollouts of every strategy as people see them, under load: one by one, as a canary, held, cancelled."""

import os
import re
import time

import pytest

pytestmark = [pytest.mark.real, pytest.mark.acceptance]


@pytest.fixture(scope="module")
def shop(system):
    """An app with three instances; its checkout."""
    system.moor("create", "shop")
    folder = system.checkout("shop")
    pushed = system.push(folder)
    assert pushed.returncode == 0, pushed.stdout
    system.moor("ps:scale", "-a", "shop", "web=3")
    return folder


def define(system, text):
    return system.moor("-D", "shop", "set-service", "app", text)


def shown(system, *words):
    return system.run("moor", *words).stdout


def test_one_by_one_loses_no_request_and_never_has_fewer_than_wanted(system, shop, requests):
    define(system, "{rollout: one-by-one}")
    system.commit(shop, "next", VERSION="version 2\n")
    with requests("shop") as result:
        time.sleep(0.3)
        pushed = system.push(shop)
        assert pushed.returncode == 0, pushed.stdout
        system.moor("config:set", "-a", "shop", "GREETING=Hi")
        system.moor("ps:restart", "-a", "shop")
        system.moor("rollback", "-a", "shop")
    assert result.failed == 0, result
    assert result.total > 100
    beside = re.findall(r"v(\d+) serves with (\d) instances? beside (\d) of v\d+", pushed.stdout)
    assert len(beside) >= 5, pushed.stdout
    assert all(int(new) + int(old) in (3, 4) for _, new, old in beside)
    assert system.get("shop")[1].endswith("This is version 2.\n")


def test_version_that_fails_in_the_middle_leaves_the_old_one_whole(system, shop, requests):
    """The second instance does not come up: what had been replaced comes back before the new one leaves."""
    before = system.get("shop")
    flag = system.folder / "taken"
    flag.touch(mode=0o666)
    flag.chmod(0o666)
    source = (shop / "app.py").read_text()
    guard = f"""
import os, sys
taken = open({str(flag)!r}).read()
if taken:
    sys.exit("only one of us can be")
open({str(flag)!r}, "w").write("taken")
"""
    system.commit(shop, "only one", app__py=guard + source, VERSION="version 3\n")
    with requests("shop") as result:
        pushed = system.push(shop)
    assert pushed.returncode != 0
    assert "only one of us can be" in pushed.stdout
    assert result.failed == 0, result
    system.wait_until(lambda: shown(system, "ps", "-a", "shop").count("running") == 3, "all are back")
    assert system.get("shop") == before
    system.run("git", "reset", "-q", "--hard", "HEAD~1", folder=shop, check=True)


def test_canary_takes_requests_beside_the_old_ones_until_it_is_promoted(system, shop, requests):
    define(system, "{rollout: {strategy: canary, share: 30, timeout: 600}}")
    if "runs as a canary" in shown(system, "apps:info", "shop"):
        system.moor("deploy:promote", "-a", "shop")
    system.commit(shop, "canary", VERSION="version 4\n")
    with requests("shop") as result:
        pushed = system.push(shop)
        assert pushed.returncode == 0, pushed.stdout
        assert "runs as a canary with 1 instance beside" in pushed.stdout
        assert "Application deployed" not in pushed.stdout
        pages = {system.get("shop")[1] for _ in range(20)}
        assert len(pages) == 2
        assert "as a canary" in shown(system, "ps", "-a", "shop")
        promoted = system.moor("deploy:promote", "-a", "shop")
        assert "is live" in promoted
    assert result.failed == 0, result
    assert {system.get("shop")[1].splitlines()[-1] for _ in range(6)} == {"This is version 4."}


def test_aborted_canary_leaves_the_old_ones_and_says_by_whom(system, shop, requests):
    system.commit(shop, "another canary", VERSION="version 5\n")
    with requests("shop") as result:
        assert system.push(shop).returncode == 0
        system.moor("deploy:abort", "-a", "shop", "--reason", "errors went up")
        gone = "This is version 5."
        system.wait_until(lambda: gone not in {system.get("shop")[1] for _ in range(6)}, "it is gone")
    assert result.failed == 0, result
    newest = system.json("releases", "-a", "shop")[0]
    assert newest["status"] == "canceled"
    told = system.moor("releases:info", "-a", "shop", f"v{newest['number']}")
    assert "its canary was aborted by admin: errors went up" in told
    assert "No rollout of shop is under way" in shown(system, "deploy:abort", "-a", "shop")


def test_paused_rollout_is_shown_and_can_be_resumed_or_cancelled(system, shop, requests):
    with requests("shop") as result:
        system.moor("ps:restart", "-a", "shop")
        system.moor("deploy:pause", "-a", "shop")
        for words in (("ps", "-a", "shop"), ("deploys",), ("apps:info", "shop")):
            assert "is paused" in shown(system, *words)
        system.moor("deploy:resume", "-a", "shop", "--detach")
        system.moor("deploy:promote", "-a", "shop")
        assert "paused" not in shown(system, "ps", "-a", "shop")
        system.moor("ps:restart", "-a", "shop")
        system.moor("deploy:cancel", "-a", "shop")
        system.wait_until(lambda: shown(system, "ps", "-a", "shop").count("running") == 3, "three run")
    assert result.failed == 0, result


def test_command_beside_the_instance_says_whether_it_is_healthy(system, shop):
    user = 'test "$(id -u)" -ge 42000 && ' if os.geteuid() == 0 else ""
    good = f'{user}test -f app.py && test -n "$PORT" && test "$MOORING_VERSION" -gt 0'
    changed = system.run(
        "moor",
        "-D",
        "shop",
        "set-service",
        "app",
        f"{{rollout: null, checks: {{web: {{command: '{good}'}}}}}}",
    )
    assert changed.returncode == 0, changed.stdout
    bad = "{checks: {web: {command: 'echo not yet; exit 7', timeout: 3}}}"
    refused = system.run("moor", "-D", "shop", "set-service", "app", bad)
    assert refused.returncode == 1
    assert "was not healthy after 3 s: its check exited with status 7: not yet" in refused.stdout
    assert system.get("shop")[0] == 200
    stays = system.run("moor", "-D", "shop", "set-service", "app", "{checks: {web: {uptime: 2}}}")
    assert stays.returncode == 0, stays.stdout
