"""A real HAProxy in a temporary folder, HTTP servers that say who they are, and clients that count failures."""

import asyncio
import contextlib
import os
import shutil
import socket
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from router.haproxy import HaproxyRouter
from router.types import Target


def require_haproxy() -> None:
    """Skip where HAProxy is missing, fail where MOOR_TEST_REAL=1 says that it must be there."""
    if shutil.which("haproxy", path="/usr/local/sbin:/usr/sbin:/usr/bin:/sbin") is None:
        if os.environ.get("MOOR_TEST_REAL") == "1":
            pytest.fail("haproxy is not installed")
        pytest.skip("haproxy is not installed")


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


@contextlib.contextmanager
def short_folder() -> Iterator[Path]:
    """Below pytest's own folder, paths are too long for unix sockets."""
    folder = Path(tempfile.mkdtemp(prefix="moor-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.asynccontextmanager
async def running_router(folder: Path, port: int, **settings: Any) -> AsyncIterator[HaproxyRouter]:
    """A router whose HAProxy ends with the test; its log is shown when the test fails."""
    router = HaproxyRouter(folder=folder, host="127.0.0.1", port=port, **settings)
    try:
        await router.start()
        yield router
    except BaseException:
        log = folder / "haproxy.log"
        print(log.read_text()[-4000:] if log.exists() else "(no log of HAProxy)")
        raise
    finally:
        await router.shutdown()


@dataclass
class Answer:
    status: int
    body: str
    headers: dict[str, str] = field(default_factory=dict)


class WebServer:
    """Answers every request with its id; `/echo` with the request's head, `/slow` once `release` is set."""

    def __init__(self, target_id: str) -> None:
        self.id = target_id
        self.release = asyncio.Event()
        self.working = asyncio.Event()
        self.seen: list[str] = []

    @contextlib.asynccontextmanager
    async def listening(self) -> AsyncIterator[Target]:
        self._writers: set[asyncio.StreamWriter] = set()
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        try:
            yield Target(self.id, "127.0.0.1", self._server.sockets[0].getsockname()[1])
        finally:
            self.stop()

    def stop(self) -> None:
        """As a process that was killed: no listening, all connections cut."""
        self._server.close()
        self.release.set()
        for writer in self._writers:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                method, path = head.split(" ", 2)[:2]
                self.seen.append(f"{method} {path}")
                if path == "/slow":
                    self.working.set()
                    await self.release.wait()
                if path == "/die":
                    writer.transport.abort()
                    return
                body = head if path == "/echo" else self.id
                writer.write(f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self._writers.discard(writer)
            writer.close()


class Client:
    """One keep-alive connection of a client that forgives nothing."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def get(self, host: str, path: str = "/", *, method: str = "GET", headers: str = "") -> Answer:
        """Raises when the connection breaks. A `Connection: close` in the answer is followed."""
        if self._streams is None:
            self._streams = await asyncio.open_connection("127.0.0.1", self._port)
        reader, writer = self._streams
        writer.write(f"{method} {path} HTTP/1.1\r\nHost: {host}\r\n{headers}\r\n".encode())
        async with asyncio.timeout(20):
            lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            fields = {
                name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:-2])
            }
            body = await reader.readexactly(int(fields.get("content-length", 0)))
        if fields.get("connection") == "close":
            self.close()
        return Answer(int(lines[0].split(" ")[1]), body.decode(), fields)

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


async def get(port: int, host: str, path: str = "/", *, method: str = "GET", headers: str = "") -> Answer:
    """One request over a connection of its own."""
    client = Client(port)
    try:
        return await client.get(host, path, method=method, headers=headers)
    finally:
        client.close()


@dataclass
class Load:
    """What a steady stream of requests met with."""

    answered: int = 0
    failures: list[str] = field(default_factory=list)
    longest: float = 0.0
    bodies: set[str] = field(default_factory=set)


@contextlib.asynccontextmanager
async def load(port: int, host: str, *, clients: int = 8) -> AsyncIterator[Load]:
    """Requests without a pause, from keep-alive clients and, every other one, from closing ones."""
    met = Load()
    ending = asyncio.Event()

    async def visit(keeps: bool) -> None:
        client = Client(port)
        while not ending.is_set():
            began = time.monotonic()
            try:
                answer = await client.get(host, headers="" if keeps else "Connection: close\r\n")
                met.bodies.add(answer.body)
                if answer.status != 200:
                    met.failures.append(f"status {answer.status}")
            except Exception as error:
                met.failures.append(repr(error))
                client.close()
            met.answered += 1
            met.longest = max(met.longest, time.monotonic() - began)
            if not keeps:
                client.close()
            await asyncio.sleep(0.002)
        client.close()

    async with asyncio.TaskGroup() as tasks:
        for number in range(clients):
            tasks.create_task(visit(keeps=number % 2 == 0))
        try:
            yield met
        finally:
            ending.set()
