"""A database from nothing to its end, by what people type at both doors."""

import shutil
import subprocess
from pathlib import Path

import pytest

from contrib.installation import Installation

pytestmark = [pytest.mark.real, pytest.mark.acceptance]


def test_a_database_is_made_attached_saved_over_ssh_and_outlives_the_server(system: Installation) -> None:
    if not Path("/usr/lib/postgresql").exists() or not shutil.which("psql"):
        pytest.skip("postgresql is not installed")
    system.moor("create", "shop")
    folder = system.checkout("shop")
    assert system.run("git", "push", "deploy", "HEAD:master", folder=folder).returncode == 0
    system.moor("resources:create", "-a", "shop", "postgres", "db")
    system.moor("resources:attach", "-a", "shop", "db")
    url = system.run("moor", "run", "-a", "shop", "printenv", "DATABASE_URL").stdout.strip()
    assert url == system.json("resources:info", "-a", "shop", "db")["values"]["URL"]

    def ask(command: str) -> str:
        return subprocess.run(
            ["psql", url, "-XAtqc", command], check=True, capture_output=True, text=True
        ).stdout

    ask("CREATE TABLE t AS SELECT 'kept' AS x")
    ssh = ["ssh", *system.ssh_options(system.key), "-p", str(system.ssh), "deploy@127.0.0.1"]
    dump = subprocess.run([*ssh, "resources:export", "shop", "db"], check=True, capture_output=True).stdout
    ask("UPDATE t SET x = 'changed'")
    system.kill()
    system.start()
    system.wait_until(lambda: system.json("resources", "-a", "shop")[0]["status"] == "ready", "it is known")
    sent = subprocess.run(
        [*ssh, "resources:import", "shop", "db"], input=dump, capture_output=True, check=False
    )
    assert sent.returncode == 0, sent.stderr
    assert ask("SELECT x FROM t").strip() == "kept"
    refused = system.run("moor", "resources:destroy", "-a", "shop", "db", "--confirm", "db")
    assert refused.returncode == 1 and "attached to app: detach it first" in refused.stdout
    system.moor("resources:detach", "-a", "shop", "db")
    system.moor("resources:destroy", "-a", "shop", "db", "--confirm", "db")
    system.wait_until(lambda: system.json("volumes", "-a", "shop") == [], "its volume is gone")
