"""What the service file promises, in containers: images, code, a database and a secret from one file."""

import io
import json
import re
import secrets

import pytest
from docker import APIClient

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

NOTES = """
import os
from http.server import BaseHTTPRequestHandler, HTTPServer

class Notes(BaseHTTPRequestHandler):
    def do_GET(self):
        note = os.environ["VOLUME_DATA"] + "/note"
        if self.path != "/":
            with open(note, "a") as file:
                file.write(self.path[1:] + " ")
        with open(note) as file:
            body = f"{os.getuid()}: {file.read()}".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

HTTPServer(("", 8000), Notes).serve_forever()
"""
"""Keeps the paths that were asked for in a volume, and tells all of them and whom it runs as."""

NOTEBOOK = """
notes:
    image: IMAGE
    cmd: python3 -c "$NOTES"
    port: 8000
    env: {NOTES: SOURCE}
    volumes: {data: /srv/data}
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


@pytest.fixture
def image_of():
    """Makes images that run as the USER that they are given."""
    client = APIClient(base_url=engine_url(), version="auto", timeout=120)
    made = []

    def make(user):
        made.append(f"mooring-test-{secrets.token_hex(4)}:1")
        runner = runner_image(engine_url())
        lines = [f"FROM {runner}", "USER root", "RUN useradd -u 1666 keeper", "ENTRYPOINT []", f"USER {user}"]
        said = list(
            client.build(fileobj=io.BytesIO("\n".join(lines).encode()), tag=made[-1], decode=True, rm=True)
        )
        assert "error" not in said[-1], said[-1]
        return made[-1]

    yield make
    for each in made:
        client.remove_image(each, force=True)
    client.close()


def test_volume_of_an_image_that_is_not_root_is_saved_restored_and_given_over(here, image_of):
    folder = here.folder / "notebook"
    folder.mkdir()

    def deploy(user):
        text = NOTEBOOK.replace("IMAGE", image_of(user)).replace("SOURCE", json.dumps(NOTES))
        (folder / "Servicefile").write_text(text)
        done = here.run("moor", "-D", "notebook", "deploy", "Servicefile", "--create", folder=folder)
        assert done.returncode == 0, f"{done.stdout}\n{here.last_lines()}"

    def stop():
        here.moor("ps:stop", "-a", "notebook/notes")
        here.wait_until(lambda: not here.json("ps", "-a", "notebook/notes"), "it has stopped")

    def start():
        here.moor("ps:start", "-a", "notebook/notes")
        here.wait_until(lambda: here.get("notes-notebook")[0] == 200, "it serves again")

    try:
        deploy("keeper")
        assert here.get("notes-notebook", "/first") == (200, "1666: first "), here.last_lines()
        here.moor("volumes:backup", "-a", "notebook/notes", "data")
        assert here.get("notes-notebook", "/second") == (200, "1666: first second ")
        stop()
        here.moor("volumes:restore", "-a", "notebook/notes", "data")
        start()
        assert here.get("notes-notebook") == (200, "1666: first ")
        assert here.get("notes-notebook", "/third") == (200, "1666: first third ")
        deploy("1999")
        assert here.get("notes-notebook", "/fourth") == (200, "1999: first third fourth ")
        stop()
        here.moor("volumes:restore", "-a", "notebook/notes", "data")
        start()
        assert here.get("notes-notebook", "/fifth") == (200, "1999: first fifth ")
    finally:
        here.run("moor", "apps:destroy", "notebook", "--confirm", "notebook")
