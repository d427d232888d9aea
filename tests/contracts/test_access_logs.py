"""What routers tell of requests: the same of every driver, and of the real HAProxy what only it can meet with."""

import asyncio
import contextlib
import fcntl
import os
import signal
import socket
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from router import haproxy_access
from router.access import AccessLine, AccessLogs, Fault
from router.base import Router, SupportsAccessLogs
from router.haproxy import HaproxyRouter
from router.memory import MemoryRouter
from router.types import Pool, Target
from tests.servers.haproxy import (
    Client,
    WebServer,
    free_port,
    get,
    require_haproxy,
    running_router,
    short_folder,
)


def pool(name: str, domains: str, *targets: Target, maintenance: bool = False) -> Pool:
    return Pool(name, frozenset(domains.split()), frozenset(targets), maintenance=maintenance)


@dataclass
class Driven:
    router: Router
    port: int | None

    async def visit(self, host: str) -> None:
        if self.port is None:
            assert isinstance(self.router, MemoryRouter)
            self.router.find_answer(host)
        else:
            await get(self.port, host)

    async def told(self, count: int) -> list[AccessLine]:
        """What is told until that many requests are; there must be no more."""
        assert isinstance(self.router, SupportsAccessLogs)
        return await told(self.router, count)


async def told(router: SupportsAccessLogs, count: int) -> list[AccessLine]:
    found: list[AccessLine] = []
    async with asyncio.timeout(10):
        while len(found) < count:
            batch = await router.take_access(most=1000)
            assert (batch.skipped, batch.lost) == ({}, 0)
            found += batch.lines
            await asyncio.sleep(0.01)
    assert len(found) == count
    return found


@contextlib.asynccontextmanager
async def driver(kind: str, access_logs: AccessLogs) -> AsyncIterator[Driven]:
    if kind == "memory":
        yield Driven(MemoryRouter(access_logs=access_logs), None)
        return
    require_haproxy()
    with short_folder() as folder:
        port = free_port()
        async with running_router(folder / "haproxy", port, access_logs=access_logs) as real:
            yield Driven(real, port)


@pytest.fixture(params=["memory", pytest.param("haproxy", marks=pytest.mark.real)])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
async def driven(kind: str) -> AsyncIterator[Driven]:
    async with driver(kind, AccessLogs.ON) as made:
        yield made


@pytest.fixture
async def server() -> AsyncIterator[WebServer]:
    server = WebServer("foo-app-1-web-1")
    async with server.listening() as target:
        server.target = target  # type: ignore[attr-defined]
        yield server


@pytest.fixture
def target(server: WebServer) -> Target:
    return server.target  # type: ignore[attr-defined,no-any-return]


async def test_each_request_is_told_of_once(driven: Driven, target: Target) -> None:
    await driven.router.apply(
        [pool("foo/app", "foo.example.org", target), pool("bar/app", "bar.example.org")]
    )
    for host in ("foo.example.org", "bar.example.org", "foo.example.org"):
        await driven.visit(host)
    lines = await driven.told(3)
    assert sorted((each.pool, each.target, each.fault or "", each.status, each.host) for each in lines) == [
        ("bar/app", "", Fault.NO_TARGET, 503, "bar.example.org"),
        ("foo/app", target.id, "", 200, "foo.example.org"),
        ("foo/app", target.id, "", 200, "foo.example.org"),
    ]
    assert await driven.told(0) == []


async def test_page_of_maintenance_is_told_as_such(driven: Driven, target: Target) -> None:
    await driven.router.apply([pool("foo/app", "foo.example.org", target, maintenance=True)])
    await driven.visit("foo.example.org")
    (line,) = await driven.told(1)
    assert (line.fault, line.status, line.target) == (Fault.MAINTENANCE, 503, "")


async def test_requests_of_unknown_domains_are_not_told_of(driven: Driven, target: Target) -> None:
    await driven.router.apply([pool("foo/app", "foo.example.org", target)])
    await driven.visit("nobody.example.org")
    await driven.visit("foo.example.org")
    assert [each.host for each in await driven.told(1)] == ["foo.example.org"]


async def test_only_errors_are_told_of_where_that_is_wanted(kind: str, target: Target) -> None:
    async with driver(kind, AccessLogs.ERRORS) as driven:
        await driven.router.apply(
            [pool("foo/app", "foo.example.org", target), pool("bar/app", "bar.example.org")]
        )
        await driven.visit("foo.example.org")
        await driven.visit("bar.example.org")
        assert [each.host for each in await driven.told(1)] == ["bar.example.org"]


async def test_nothing_is_told_of_where_nothing_is_wanted(kind: str, target: Target) -> None:
    async with driver(kind, AccessLogs.OFF) as driven:
        await driven.router.apply([pool("foo/app", "foo.example.org", target)])
        await driven.visit("foo.example.org")
        assert await driven.told(0) == []


async def test_many_requests_of_one_pool_do_not_crowd_out_those_of_others(
    driven: Driven, target: Target
) -> None:
    await driven.router.apply(
        [pool("foo/app", "foo.example.org", target), pool("bar/app", "bar.example.org")]
    )
    for _ in range(10):
        await driven.visit("foo.example.org")
    await driven.visit("bar.example.org")
    assert isinstance(driven.router, SupportsAccessLogs)
    pools, skipped = list[str](), 0
    async with asyncio.timeout(10):
        while len(pools) + skipped < 11:
            batch = await driven.router.take_access(most=5)
            pools += [each.pool for each in batch.lines]
            skipped += batch.skipped.get("foo/app", 0)
    assert pools.count("bar/app") == 1
    assert pools.count("foo/app") + skipped == 10


# From here on: what only a real proxy can meet with.


@pytest.fixture
def folder() -> Iterator[Path]:
    require_haproxy()
    with short_folder() as made:
        yield made / "haproxy"


@pytest.mark.real
async def test_line_holds_what_people_ask_for_and_no_query(folder: Path, target: Target) -> None:
    port = free_port()
    async with running_router(folder, port, access_logs=AccessLogs.ON) as router:
        await router.apply([pool("foo/app", "foo.example.org", target)])
        request = "X-Request-Id: 01234567-89ab-cdef-0123\r\n"
        await get(port, f"foo.example.org:{port}", "/a/b?token=secret", method="POST", headers=request)
        (line,) = await told(router, 1)
    assert (line.method, line.path, line.host) == ("POST", "/a/b", f"foo.example.org:{port}")
    assert (line.client, line.request_id, line.status) == ("127.0.0.1", "01234567-89ab-cdef-0123", 200)
    assert line.size > 0
    assert 0 <= line.connect < 5000
    assert 0 <= line.service < 5000


@pytest.mark.real
@pytest.mark.parametrize("host", ['foo.example.org"x', "foo.example.org\\", "foo.example.org 200"])
async def test_what_clients_choose_can_not_be_taken_for_something_else(
    folder: Path, target: Target, host: str
) -> None:
    port = free_port()
    async with running_router(folder, port, access_logs=AccessLogs.ON) as router:
        await router.apply([pool("foo/app", "foo.example.org *.example.org", target)])
        request = 'X-Request-Id: a b c d e f g h "i" j k l m n o p\r\n'
        path = '/%0aat=error"<\\>' + "é" + "/" + "x" * 3000
        with contextlib.suppress(Exception):  # HAProxy may refuse it
            await get(port, host, path, headers=request)
        await get(port, "foo.example.org")
        lines = await told(router, 1) if not (first := await _all(router)) else first
    assert lines[-1].path == "/"
    for each in lines:
        assert each.pool == "foo/app"
        assert each.target in ("", target.id)
        for text in (each.method, each.host, each.path, each.request_id):
            assert text.isascii()
            assert not set(text) & set(' "\\\n')


async def _all(router: SupportsAccessLogs) -> list[AccessLine]:
    """What is told within a moment, and at least one."""
    found: list[AccessLine] = []
    async with asyncio.timeout(10):
        while not found or found[-1].path != "/":
            found += (await router.take_access(most=1000)).lines
            await asyncio.sleep(0.01)
    return found


@pytest.mark.real
async def test_what_went_wrong_is_told(folder: Path, target: Target) -> None:
    port = free_port()
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        nobody = Target("gone-app-1-web-1", "127.0.0.1", closed.getsockname()[1])
        async with running_router(folder, port, access_logs=AccessLogs.ON) as router:
            await router.apply(
                [pool("foo/app", "foo.example.org", target), pool("gone/app", "gone.example.org", nobody)]
            )
            with contextlib.suppress(asyncio.IncompleteReadError):
                await get(port, "foo.example.org", "/die")
            died = (await told(router, 1))[0]
            await get(port, "gone.example.org")
            refused = (await told(router, 1))[0]
            _, leaving = await asyncio.open_connection("127.0.0.1", port)
            leaving.write(b"POST /upload HTTP/1.1\r\nHost: foo.example.org\r\nContent-Length: 10\r\n\r\n123")
            await leaving.drain()
            leaving.transport.abort()
            left = (await told(router, 1))[0]
    assert (died.fault, died.status, died.target) == (Fault.NO_ANSWER, 502, target.id)
    assert refused.fault in (Fault.REFUSED, Fault.NO_TARGET)
    assert refused.status == 503
    assert left.fault is Fault.CLIENT_GONE


@pytest.mark.real
async def test_requests_while_the_controller_is_down_are_told_of_to_the_next(
    folder: Path, target: Target
) -> None:
    port = free_port()
    async with running_router(folder, port, access_logs=AccessLogs.ON) as router:
        await router.apply([pool("foo/app", "foo.example.org", target)])
        await get(port, "foo.example.org", "/before")
        await told(router, 1)
        await router.close()
        for number in range(200):
            await get(port, "foo.example.org", f"/{number}")
        async with running_router(folder, port, access_logs=AccessLogs.ON) as following:
            lines = await told(following, 200)
    assert [each.path for each in lines] == [f"/{number}" for number in range(200)]


@pytest.mark.real
async def test_reader_that_is_away_holds_no_request_up_and_what_is_lost_is_counted(
    folder: Path, target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(haproxy_access, "SIZES", (16 * 1024,))
    port = free_port()
    async with running_router(folder, port, access_logs=AccessLogs.ON) as router:
        await router.apply([pool("foo/app", "foo.example.org", target)])
        client = Client(port)
        for number in range(600):
            assert (await client.get("foo.example.org", f"/{number}")).status == 200
        found, lost = list[AccessLine](), 0
        async with asyncio.timeout(10):
            while len(found) + lost < 600:
                batch = await router.take_access(most=10_000)
                found += batch.lines
                lost += batch.lost
        assert lost > 100
        assert [each.path for each in found] == [f"/{number}" for number in range(len(found))], (
            "the oldest stay"
        )
        await client.get("foo.example.org", "/after")
        client.close()
        assert [each.path for each in await told(router, 1)] == ["/after"]


@pytest.mark.real
async def test_nothing_is_lost_at_a_reload(folder: Path, server: WebServer, target: Target) -> None:
    port = free_port()
    async with running_router(folder, port, access_logs=AccessLogs.ON, spare_pools=2) as router:
        await router.apply([pool("foo/app", "foo.example.org", target)])
        slow = asyncio.create_task(get(port, "foo.example.org", "/slow"))
        await server.working.wait()
        await get(port, "foo.example.org", "/before")
        many = [pool(f"foo{number}/app", f"foo{number}.example.org") for number in range(10)]
        await router.apply([pool("foo/app", "foo.example.org", target), *many])
        await get(port, "foo.example.org", "/after")
        server.release.set()
        await slow
        lines = await told(router, 3)
    assert {each.path for each in lines} == {"/before", "/after", "/slow"}
    assert {each.pool for each in lines} == {"foo/app"}


@pytest.mark.real
async def test_killed_proxy_is_told_of_again_once_it_is_back(folder: Path, target: Target) -> None:
    port = free_port()
    async with running_router(folder, port, access_logs=AccessLogs.ON) as router:
        await router.apply([pool("foo/app", "foo.example.org", target)])
        await get(port, "foo.example.org", "/before")
        os.kill(int((folder / "haproxy.pid").read_text()), signal.SIGKILL)
        await router.apply([pool("foo/app", "foo.example.org", target), pool("bar/app", "bar.example.org")])
        await get(port, "foo.example.org", "/after")
        assert [each.path for each in await told(router, 2)] == ["/before", "/after"]


@pytest.mark.real
async def test_setting_changes_without_a_restart(folder: Path, target: Target) -> None:
    port = free_port()
    async with running_router(folder, port) as router:
        await router.apply([pool("foo/app", "foo.example.org", target)])
        await get(port, "foo.example.org", "/before")
        process = (folder / "haproxy.pid").read_text()
        async with running_router(folder, port, access_logs=AccessLogs.ON) as following:
            await get(port, "foo.example.org", "/after")
            assert [each.path for each in await told(following, 1)] == ["/after"]
            assert (folder / "haproxy.pid").read_text() == process


@pytest.mark.real
async def test_proxy_of_an_older_release_serves_on_without_logs(
    folder: Path, target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = free_port()
    with monkeypatch.context() as patched:
        patched.setattr(
            haproxy_access.AccessPipe,
            "open_for_writing",
            lambda self: os.open(self.path.with_name("haproxy.log"), os.O_WRONLY | os.O_APPEND),
        )
        old = HaproxyRouter(folder=folder, host="127.0.0.1", port=port)
        await old.start()
        await old.apply([pool("foo/app", "foo.example.org", target)])
        await old.close()
    async with running_router(folder, port, access_logs=AccessLogs.ON) as router:
        assert (await get(port, "foo.example.org", "/secret")).status == 200
        assert await told(router, 0) == []
        assert "/secret" not in (folder / "haproxy.log").read_text()
        await router.shutdown()
        await router.apply([pool("foo/app", "foo.example.org", target)])
        await get(port, "foo.example.org", "/told")
        assert [each.path for each in await told(router, 1)] == ["/told"]


@pytest.mark.real
async def test_pipe_is_as_large_as_the_system_lets_us_make_it(folder: Path) -> None:
    async with running_router(folder, free_port(), access_logs=AccessLogs.ON):
        file = os.open(folder / "access.pipe", os.O_RDONLY | os.O_NONBLOCK)
        try:
            assert fcntl.fcntl(file, fcntl.F_GETPIPE_SZ) >= 1024**2
        finally:
            os.close(file)
