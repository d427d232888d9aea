"""Ports within the machine, asked for with real connections."""

import asyncio
import contextlib
import os
import random
import signal
import socket
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from router.base import Router, RouterError
from router.haproxy import HaproxyRouter
from router.inner import WithInnerPorts
from router.memory import MemoryRouter
from router.types import Inner, Pool, Table, Target
from tests.contracts.test_backend import running_here
from tests.servers.haproxy import require_haproxy, short_folder

pytestmark = pytest.mark.real

WIDTH = 8
OWN, NEIGHBOUR, STRANGER = "127.0.0.1", "127.0.0.2", "127.0.0.3"
"""Addresses that connections come from; the first is the router's own."""


def free_ports() -> range:
    """So many in a row that nobody listens on, and that the system gives to nobody who asks for any port."""
    while True:
        first = random.randrange(14_000, 19_000)
        with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
            for port in range(first, first + WIDTH):
                listener = stack.enter_context(socket.socket())
                listener.bind((OWN, port))
            return range(first, first + WIDTH)


class Greeter:
    """Says its name to whoever connects, and once more for each line: the server speaks first, as databases do."""

    def __init__(self, name: str) -> None:
        self.name = name

    @contextlib.asynccontextmanager
    async def listening(self) -> AsyncIterator[Target]:
        self._writers = set[asyncio.StreamWriter]()
        server = await asyncio.start_server(self._serve, OWN, 0)
        try:
            yield Target(self.name, OWN, server.sockets[0].getsockname()[1])
        finally:
            server.close()
            for each in self._writers:
                each.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        with contextlib.suppress(ConnectionError):
            writer.write(f"{self.name}\n".encode())
            while await reader.readline():
                writer.write(f"{self.name}\n".encode())
        writer.close()


@dataclass
class Inside:
    """A router with inner ports."""

    router: WithInnerPorts
    ports: range
    folder: Path
    again: list[WithInnerPorts] = field(default_factory=list)

    async def greeted(self, port: int, *, source: str = OWN) -> str | None:
        """The name of who answers there; None: nobody lets that address in."""
        try:
            async with asyncio.timeout(10):
                reader, writer = await asyncio.open_connection(OWN, port, local_addr=(source, 0))
                with contextlib.closing(writer):
                    return (await reader.readline()).decode().strip() or None
        except ConnectionError:
            return None


def made(folder: Path, ports: range, outer: Router | None = None) -> WithInnerPorts:
    def make(address: str) -> Router:
        return HaproxyRouter(
            folder=folder / "inner",
            host=address,
            port=ports.start,
            ports=len(ports),
            template="inner.cfg.j2",
            setting="--inner-ports",
        )

    async def address() -> str:
        return OWN

    return WithInnerPorts(
        outer or MemoryRouter(), make=make, address=address, begun=(folder / "inner" / "current").exists
    )


@pytest.fixture
async def inside() -> AsyncIterator[Inside]:
    require_haproxy()
    with short_folder() as folder:
        ports = free_ports()
        router = made(folder, ports)
        found = Inside(router, ports, folder)
        try:
            await router.start()
            yield found
        finally:
            for each in (router, *found.again):
                with contextlib.suppress(RouterError):
                    await each.close()
            await made(folder, ports).shutdown()


@pytest.fixture
async def greeters() -> AsyncIterator[tuple[Target, Target]]:
    async with contextlib.AsyncExitStack() as stack:
        one, two = [
            await stack.enter_async_context(Greeter(f"foo-db-{number}-1").listening()) for number in (1, 2)
        ]
        yield one, two


Greeters = tuple[Target, Target]


def pool(inside: Inside, *targets: Target, name: str = "foo/db", index: int = 0) -> Pool:
    inner = Inner(inside.ports[index], name.partition("/")[0])
    return Pool(
        name,
        frozenset({f"{name.replace('/', '-')}.example.org"}),
        frozenset(targets),
        inner=frozenset({inner}),
    )


async def restarted(inside: Inside, *routed: Pool) -> WithInnerPorts:
    """The next server's router, after one that ended; the domains of these are routed as they were."""
    await inside.router.close()
    outer = MemoryRouter()
    await outer.apply([replace(each, inner=frozenset()) for each in routed])
    later = made(inside.folder, inside.ports, outer)
    inside.again.append(later)
    return later


async def test_nothing_runs_where_nobody_needs_it(inside: Inside, greeters: Greeters) -> None:
    await inside.router.change([replace(pool(inside, greeters[0]), inner=frozenset())])
    assert (await inside.router.table()).pools.keys() == {"foo/db"}
    assert not (inside.folder / "inner").exists()


async def test_a_port_leads_to_the_targets_of_its_pool(inside: Inside, greeters: Greeters) -> None:
    wanted = pool(inside, greeters[0])
    await inside.router.change([wanted])
    assert (await inside.router.table()).pools == {"foo/db": wanted}
    assert await inside.greeted(inside.ports[0]) == "foo-db-1-1"
    assert await inside.greeted(inside.ports[1]) is None


async def test_applying_the_same_again_changes_nothing(inside: Inside, greeters: Greeters) -> None:
    await inside.router.apply([pool(inside, greeters[0])])
    cursor = (await inside.router.table()).cursor
    await inside.router.apply([pool(inside, greeters[0])])
    table = await inside.router.table(after=cursor)
    assert (table.pools, table.complete) == ({}, False)


async def test_only_those_who_were_admitted_come_through(inside: Inside, greeters: Greeters) -> None:
    other = pool(inside, greeters[1], name="bar/db", index=1)
    await inside.router.change([pool(inside, greeters[0]), other])
    assert await inside.greeted(inside.ports[0], source=NEIGHBOUR) is None
    await inside.router.admit("foo", NEIGHBOUR)
    await inside.router.admit("bar", STRANGER)
    assert await inside.greeted(inside.ports[0], source=NEIGHBOUR) == "foo-db-1-1"
    assert await inside.greeted(inside.ports[1], source=NEIGHBOUR) is None
    assert await inside.greeted(inside.ports[0], source=STRANGER) is None
    assert await inside.greeted(inside.ports[1], source=STRANGER) == "foo-db-2-1"
    await inside.router.dismiss(NEIGHBOUR)
    assert await inside.greeted(inside.ports[0], source=NEIGHBOUR) is None
    assert (await inside.router.table()).pools["bar/db"] == other


async def test_who_was_admitted_before_the_port_was_there_comes_through(
    inside: Inside, greeters: Greeters
) -> None:
    await inside.router.admit("foo", NEIGHBOUR)
    await inside.router.change([pool(inside, greeters[0])])
    assert await inside.greeted(inside.ports[0], source=NEIGHBOUR) == "foo-db-1-1"


async def test_who_comes_a_moment_too_early_waits(inside: Inside, greeters: Greeters) -> None:
    await inside.router.change([pool(inside, greeters[0])])
    early = asyncio.create_task(inside.greeted(inside.ports[0], source=NEIGHBOUR))
    other = asyncio.create_task(inside.greeted(inside.ports[1]))
    await asyncio.sleep(0.3)
    await inside.router.admit("foo", NEIGHBOUR)
    await inside.router.change([pool(inside, greeters[1], name="foo/x", index=1)])
    assert await early == "foo-db-1-1"
    assert await other == "foo-db-2-1"


async def test_an_address_that_is_somebody_elses_now_is_let_in_no_more(
    inside: Inside, greeters: Greeters
) -> None:
    await inside.router.admit("foo", NEIGHBOUR)
    await inside.router.change([pool(inside, greeters[0])])
    await inside.router.admit("bar", NEIGHBOUR)
    assert await inside.greeted(inside.ports[0], source=NEIGHBOUR) is None


async def test_another_version_takes_over_and_connections_stay(inside: Inside, greeters: Greeters) -> None:
    await inside.router.change([pool(inside, greeters[0])])
    reader, writer = await asyncio.open_connection(OWN, inside.ports[0])
    assert await reader.readline() == b"foo-db-1-1\n"
    wanted = pool(inside, greeters[1])
    await inside.router.change([wanted])
    assert await inside.greeted(inside.ports[0]) == "foo-db-2-1"
    writer.write(b"still there?\n")
    assert await reader.readline() == b"foo-db-1-1\n"
    table = await inside.router.table()
    assert table.pools == {"foo/db": wanted}
    assert table.draining == {"foo-db-1-1": 1}
    await inside.router.remove("foo-db-1-1")
    assert await reader.readline() == b""
    writer.close()
    assert (await inside.router.table()).draining == {}


async def test_a_port_with_a_name_leads_elsewhere(inside: Inside, greeters: Greeters) -> None:
    one, two = greeters
    named = Inner(inside.ports[1], "foo", frozenset({(one.id, two.port)}))
    both = replace(pool(inside, one), inner=frozenset({Inner(inside.ports[0], "foo"), named}))
    await inside.router.change([both])
    assert [await inside.greeted(each) for each in inside.ports[:2]] == ["foo-db-1-1", "foo-db-2-1"]
    assert (await inside.router.table()).pools == {"foo/db": both}


async def test_what_goes_is_closed(inside: Inside, greeters: Greeters) -> None:
    await inside.router.change([pool(inside, greeters[0]), pool(inside, greeters[1], name="foo/x", index=1)])
    await inside.router.change([replace(pool(inside, greeters[0]), inner=frozenset())], gone=["foo/x"])
    assert [await inside.greeted(each) for each in inside.ports[:2]] == [None, None]
    table = await inside.router.table()
    assert {name: each.inner for name, each in table.pools.items()} == {"foo/db": frozenset()}


async def test_looks_tell_what_has_changed(inside: Inside, greeters: Greeters) -> None:
    seen = dict[str, Pool]()
    cursor = ""
    steps = (
        [pool(inside, greeters[0])],
        [pool(inside, greeters[1]), pool(inside, name="foo/x", index=1)],
        [replace(pool(inside, greeters[1]), inner=frozenset())],
    )
    for step in steps:
        await inside.router.change(step)
        table = await inside.router.table(after=cursor)
        seen = {name: each for name, each in seen.items() if not table.complete and name not in table.gone}
        seen |= table.pools
        cursor = table.cursor
        assert seen == (await inside.router.table()).pools
        cursor = (await inside.router.table()).cursor


async def test_a_killed_proxy_comes_back_with_its_ports(inside: Inside, greeters: Greeters) -> None:
    await inside.router.admit("foo", NEIGHBOUR)
    wanted = pool(inside, greeters[0])
    await inside.router.change([wanted])
    os.kill(int((inside.folder / "inner" / "haproxy.pid").read_text()), signal.SIGKILL)
    await asyncio.sleep(0.3)
    assert (await inside.router.table()).pools == {"foo/db": wanted}
    assert await inside.greeted(inside.ports[0], source=NEIGHBOUR) == "foo-db-1-1"


async def test_the_next_server_adopts_it_and_whom_it_lets_in(inside: Inside, greeters: Greeters) -> None:
    await inside.router.admit("foo", NEIGHBOUR)
    wanted = pool(inside, greeters[0])
    await inside.router.change([wanted])
    later = await restarted(inside, wanted)
    await later.start()
    assert (await later.table()).pools == {"foo/db": wanted}
    assert await inside.greeted(inside.ports[0], source=NEIGHBOUR) == "foo-db-1-1"
    await later.admit("bar", NEIGHBOUR)  # the address went to somebody else meanwhile
    assert await inside.greeted(inside.ports[0], source=NEIGHBOUR) is None


async def test_what_only_the_inner_proxy_still_has_is_seen_and_taken_away(
    inside: Inside, greeters: Greeters
) -> None:
    await inside.router.change([pool(inside, greeters[0])])
    later = made(inside.folder, inside.ports)  # whose outer router knows nothing of it
    inside.again.append(later)
    seen = (await later.table()).pools["foo/db"]
    assert (seen.domains, seen.targets, len(seen.inner)) == (frozenset(), frozenset(), 1)
    await later.change([], gone=["foo/db"])
    assert (await later.table()).pools == {}
    assert await inside.greeted(inside.ports[0]) is None


@contextlib.contextmanager
def taken(port: int) -> Iterator[None]:
    with socket.socket() as listener:
        listener.bind((OWN, port))
        listener.listen()
        yield


async def test_where_a_port_is_taken_domains_are_routed_all_the_same(
    inside: Inside, greeters: Greeters
) -> None:
    wanted = pool(inside, greeters[0])
    with taken(inside.ports[3]):
        await inside.router.change([wanted])
        table = await inside.router.table()
        assert table.pools == {"foo/db": wanted}  # what can't be seen is taken to be as it was wanted
        assert "in use" in str(inside.router.problem)
        assert "--inner-ports" in str(inside.router.problem)
    await asyncio.sleep(1.1)
    missing = (await inside.router.table()).pools["foo/db"]
    assert missing.inner == frozenset()
    assert inside.router.problem is None
    await inside.router.change([wanted])
    assert await inside.greeted(inside.ports[0]) == "foo-db-1-1"


async def test_a_port_with_a_name_may_get_another_number(inside: Inside, greeters: Greeters) -> None:
    one, two = greeters
    target = Target("foo-mail-1", OWN, 9)

    def named(port: int) -> Pool:
        inner = Inner(inside.ports[0], "foo", frozenset({(target.id, port)}))
        return Pool("foo/mail", frozenset(), frozenset({target}), inner=frozenset({inner}))

    for each in (one, two):
        await inside.router.change([named(each.port)])
        assert (await inside.router.table()).pools == {"foo/mail": named(each.port)}
        assert await inside.greeted(inside.ports[0]) == each.id


async def test_what_is_refused_of_one_pool_is_no_matter_of_others(inside: Inside, greeters: Greeters) -> None:
    odd = replace(pool(inside, greeters[0]), inner=frozenset({Inner(inside.ports[0], "no group at all")}))
    fine = pool(inside, greeters[1], name="foo/x", index=1)
    await inside.router.change([odd, fine])
    assert await inside.greeted(inside.ports[1]) == "foo-db-2-1"
    assert "no group at all" in str(inside.router.problem)
    seen = (await inside.router.table()).pools
    assert seen == {"foo/db": odd, "foo/x": fine}, "nothing is gained by asking for it again and again"
    await inside.router.change([pool(inside, greeters[0])])
    assert inside.router.problem is None
    assert await inside.greeted(inside.ports[0]) == "foo-db-1-1"


async def test_where_nothing_is_up_for_a_moment_connections_wait(inside: Inside, greeters: Greeters) -> None:
    await inside.router.change([pool(inside)])
    early = asyncio.create_task(inside.greeted(inside.ports[0]))
    await asyncio.sleep(0.3)
    await inside.router.change([pool(inside, greeters[0])])
    assert await early == "foo-db-1-1"


async def test_a_failure_is_told_as_what_was_wanted_and_its_end_too(
    inside: Inside, greeters: Greeters
) -> None:
    beside, wanted = pool(inside, greeters[1], name="foo/x", index=1), pool(inside, greeters[0])
    seen = dict[str, Pool]()

    async def look(cursor: str) -> str:
        table = await inside.router.table(after=cursor)
        if table.complete:
            seen.clear()
        seen.update(table.pools)
        return table.cursor

    await inside.router.change([replace(wanted, inner=frozenset())])
    cursor = await look("")
    with taken(inside.ports[3]):
        await inside.router.change([beside, wanted])
        cursor = await look(cursor)
        assert seen == {"foo/x": beside, "foo/db": wanted}
        later = replace(wanted, targets=frozenset({Target("foo-db-3-1", OWN, 9)}))
        await inside.router.change([replace(wanted, targets=frozenset())])
        cursor = await look(cursor)
        assert seen["foo/db"].targets == frozenset()
        await inside.router.change([later])
        cursor = await look(cursor)
        assert seen["foo/db"] == later
    await asyncio.sleep(1.1)
    await inside.router.change([beside])  # which is the first to reach the proxy
    await look(cursor)
    assert seen == {"foo/x": beside, "foo/db": replace(later, inner=frozenset())}


async def test_the_next_server_takes_what_it_found_for_wanted(inside: Inside, greeters: Greeters) -> None:
    wanted = pool(inside, greeters[0])
    await inside.router.change([wanted])
    later = await restarted(inside, wanted)
    cursor = (await later.table()).cursor
    os.kill(int((inside.folder / "inner" / "haproxy.pid").read_text()), signal.SIGKILL)
    await asyncio.sleep(0.3)
    with taken(inside.ports[3]):
        assert (await later.table(after=cursor)).pools == {"foo/db": wanted}


async def test_one_that_hangs_at_its_start_is_ended(
    inside: Inside, greeters: Greeters, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("router.inner.LIMIT", 0.3)
    program = tmp_path / "haproxy"
    program.write_text("#!/bin/sh\nexec sleep 1714\n")
    program.chmod(0o755)
    monkeypatch.setattr("router.haproxy_process._PATH", f"{tmp_path}:/usr/bin:/bin")
    wanted = pool(inside, greeters[0])
    async with asyncio.timeout(5):
        await inside.router.change([wanted])
        assert (await inside.router.table()).pools == {"foo/db": wanted}
    assert "does not answer within 0.3 s" in str(inside.router.problem)
    with pytest.raises(RouterError, match="does not answer"):
        await inside.router.inner_address()
    async with asyncio.timeout(5):
        while running_here("sleep 1714"):
            await asyncio.sleep(0.02)


async def test_an_address_that_was_given_back_is_let_in_no_more_also_by_the_next_server(
    inside: Inside, greeters: Greeters
) -> None:
    await inside.router.admit("foo", NEIGHBOUR)
    wanted = pool(inside, greeters[0])
    await inside.router.change([wanted])
    later = await restarted(inside, wanted)
    await later.table()
    await later.dismiss(NEIGHBOUR)
    assert await inside.greeted(inside.ports[0], source=NEIGHBOUR) is None


async def test_nobody_gets_an_address_with_which_others_are_reached(
    inside: Inside, greeters: Greeters, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the proxy can't be told whose it is now, it passes on as before."""
    monkeypatch.setattr("router.inner.LIMIT", 0.5)
    await inside.router.admit("foo", NEIGHBOUR)
    await inside.router.change([pool(inside, greeters[0])])
    await inside.router.table()
    master = int((inside.folder / "inner" / "haproxy.pid").read_text())
    workers = [int(each) for each in Path(f"/proc/{master}/task/{master}/children").read_text().split()]
    for each in workers:
        os.kill(each, signal.SIGSTOP)
    try:
        await inside.router.table()
        with pytest.raises(RouterError):
            await inside.router.dismiss(NEIGHBOUR)
        with pytest.raises(RouterError):
            await inside.router.admit("bar", NEIGHBOUR)
        await inside.router.admit("bar", STRANGER)  # who comes through to nobody now
    finally:
        for each in workers:
            os.kill(each, signal.SIGCONT)
    await inside.router.admit("bar", NEIGHBOUR)
    assert await inside.greeted(inside.ports[0], source=NEIGHBOUR) is None


async def test_a_reload_for_more_pools_ends_no_connection(inside: Inside, greeters: Greeters) -> None:
    await inside.router.change([pool(inside, greeters[0])])
    reader, writer = await asyncio.open_connection(OWN, inside.ports[0])
    assert await reader.readline() == b"foo-db-1-1\n"
    many = [
        Pool(f"d{number}/x", frozenset(), frozenset(), inner=frozenset({Inner(20000 + number, f"d{number}")}))
        for number in range(70)
    ]
    await inside.router.change(many)
    await inside.router.change([pool(inside, greeters[1])])
    writer.write(b"still there?\n")
    assert await reader.readline() == b"foo-db-1-1\n"
    assert (await inside.router.table()).draining == {"foo-db-1-1": 1}
    await inside.router.remove("foo-db-1-1")
    async with asyncio.timeout(5):
        assert await reader.readline() == b""
    writer.close()


async def test_the_inner_one_is_ended_also_where_the_outer_one_is_not() -> None:
    class Outer(MemoryRouter):
        async def shutdown(self) -> None:
            raise RouterError("it does not end")

    class Ended(MemoryRouter):
        ended = False

        async def shutdown(self) -> None:
            self.ended = True

    inner = Ended()

    async def address() -> str:
        return OWN

    router = WithInnerPorts(Outer(), make=lambda _: inner, address=address, begun=lambda: True)
    with pytest.raises(RouterError):
        await router.shutdown()
    assert inner.ended


class Hung(MemoryRouter):
    """Answers nobody."""

    async def table(self, *, after: str = "") -> Table:
        await asyncio.sleep(3600)
        return await super().table(after=after)


async def test_one_that_hangs_holds_no_domain_up(greeters: Greeters, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("router.inner.LIMIT", 0.2)
    outer = MemoryRouter()

    async def address() -> str:
        return OWN

    router = WithInnerPorts(outer, make=lambda _: Hung(), address=address)
    wanted = Pool(
        "foo/db", frozenset({"db.example.org"}), frozenset({greeters[0]}), inner=frozenset({Inner(1, "foo")})
    )
    async with asyncio.timeout(5):
        await router.change([wanted])
        await router.change([replace(wanted, targets=frozenset({greeters[1]}))])
        table = await router.table()
    assert outer.find_answer("db.example.org") == (200, greeters[1])
    assert table.pools["foo/db"].targets == {greeters[1]}
    assert "does not answer within 0.2 s" in str(router.problem)


async def test_a_router_of_domains_alone_refuses_them(inside: Inside, greeters: Greeters) -> None:
    with pytest.raises(RouterError, match="ports within the machine"):
        await MemoryRouter().apply([pool(inside, greeters[0])])


async def test_many_connections_meet_no_gap_while_targets_change(inside: Inside, greeters: Greeters) -> None:
    await inside.router.change([pool(inside, greeters[0])])
    ending = asyncio.Event()
    answers = list[str | None]()

    async def connect() -> None:
        while not ending.is_set():
            answers.append(await inside.greeted(inside.ports[0]))
            await asyncio.sleep(0.001)

    async with asyncio.TaskGroup() as tasks:
        for _ in range(8):
            tasks.create_task(connect())
        for number in range(20):
            await inside.router.change([pool(inside, greeters[number % 2])])
            await inside.router.remove(greeters[(number + 1) % 2].id)
        ending.set()
    assert len(answers) > 50
    assert None not in answers
