"""A database from nothing to its end, by what people type at both doors."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from contrib.installation import ROOT, Installation

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
    planned = [*ssh, "resources:schedule", "shop", "db", '"0 3 * * *"', "--keep", "3"]
    assert b"0 3 * * * (UTC)" in subprocess.run(planned, check=True, capture_output=True).stdout
    ask("UPDATE t SET x = 'changed'")
    system.kill()
    system.start()
    system.wait_until(lambda: system.json("resources", "-a", "shop")[0]["status"] == "ready", "it is known")
    sent = subprocess.run(
        [*ssh, "resources:import", "shop", "db"], input=dump, capture_output=True, check=False
    )
    assert sent.returncode == 0, sent.stderr
    assert ask("SELECT x FROM t").strip() == "kept"
    plan = system.json("resources:info", "-a", "shop", "db")["backup"]
    assert (plan["schedule"], plan["keep"]) == ("0 3 * * *", 3), "it outlives the server"
    refused = system.run("moor", "resources:destroy", "-a", "shop", "db", "--confirm", "db")
    assert refused.returncode == 1 and "attached to app: detach it first" in refused.stdout
    system.moor("resources:detach", "-a", "shop", "db")
    system.moor("resources:destroy", "-a", "shop", "db", "--confirm", "db")
    system.wait_until(lambda: system.json("volumes", "-a", "shop") == [], "its volume is gone")


FILES = {
    "tables.sql": "CREATE TABLE users (name text, password text);\n",
    "add-user": """psql -q "$DATABASE_URL" -c "INSERT INTO users VALUES ('$1', '$2')" && echo added $1\n""",
    "app.py": """
import os, subprocess
from http.server import BaseHTTPRequestHandler, HTTPServer

class Users(BaseHTTPRequestHandler):
    def do_GET(self):
        sound = "SELECT name FROM users WHERE password ~ '^[0-9a-f]{32}$'"
        words = ["psql", os.environ["DATABASE_URL"], "-XAtqc", sound]
        body = subprocess.run(words, capture_output=True, check=True).stdout + os.environ["COLOR"].encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

HTTPServer(("", int(os.environ["PORT"])), Users).serve_forever()
""",
}


def test_one_file_sets_up_a_database_and_what_needs_it(system: Installation) -> None:
    """The example of contrib/servicefile.md, with one more service beside it."""
    page = (ROOT / "contrib" / "servicefile.md").read_text()
    (example,) = re.findall(r"```yaml databases\n(.*?)```", page, re.DOTALL)
    text = f"{example}site: {{git: ., require: db, env: {{COLOR: blue}}}}\nEnv: {{COLOR: red}}\n"
    folder = system.checkout("members")
    broken = FILES["tables.sql"].replace("TABLE", "TABEL")
    system.commit(folder, "Users", **{**FILES, "tables.sql": broken})
    file = folder / "Servicefile"
    file.write_text(text)

    system.moor("create-deployment", "members")
    plan = system.run("moor", "-D", "members", "deploy", "Servicefile", "--plan", folder=folder)
    assert "+ Resources.db" in plan.stdout, plan.stdout
    failed = system.run("moor", "-D", "members", "deploy", "Servicefile", folder=folder)
    assert failed.returncode == 1, f"{failed.stdout}\n{system.last_lines()}"
    for told in ('syntax error at or near "TABEL"', "CreateTables failed"):
        assert told in failed.stdout, failed.stdout
    assert "CreateTables failed" in system.moor("exec", "-D", "members"), "it is shown later too"
    assert system.get("web-members")[0] == 404, "web is held"

    system.commit(folder, "Tables that postgres takes", **{"tables.sql": FILES["tables.sql"]})
    mended = system.run("moor", "-D", "members", "deploy", "Servicefile", folder=folder)
    assert "web: newer code" in mended.stdout, "its code is brought along while it is held"
    assert "moor exec:retry -a members CreateTables" in mended.stdout, "a person decides when"
    system.moor("exec:retry", "-D", "members", "CreateTables")
    system.wait_until(lambda: system.get("web-members")[0] == 200, "web was released")
    assert system.get("web-members") == (200, "admin\nred")
    assert system.get("site-members") == (200, "admin\nblue")

    again = system.run("moor", "-D", "members", "deploy", "Servicefile", folder=folder)
    assert again.stdout.strip().endswith("No changes."), again.stdout
    file.write_text(text.replace("blue", "green"))
    third = system.run("moor", "-D", "members", "deploy", "Servicefile", folder=folder)
    assert re.findall(r"New instance id (\S+)", third.stdout) == ["members-site-3-web-1"], third.stdout
    assert system.get("site-members") == (200, "admin\ngreen")

    file.write_text("Env: {COLOR: red}\nweb: {git: .}\n")
    last = system.run("moor", "-D", "members", "deploy", "Servicefile", "--prune", folder=folder)
    assert "db is no more in the file. It stays, with its data" in last.stdout, last.stdout
    assert system.json("resources", "-a", "members")[0]["status"] == "ready"
    assert system.get("web-members") == (200, "admin\nred")
