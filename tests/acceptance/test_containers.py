"""What the service file promises, in containers: images, code, a database and a secret from one file."""

import json
import re

import pytest

from contrib.installation import Installation
from tests.acceptance.conftest import missing_commands, started
from tests.contracts.engine import builder_image, engine_url, missing, runner_image
from tests.servers.s3 import BUCKET, KEYS, s3_server
from tests.servers.stack import stack_images

pytestmark = [pytest.mark.real, pytest.mark.acceptance]

SETTINGS = {"backend": "docker", "builder": "docker", "drain-timeout": "5", "stop-grace": "5"}

SHOWS = """
import os, sys
from http.server import BaseHTTPRequestHandler, HTTPServer

class Shows(BaseHTTPRequestHandler):
    def do_GET(self):
        body = " ".join(os.environ.get(name, "-") for name in sys.argv[2:]).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

HTTPServer(("", int(sys.argv[1])), Shows).serve_forever()
"""
"""What the images run: their variables of those names, at that port."""

APP = """
import os, subprocess
from http.server import BaseHTTPRequestHandler, HTTPServer

class Visits(BaseHTTPRequestHandler):
    def do_GET(self):
        command = "INSERT INTO visits DEFAULT VALUES; SELECT count(*) FROM visits"
        words = ["psql", os.environ["DATABASE_URL"], "-XAtqc", command]
        body = subprocess.run(words, capture_output=True, check=True).stdout + os.environ["COLOR"].encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

HTTPServer(("", int(os.environ["PORT"])), Visits).serve_forever()
"""

FILE = """
Env: {COLOR: red}
Generate: {Key: {hex: 8}}
Resources: {db: postgres, cache: redis}
Exec:
    Tables:
        service: web
        cmd: psql "$DATABASE_URL" -qc 'CREATE TABLE visits (at timestamptz DEFAULT now())'
        require: db

one:
    image: IMAGE
    entrypoint: [python3, -c, 'exec(__import__("os").environ["SHOWS"])', '8000', COLOR, KEY]
    port: 8000
    env: {KEY: "{Key}", SHOWS: &shows SOURCE}
two:
    image: IMAGE
    cmd: python3 -c "$SHOWS" 8001 COLOR REDIS_URL
    port: 8001
    env: {SHOWS: *shows}
    require: cache
three:
    image: IMAGE
    cmd: python3 -c "$SHOWS" 8002 COLOR NAME
    port: 8002
    env: {SHOWS: *shows, NAME: third}
    require: [one, two]
web:
    git: .
    env: {COLOR: blue}
    require: Tables
"""


@pytest.fixture(scope="module")
def here():
    if absent := missing_commands():
        missing(f"not there: {', '.join(absent)}")
    url = engine_url()
    images = {
        "runner-image": runner_image(url),
        "builder-image": builder_image(url),
        "resource-image": stack_images().resources,
    }
    with s3_server() as storage:
        backups = {"backup-storage": f"s3://{BUCKET}/prod", "backup-endpoint": storage.url}
        here = Installation(settings={**SETTINGS, "docker-host": url, **images, **backups})
        here.env |= KEYS
        here.storage = storage
        with started(here):
            yield here


def test_one_file_goes_from_nothing_to_serving(here):
    folder = here.checkout("shop")
    here.commit(folder, "Visits", app__py=APP)
    file = folder / "Servicefile"
    text = FILE.replace("IMAGE", runner_image(engine_url())).replace("SOURCE", json.dumps(SHOWS))
    file.write_text(text)

    def deploy():
        return here.run("moor", "-D", "shop", "deploy", "Servicefile", "--create", folder=folder)

    first = deploy()
    assert first.returncode == 0, f"{first.stdout}\n{here.last_lines()}"
    assert here.get("web-shop") == (200, "1\nblue"), first.stdout
    color, key = here.get("one-shop")[1].split()
    assert color == "red" and re.fullmatch("[0-9a-f]{16}", key)
    color, url = here.get("two-shop")[1].split()
    assert color == "red" and url == here.json("resources:info", "-a", "shop", "cache")["values"]["URL"]
    assert here.get("three-shop") == (200, "red third")
    pong = here.run("moor", "run", "-a", "shop/two", "redis-cli", "--no-auth-warning", "-u", url, "PING")
    assert pong.stdout.strip() == "PONG"

    again = deploy()
    assert again.stdout.strip().endswith("No changes."), again.stdout
    file.write_text(text.replace("NAME: third", "NAME: last"))
    changed = deploy()
    assert re.findall(r"New instance id (\S+)", changed.stdout) == ["shop-three-2-1"], changed.stdout
    assert here.get("three-shop") == (200, "red last")


def test_its_database_is_backed_up_restored_and_outlives_the_server(here):
    here.moor("resources:backup", "-a", "shop", "db")
    found = here.storage.client().list_objects_v2(Bucket=BUCKET, Prefix="prod/shop.db.")["Contents"]
    assert len(found) == 2 and not list((here.data / "backups").glob("shop.*")), "only there"
    assert here.get("web-shop") == (200, "2\nblue")
    here.kill()
    here.start()
    here.wait_until(lambda: here.get("web-shop") == (200, "3\nblue"), "it serves as before")
    here.moor("resources:restore", "-a", "shop", "db")
    assert here.get("web-shop") == (200, "2\nblue")
    here.moor("ps:restart", "-a", "shop/db")
    here.wait_until(lambda: here.get("web-shop") == (200, "3\nblue"), "the database is back")
