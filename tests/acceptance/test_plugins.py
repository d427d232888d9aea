"""Plugins on a whole system: the sample, and one that hangs beside it."""

import http.server
import json
import shutil
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from contrib.installation import ROOT, Installation

pytestmark = [pytest.mark.real, pytest.mark.acceptance]

HANGS = """
import time
from controller.plugins.hooks import hookimpl

priority = 1

@hookimpl
def setup(service):
    time.sleep(3600)

@hookimpl
def before_start(start):
    return {"NEVER": "asked"}
"""
GREETS = """
from controller.plugins.hooks import hookimpl

@hookimpl
def provide_vars():
    return {"WHO": "plugins"}

@hookimpl
def before_start(start):
    return {"MY_ID": start.id}
"""


class Hook:
    """Where the sample's notices go."""

    def __init__(self) -> None:
        self.texts = list[str]()
        texts = self.texts

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                texts.append(json.loads(self.rfile.read(int(self.headers["Content-Length"])))["text"])
                self.send_response(204)
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                """Nobody reads it."""

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_address[1]}/hook"


@pytest.fixture
def here() -> Iterator[tuple[Installation, Hook]]:
    made, hook = Installation(settings={"plugin-timeout": "4"}), Hook()
    plugins = made.data / "plugins"
    plugins.mkdir(parents=True)
    shutil.copy(ROOT / "contrib" / "plugins" / "notify.py", plugins)
    (plugins / "hangs.py").write_text(HANGS)
    (plugins / "greets.py").write_text(GREETS)
    (plugins / "broken.py").write_text("import nothing_of_that_name\n")
    try:
        made.start()
        made.add_key()
        yield made, hook
    finally:
        log = made.last_lines(100)
        made.remove()
        hook.server.shutdown()
        print(log)


def test_plugins_of_a_server(here: tuple[Installation, Hook]) -> None:
    system, hook = here
    system.moor("create", "shop")
    folder = system.checkout("shop")
    (folder / "Servicefile").write_text(
        f"Notify: {{url: '{hook.url}'}}\nBackups: {{daily: true}}\nweb: {{git: ., env: {{GREETING: 'by {{WHO}}'}}}}\n"
    )
    done = system.run("moor", "-D", "shop", "deploy", "Servicefile", folder=folder)
    assert done.returncode == 0, done.stdout
    assert "Backups is no section that is known here" in done.stdout
    assert "Notify is no section" not in done.stdout, "a plugin acts on it"
    system.wait_until(lambda: system.get("web-shop")[0] == 200, "it is deployed, whatever hangs")
    assert "by plugins" in system.run("moor", "run", "-a", "shop/web", "printenv", "GREETING").stdout

    report = {each["name"]: each for each in system.json("plugins")["plugins"]}
    assert {name: each["standing"] for name, each in report.items()} == {
        "require": "built in",
        "resources": "built in",
        "app": "built in",
        "domains": "built in",
        "exec": "built in",
        "generate": "built in",
        "announce": "built in",
        "broken": "failed",
        "greets": "on",
        "hangs": "suspended",
        "notify": "on",
    }
    assert "did not answer within 4 s" in report["hangs"]["why"]
    system.wait_until(lambda: "shop/web v1 is rolled out" in hook.texts, "the webhook is told")

    assert "Sent to" in system.run("moor", "-D", "shop", "notify:test", "hello", folder=system.folder).stdout
    over_ssh = system.run(*system.ssh_command("notify:test", "shop", "by", "ssh"))
    assert "Sent to" in over_ssh.stdout, over_ssh.stdout
    assert hook.texts[-2:] == ["hello", "by ssh"]
    assert "There is no verb notify:nothing" in system.run("moor", "notify:nothing").stdout

    system.kill()
    system.start()
    assert system.json("plugins")["unclaimed"] == {"shop": ["Backups"]}
    before = hook.texts.count("shop/web v1 is rolled out")
    assert before == 1, "a new server tells nothing twice that was kept as told"
