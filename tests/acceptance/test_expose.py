"""Services of one deployment reach each other, and nobody else does: `expose`, on both backends."""

import json
import random
import shutil
import threading
import time

import pytest

from contrib.installation import Installation
from tests.acceptance.conftest import missing_commands, started
from tests.contracts.engine import engine_url, missing, runner_image

pytestmark = [pytest.mark.real, pytest.mark.acceptance]

STORE = """
import os, socket, threading

def serve(client):
    client.sendall(f"{os.environ['NAME']} greets\\n".encode())
    while client.recv(100):
        client.sendall(f"{os.environ['NAME']} stays\\n".encode())
    client.close()

server = socket.create_server(("", int(os.environ["PORT"])))
while True:
    threading.Thread(target=serve, args=server.accept()[:1], daemon=True).start()
"""
"""Speaks first, and no HTTP."""

ASKS = """
import os, socket, sys

def greeting(place):
    host, _, port = place.rpartition(":")
    try:
        with socket.create_connection((host, int(port)), timeout=5) as found:
            return found.makefile().readline().strip() or "closed"
    except OSError as error:
        return type(error).__name__

if sys.argv[1:]:
    print(greeting(sys.argv[1] if ":" in sys.argv[1] else os.environ[sys.argv[1]]))
    sys.exit()

from http.server import BaseHTTPRequestHandler, HTTPServer

class Asks(BaseHTTPRequestHandler):
    def do_GET(self):
        names = ("STORE", "STORE_HOST", "STORE_PORT")
        body = "|".join([greeting(os.environ["STORE"]), *(os.environ[each] for each in names)]).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

HTTPServer(("", int(os.environ["PORT"])), Asks).serve_forever()
"""

IN_CONTAINERS = """
store: {image: IMAGE, entrypoint: [python3, -c, STORE], port: 7000, env: {NAME: one}}
web:
    image: IMAGE
    entrypoint: [python3, -c, ASKS]
    port: 8000
    expose: {STORE: store}
"""
AS_PROCESSES = """
store: {git: ., env: {ROLE: store, NAME: one}}
web: {git: ., env: {ROLE: asks}, expose: {STORE: store}}
"""


def ports() -> str:
    """Some that no other server on this machine has for this."""
    first = random.randrange(14_000, 19_000)
    return f"{first}-{first + 15}"


@pytest.fixture(scope="module", params=["supervisor", "docker"])
def here(request):
    if absent := missing_commands():
        missing(f"not there: {', '.join(absent)}")
    settings = {"backend": request.param, "inner-ports": ports(), "stop-grace": "5", "drain-timeout": "5"}
    if request.param == "docker":
        url = engine_url()
        settings |= {"builder": "memory", "docker-host": url, "runner-image": runner_image(url)}
    here = Installation(settings=settings)
    here.containers = request.param == "docker"
    with started(here):
        yield here


def file_of(here: Installation, **changes: str) -> str:
    text = IN_CONTAINERS if here.containers else AS_PROCESSES
    if here.containers:
        words = {
            "IMAGE": runner_image(engine_url()),
            "STORE]": json.dumps(STORE) + "]",
            "ASKS]": json.dumps(ASKS) + "]",
        }
        for name, value in words.items():
            text = text.replace(name, value)
    for before, after in changes.items():
        text = text.replace(f"NAME: {before}", f"NAME: {after}")
    return text


def deploy(here: Installation, folder, app: str, text: str):
    (folder / "Servicefile").write_text(text)
    done = here.run("moor", "-D", app, "deploy", "Servicefile", "--create", folder=folder)
    assert done.returncode == 0, f"{done.stdout}\n{here.last_lines()}"
    return done.stdout


@pytest.fixture(scope="module")
def shop(here):
    folder = here.checkout("shop")
    here.commit(folder, "A store", store__py=STORE, asks__py=ASKS, Procfile="web: python3 $ROLE.py\n")
    deploy(here, folder, "shop", file_of(here))
    here.wait_until(lambda: here.get("web-shop")[0] == 200, "it answers")
    return folder


def test_one_finds_the_other(here, shop):
    greeting, place, host, port = here.get("web-shop")[1].split("|")
    assert greeting == "one greets"
    assert place == f"{host}:{port}"
    assert int(here.settings["inner-ports"].partition("-")[0]) == int(port)
    assert f"port {port} within the machine (expose)" in here.moor("apps:info", "-a", "shop/store")


def asked(here, app: str, place: str) -> str:
    words = ["python3", "-c", ASKS, place] if here.containers else ["python3", "asks.py", place]
    done = here.run("moor", "run", "-a", app, *words)
    assert done.returncode == 0, done.stdout
    return done.stdout.strip().splitlines()[-1]


def test_one_offs_find_it_too(here, shop):
    assert asked(here, "shop/web", "STORE") == "one greets"


def test_nobody_of_another_deployment_does_in_containers(here, shop):
    place = here.get("web-shop")[1].split("|")[1]
    deploy(here, shop, "other", file_of(here, one="theirs"))
    # Plain processes of one machine share its loopback.
    others = ("closed", "ConnectionResetError") if here.containers else ("one greets",)
    assert asked(here, "other/web", place) in others
    assert asked(here, "other/web", "STORE") == "theirs greets"
    assert asked(here, "shop/store", place) == "one greets", "of the same deployment"


def test_its_place_stays_over_versions_and_no_connection_meets_a_gap(here, shop):
    before = here.get("web-shop")[1].split("|")[1:]
    ending, seen = threading.Event(), list[str]()

    def ask() -> None:
        while not ending.is_set():
            seen.append(here.get("web-shop")[1].partition("|")[0])
            time.sleep(0.01)

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        told = deploy(here, shop, "shop", file_of(here, one="two"))
        here.wait_until(lambda: seen[-1:] == ["two greets"], "the new version answers")
        time.sleep(1)
    finally:
        ending.set()
        asking.join()
    assert "shop-store-2-" in told
    assert "shop-web-2" not in told, "who reaches it goes on"
    assert set(seen) == {"one greets", "two greets"}
    assert here.get("web-shop")[1].split("|")[1:] == before


def test_it_outlives_the_server(here, shop):
    here.kill()
    assert here.get("web-shop")[1].startswith("two greets")
    here.start()
    assert here.get("web-shop")[1].startswith("two greets")
    assert asked(here, "shop/web", "STORE") == "two greets"


def test_who_runs_is_let_in_again_where_the_proxy_lost_all(here, shop):
    here.kill()
    here.run("pkill", "-KILL", "-f", str(here.data / "inner"))
    here.wait_until(lambda: here.run("pgrep", "-f", str(here.data / "inner")).returncode == 1, "it is gone")
    shutil.rmtree(here.data / "inner")
    here.start()
    here.wait_until(lambda: here.get("web-shop")[1].startswith("two greets"), "it is reached again")


def test_a_killed_proxy_comes_back(here, shop):
    assert here.run("pkill", "-KILL", "-f", str(here.data / "inner")).returncode == 0, "it was there"
    here.wait_until(lambda: here.get("web-shop")[1].startswith("two greets"), "it is reached again")
