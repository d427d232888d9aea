"""The file server that static sites get: started as the buildpack starts it, asked over HTTP."""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager

import pytest

from builder.buildpack import BUNDLED

pytestmark = pytest.mark.real
SERVER = BUNDLED / "static/serve.py"


class Site:
    def __init__(self, folder, port):
        self.folder = folder
        self.port = port

    def ask(self, path, method="GET", **headers):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        connection.request(
            method, path, headers={key.replace("_", "-"): value for key, value in headers.items()}
        )
        answer = connection.getresponse()
        answer.content = answer.read()
        connection.close()
        return answer


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    files = {
        "index.html": "<h1>home</h1>",
        "style.css": "body {}",
        "404.html": "not here",
        "sub/index.html": "sub",
        "with space/ü.txt": "umlaut",
        "Procfile": "web: x",
        ".env": "SECRET=1",
        ".mooring/static/serve.py": "code",
        ".well-known/security.txt": "contact",
        "data": "0123456789",
    }
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    (folder / "leak").symlink_to("/etc/passwd")
    (folder / "hidden-by-link").symlink_to(".env")
    (folder / "large").write_bytes(b"x" * 20_000_000)
    with served(folder) as made:
        yield made


@contextmanager
def served(folder):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", str(SERVER)],
        cwd=folder,
        env={"PORT": str(port)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_for(port)
        made = Site(folder, port)
        made.process = process
        yield made
    finally:
        process.kill()
        process.wait()


def wait_for(port):
    deadline = time.monotonic() + 10
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            assert time.monotonic() < deadline
            time.sleep(0.01)


def test_the_home_page_is_served_with_its_type(site):
    answer = site.ask("/")
    assert (answer.status, answer.content) == (200, b"<h1>home</h1>")
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    assert site.ask("/style.css?v=1").headers["Content-Type"] == "text/css; charset=utf-8"


def test_head_tells_the_length_without_content(site):
    answer = site.ask("/data", "HEAD")
    assert (answer.status, answer.headers["Content-Length"], answer.content) == (200, "10", b"")


def test_a_folder_is_redirected_to_its_slash(site):
    answer = site.ask("/sub?x=1")
    assert (answer.status, answer.headers["Location"]) == (301, "/sub/?x=1")
    assert site.ask("/sub/").content == b"sub"
    assert site.ask("//evil.example/..//sub").headers.get("Location", "/").startswith("/")


def test_names_are_decoded(site):
    assert site.ask("/with%20space/%C3%BC.txt").content == b"umlaut"


@pytest.mark.parametrize(
    "path",
    [
        "/../etc/passwd",
        "/%2e%2e/etc/passwd",
        "/..%2fetc/passwd",
        "/sub/..%2f..%2fetc/passwd",
        "/.env",
        "/%2eenv",
        "/.mooring/static/serve.py",
        "/Procfile",
        "/PROCFILE",
        "/leak",
        "/hidden-by-link",
        "/data/",
        "/%00",
        "/missing",
        "/" + "x" * 5000,
    ],
)
def test_what_is_not_of_the_site_is_not_there(site, path):
    answer = site.ask(path)
    assert (answer.status, answer.content) == (404, b"not here")


def test_well_known_files_are_public(site):
    assert site.ask("/.well-known/security.txt").content == b"contact"


def test_an_unchanged_file_is_not_sent_again(site):
    etag = site.ask("/data").headers["ETag"]
    again = site.ask("/data", If_None_Match=f'W/"other", {etag}')
    assert (again.status, again.content) == (304, b"")


def test_the_tag_follows_the_content_not_the_time(site):
    before = site.ask("/style.css").headers["ETag"]
    os.utime(site.folder / "style.css", (1, 1))
    assert site.ask("/style.css").headers["ETag"] == before
    (site.folder / "style.css").write_text("bodx {}")
    assert site.ask("/style.css").headers["ETag"] != before


@pytest.mark.parametrize(
    ("wanted", "status", "content"),
    [
        ("bytes=2-4", 206, b"234"),
        ("bytes=7-", 206, b"789"),
        ("bytes=-3", 206, b"789"),
        ("bytes=0-999", 206, b"0123456789"),
        ("bytes=10-", 416, b""),
        ("bytes=5-2", 200, b"0123456789"),
        ("bytes=0-1,3-4", 200, b"0123456789"),
        ("lines=1-2", 200, b"0123456789"),
    ],
)
def test_a_range_is_answered(site, wanted, status, content):
    answer = site.ask("/data", Range=wanted)
    assert (answer.status, answer.content) == (status, content)


def test_other_methods_are_refused(site):
    assert site.ask("/", "POST").status == 501


def test_a_stop_lets_a_download_end(site):
    received = []

    def download():
        connection = socket.create_connection(("127.0.0.1", site.port))
        connection.sendall(b"GET /large HTTP/1.0\r\n\r\n")
        started.set()
        while data := connection.recv(65536):
            received.append(len(data))
            time.sleep(0.001)

    started = threading.Event()
    thread = threading.Thread(target=download)
    thread.start()
    started.wait()
    time.sleep(0.1)
    site.process.send_signal(signal.SIGTERM)
    assert site.process.wait(20) == 0
    thread.join(10)
    assert sum(received) > 20_000_000


PAGES = {
    "index.html": "home",
    "about.html": "about",
    "app/index.html": "app",
    "api.json": "{}",
    "404.html": "none",
}


@pytest.fixture
def routed(tmp_path):
    """`routed(static.json)`: a site of PAGES in its folder `dist`."""
    for name, content in PAGES.items():
        (tmp_path / "dist" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "dist" / name).write_text(content)

    def make(settings):
        (tmp_path / "static.json").write_text(json.dumps(settings))
        return served(tmp_path)

    return make


@pytest.mark.parametrize(
    ("settings", "path", "status", "content"),
    [
        ({}, "/about", 404, "none"),
        ({"clean_urls": True}, "/about", 200, "about"),
        ({"clean_urls": True}, "/about.html", 200, "about"),
        ({"clean_urls": True}, "/../static", 404, "none"),
        ({"routes": {"/**": "index.html"}}, "/deep/inside/", 200, "home"),
        ({"routes": {"/**": "index.html"}}, "/about.html", 200, "about"),
        ({"routes": {"/app/*": "app/index.html"}}, "/app/settings", 200, "app"),
        ({"routes": {"/app/*": "app/index.html"}}, "/app/settings/more", 404, "none"),
        ({"routes": {"/v1/*.x": "api.json", "/**": "index.html"}}, "/v1/users.x", 200, "{}"),
        ({"routes": {"/**": "index.html"}}, "/%2e%2e/x", 404, "none"),
    ],
)
def test_what_stands_in_where_no_file_is(routed, settings, path, status, content):
    with routed({"root": "dist", **settings}) as there:
        answer = there.ask(path)
        assert (answer.status, answer.content.decode()) == (status, content)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ('{"root": "nothing"}', "is no folder of this site"),
        ('{"root": 1}', "must be of the form"),
        ("[" * 100_000, "no valid JSON"),
        ('{"clean_urls": "yes"}', "must be true or false"),
        ('{"routes": ["/**"]}', "must be of the form"),
        ('{"routes": {"/**": "nothing.html"}}', "must name a file"),
        ('{"routes": {"/**": "../../etc/passwd"}}', "is no folder of this site"),
        ('{"root": "a\\u0000b"}', "is no folder of this site"),
    ],
)
def test_a_wrong_static_json_is_answered_in_words(tmp_path, settings, words):
    (tmp_path / "static.json").write_text(settings)
    command = [sys.executable, "-I", "-S", str(SERVER), "--check", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and words in done.stdout and not done.stderr
