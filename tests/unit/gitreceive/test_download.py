"""Files from the web: what is followed, what is refused, and where it ends."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest

from controller.config import Settings
from controller.errors import InvalidInput, Refused
from gitreceive import download as module
from gitreceive import remote as remotes
from gitreceive.download import download
from gitreceive.remote import parse_web


class Handler(BaseHTTPRequestHandler):
    seen: ClassVar[list[tuple[str, str | None]]] = []

    def do_GET(self) -> None:
        self.seen.append((self.path, self.headers["Host"]))
        port = self.server.server_address[1]
        places = {
            "/moved": "/file",
            "/loop": "/loop",
            "/inside": f"http://127.0.0.2:{port}/file",
            "/metadata": "http://169.254.169.254/latest",
            "/ftp": "ftp://example.org/x",
        }
        if self.path in places:
            self.send_response(302)
            self.send_header("Location", places[self.path])
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        if self.path == "/broken":
            self.send_response(200)
            self.send_header("Content-Length", "100")
            self.end_headers()
            self.wfile.write(b"short")
            return
        self.send_response(200 if self.path in ("/file", "/large") else 404)
        self.end_headers()
        for _ in range(1000 if self.path == "/large" else 1):
            self.wfile.write(b"content" * 100)

    def log_message(self, *_: object) -> None:
        """Nothing."""


@contextmanager
def web() -> Iterator[int]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def port(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """Of a server whose address counts as public; every other one is as it is."""
    public = remotes.is_public
    monkeypatch.setattr(remotes, "is_public", lambda address: address == "127.0.0.1" or public(address))
    monkeypatch.setattr(Handler, "seen", [])
    with web() as port:
        yield port


def settings(folder: Path) -> Settings:
    return Settings(data=folder, disk_reserve=0, push_limit=100_000)


async def test_a_file_arrives_also_where_its_url_leads_on(port: int, tmp_path: Path) -> None:
    await download(parse_web(f"http://localhost:{port}/moved#part"), tmp_path / "out", settings(tmp_path))
    assert (tmp_path / "out").read_bytes() == b"content" * 100
    assert Handler.seen == [("/moved", f"localhost:{port}"), ("/file", f"localhost:{port}")]


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("nothing", "answered 404"),
        ("loop", "more than 5 redirects"),
        ("inside", r"127\.0\.0\.2 is in a private network"),
        ("metadata", r"169\.254\.169\.254 is in a private network"),
        ("large", "larger than the 100000 bytes"),
        ("broken", "can't be fetched"),
    ],
)
async def test_what_can_t_be_had_is_refused_in_words(
    port: int, tmp_path: Path, path: str, words: str
) -> None:
    with pytest.raises(Refused, match=words):
        await download(parse_web(f"http://127.0.0.1:{port}/{path}"), tmp_path / "out", settings(tmp_path))
    assert {path for path, _ in Handler.seen} == {f"/{path}"}, "nothing else was asked"


async def test_only_the_web_is_followed(port: int, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="only http, https"):
        await download(parse_web(f"http://127.0.0.1:{port}/ftp"), tmp_path / "out", settings(tmp_path))


async def test_a_server_that_says_nothing_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SILENCE", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        remote = parse_web(f"http://127.0.0.1:{silent.getsockname()[1]}/x")
        allowed = Settings(data=tmp_path, disk_reserve=0, fetch_private=True)
        with pytest.raises(Refused, match="its server says nothing"):
            await download(remote, tmp_path / "out", allowed)


async def test_a_full_disk_takes_nothing(tmp_path: Path) -> None:
    full = Settings(data=tmp_path, disk_reserve=2**60, fetch_private=True)
    with web() as port, pytest.raises(Refused, match="disk is full"):
        await download(parse_web(f"http://127.0.0.1:{port}/file"), tmp_path / "out", full)
    assert not (tmp_path / "out").exists()
