"""Every router keeps these promises; those of a real proxy are asked for with real requests."""

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from router.base import Router, RouterError
from router.haproxy import HaproxyRouter
from router.inner import WithInnerPorts
from router.memory import MemoryRouter
from router.runtime_api import Command, Session
from router.types import Guard, GuardMode, Pool, Target
from tests.servers.haproxy import (
    Client,
    WebServer,
    free_port,
    get,
    load,
    require_haproxy,
    running_router,
    short_folder,
)


def pool(name: str, domains: str, *targets: Target) -> Pool:
    return Pool(name, frozenset(domains.split()), frozenset(targets))


JOE = (("joe", "0" * 32),)


def guarded(of: Pool, domain: str, *, users: tuple[tuple[str, str], ...] = JOE) -> Pool:
    return replace(of, guards=of.guards | {(domain, Guard(GuardMode.DIGEST, users))})


@dataclass
class Driven:
    """A router, and what a visitor gets from it."""

    router: Router
    port: int | None
    commands: list[Any]
    """Everything that changed something, as the driver counts it."""
    memory: MemoryRouter | None = None
    """Where no proxy answers visitors."""

    async def visit(self, host: str) -> tuple[int, str | None]:
        """Status, and the id of the target that answered."""
        if self.port is None:
            assert self.memory is not None
            status, target = self.memory.find_answer(host)
            return status, target.id if target else None
        answer = await get(self.port, host)
        return answer.status, answer.body if answer.status == 200 else None


async def loopback() -> str:
    return "127.0.0.1"


@pytest.fixture(params=["memory", "with-inner-ports", pytest.param("haproxy", marks=pytest.mark.real)])
async def driven(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Driven]:
    if request.param == "memory":
        memory = MemoryRouter()
        yield Driven(memory, None, memory.steps, memory)
        return
    if request.param == "with-inner-ports":
        memory = MemoryRouter()
        router = WithInnerPorts(memory, make=lambda _: MemoryRouter(), address=loopback, begun=lambda: True)
        yield Driven(router, None, memory.steps, memory)
        return
    require_haproxy()
    commands: list[Any] = []
    tell = Session.tell

    async def counted(self: Session, batch: Sequence[Command]) -> None:
        commands.extend(batch)
        await tell(self, batch)

    monkeypatch.setattr(Session, "tell", counted)
    with short_folder() as folder:
        port = free_port()
        async with running_router(folder / "haproxy", port) as real:
            yield Driven(real, port, commands)


@pytest.fixture
async def targets() -> AsyncIterator[tuple[Target, Target, Target]]:
    servers = [WebServer(f"foo-app-{number}-web-1") for number in (1, 2, 3)]
    async with contextlib.AsyncExitStack() as stack:
        for server in servers:
            server.release.set()
        one, two, three = [await stack.enter_async_context(server.listening()) for server in servers]
        yield one, two, three


Targets = tuple[Target, Target, Target]


async def test_a_new_router_routes_nothing(driven: Driven) -> None:
    table = await driven.router.table()
    assert (table.pools, table.draining) == ({}, {})
    assert await driven.visit("foo.example.org") == (404, None)


async def test_table_says_what_was_applied_and_requests_get_there(driven: Driven, targets: Targets) -> None:
    wanted = [
        pool("foo/app", "foo.example.org www.example.org", targets[0]),
        pool("bar/app", "bar.example.org", targets[1]),
    ]
    await driven.router.apply(wanted)
    assert (await driven.router.table()).pools == {each.name: each for each in wanted}
    assert await driven.visit("www.example.org") == (200, targets[0].id)
    assert await driven.visit("bar.example.org") == (200, targets[1].id)


async def test_requests_are_spread_over_all_targets(driven: Driven, targets: Targets) -> None:
    await driven.router.apply([pool("foo/app", "foo.example.org", *targets)])
    assert {await driven.visit("foo.example.org") for _ in range(12)} == {(200, each.id) for each in targets}


async def test_host_is_matched_in_any_case(driven: Driven, targets: Targets) -> None:
    await driven.router.apply([pool("foo/app", "foo.example.org", targets[0])])
    assert await driven.visit("FOO.Example.ORG") == (200, targets[0].id)


async def test_applying_the_same_again_does_nothing(driven: Driven, targets: Targets) -> None:
    wanted = [
        pool("foo/app", "foo.example.org *.foo.example.org", *targets),
        pool("bar/app", "bar.example.org"),
    ]
    await driven.router.apply(wanted)
    driven.commands.clear()
    await driven.router.apply(wanted)
    assert driven.commands == []


async def test_a_change_touches_only_its_own_pool(driven: Driven, targets: Targets) -> None:
    many = [pool(f"foo{number}/app", f"foo{number}.example.org") for number in range(30)]
    await driven.router.apply(many)
    driven.commands.clear()
    await driven.router.apply([*many[:-1], pool("foo29/app", "foo29.example.org", targets[0])])
    assert 1 <= len(driven.commands) <= 3
    assert await driven.visit("foo29.example.org") == (200, targets[0].id)


async def test_changing_some_pools_leaves_all_others(driven: Driven, targets: Targets) -> None:
    kept = pool("kept/app", "kept.example.org", targets[0])
    await driven.router.apply([kept, pool("foo/app", "foo.example.org"), pool("old/app", "old.example.org")])
    changed = pool("foo/app", "foo.example.org", targets[1])
    await driven.router.change([changed, pool("new/app", "new.example.org")], gone=["old/app", "unknown/app"])
    table = await driven.router.table()
    assert table.pools.keys() == {"kept/app", "foo/app", "new/app"}
    assert (table.pools["kept/app"], table.pools["foo/app"]) == (kept, changed)
    assert await driven.visit("kept.example.org") == (200, targets[0].id)
    assert await driven.visit("foo.example.org") == (200, targets[1].id)
    assert await driven.visit("old.example.org") == (404, None)


async def test_domain_goes_to_the_pool_that_a_change_names(driven: Driven, targets: Targets) -> None:
    await driven.router.apply([pool("a/app", "a.example.org x.example.org", targets[0])])
    await driven.router.change([pool("b/app", "x.example.org", targets[1])])
    assert await driven.visit("x.example.org") == (200, targets[1].id)
    assert (await driven.router.table()).pools["a/app"].domains == {"a.example.org"}


async def test_target_of_a_pool_that_a_change_does_not_name_is_refused(
    driven: Driven, targets: Targets
) -> None:
    await driven.router.apply([pool("a/app", "a.example.org", targets[0])])
    with pytest.raises(RouterError, match="is in 'a/app' and 'b/app'"):
        await driven.router.change([pool("b/app", "b.example.org", targets[0])])


async def test_change_without_a_free_place_keeps_all_others(driven: Driven, targets: Targets) -> None:
    await driven.router.apply([pool("kept/app", "kept.example.org x.example.org", targets[0])])
    many = [pool(f"foo{number}/app", f"foo{number}.example.org") for number in range(80)]
    await driven.router.change([*many, pool("taker/app", "x.example.org", targets[1])])
    assert len((await driven.router.table()).pools) == 82
    assert await driven.visit("kept.example.org") == (200, targets[0].id)
    assert await driven.visit("x.example.org") == (200, targets[1].id)


async def test_later_look_may_tell_only_what_has_changed(driven: Driven, targets: Targets) -> None:
    """Put together, the looks tell the same as one at everything."""
    seen: dict[str, Pool] = {}
    cursor = ""
    steps: list[Callable[[], Awaitable[None]]] = [
        lambda: driven.router.apply([pool("a/app", "a.org", targets[0]), pool("b/app", "b.org")]),
        lambda: driven.router.change([pool("b/app", "b.org", targets[1])]),
        lambda: driven.router.change([pool("c/app", "a.org", targets[2])], gone=["b/app"]),
        lambda: driven.router.remove(targets[1].id),
    ]
    for step in steps:
        await step()
        table = await driven.router.table(after=cursor)
        if table.complete:
            seen = {}
        seen = {name: each for name, each in seen.items() if name not in table.gone} | dict(table.pools)
        cursor = table.cursor
    last = await driven.router.table(after=cursor)
    assert last.complete or not (last.pools or last.gone)
    assert seen == (await driven.router.table()).pools


async def test_domain_moves_between_pools(driven: Driven, targets: Targets) -> None:
    await driven.router.apply([pool("a/app", "x.example.org", targets[0]), pool("b/app", "", targets[1])])
    moved = [pool("a/app", "", targets[0]), pool("b/app", "x.example.org", targets[1])]
    await driven.router.apply(moved)
    assert await driven.visit("x.example.org") == (200, targets[1].id)
    assert (await driven.router.table()).pools == {each.name: each for each in moved}


async def test_wildcard_matches_any_depth_after_exact_and_nearer_ones(
    driven: Driven, targets: Targets
) -> None:
    await driven.router.apply(
        [
            pool("any/app", "*.example.org", targets[0]),
            pool("near/app", "*.near.example.org", targets[1]),
            pool("exact/app", "exact.example.org", targets[2]),
        ]
    )
    assert await driven.visit("foo.example.org") == (200, targets[0].id)
    assert await driven.visit("a.b.c.example.org") == (200, targets[0].id)
    assert await driven.visit("foo.near.example.org") == (200, targets[1].id)
    assert await driven.visit("exact.example.org") == (200, targets[2].id)
    assert await driven.visit("example.org") == (404, None)
    await driven.router.apply([])
    assert await driven.visit("foo.example.org") == (404, None)


async def test_domains_of_an_empty_pool_are_known_and_answered_with_503(driven: Driven) -> None:
    await driven.router.apply([pool("foo/app", "foo.example.org")])
    assert await driven.visit("foo.example.org") == (503, None)


@pytest.mark.parametrize("page", ["", "<h1>Zurück um 8 %1 {a|b} #</h1> <script>1;</script>" + "x" * 8000])
async def test_pool_in_maintenance_is_answered_for_and_keeps_its_targets(
    driven: Driven, targets: Targets, page: str
) -> None:
    other = pool("bar/app", "bar.example.org", targets[1])
    normal = pool("foo/app", "foo.example.org *.foo.example.org", targets[0])
    closed = replace(normal, maintenance=True, page=page)
    await driven.router.apply([normal, other])
    driven.commands.clear()
    await driven.router.apply([closed, other])
    assert len(driven.commands) == 1
    assert (await driven.router.table()).pools == {"foo/app": closed, "bar/app": other}
    assert await driven.visit("foo.example.org") == (503, None)
    assert await driven.visit("x.foo.example.org") == (503, None)
    assert await driven.visit("bar.example.org") == (200, targets[1].id)
    if driven.port is not None:
        answer = await get(driven.port, "foo.example.org")
        assert int(answer.headers["retry-after"]) > 0
        assert answer.body == page if page else "Down for maintenance" in answer.body
    # While it is on, targets may come and go, as in a deploy, and the page may change.
    deployed = replace(closed, targets=frozenset({targets[2]}), page="<p>soon</p>")
    await driven.router.apply([deployed, other])
    assert (await driven.router.table()).pools["foo/app"] == deployed
    assert await driven.visit("foo.example.org") == (503, None)
    opened = replace(deployed, maintenance=False, page="")
    await driven.router.apply([opened, other])
    assert (await driven.router.table()).pools["foo/app"] == opened
    assert await driven.visit("foo.example.org") == (200, targets[2].id)


async def test_pool_may_begin_and_end_in_maintenance(driven: Driven, targets: Targets) -> None:
    closed = replace(pool("foo/app", "foo.example.org", targets[0]), maintenance=True)
    await driven.router.apply([closed])
    assert await driven.visit("foo.example.org") == (503, None)
    await driven.router.apply([])
    assert await driven.visit("foo.example.org") == (404, None)
    await driven.router.apply([pool("bar/app", "foo.example.org", targets[1])])
    await driven.router.remove(targets[0].id)
    await driven.router.apply([pool("baz/app", "baz.example.org", targets[2]), *(await pools_of(driven))])
    assert await driven.visit("foo.example.org") == (200, targets[1].id)
    assert await driven.visit("baz.example.org") == (200, targets[2].id)


async def test_domain_with_a_guard_asks_for_a_password_and_others_of_its_pool_do_not(
    driven: Driven, targets: Targets
) -> None:
    domains = "foo.example.org open.example.org *.foo.example.org open.foo.example.org *.open.foo.example.org"
    asking = guarded(pool("foo/app", domains, targets[0]), "foo.example.org")
    wanted = guarded(asking, "*.foo.example.org", users=(*JOE, ("kim", "1" * 32)))
    await driven.router.apply([wanted, pool("bar/app", "a.foo.example.org", targets[1])])
    assert (await driven.router.table()).pools["foo/app"] == wanted
    for closed in ("foo.example.org", "FOO.example.org", "x.foo.example.org", "a.b.foo.example.org"):
        assert await driven.visit(closed) == (401, None)
    for free in ("open.example.org", "open.foo.example.org", "x.open.foo.example.org"):
        assert await driven.visit(free) == (200, targets[0].id)
    assert await driven.visit("a.foo.example.org") == (200, targets[1].id)


async def test_guards_change_and_go_with_one_command(driven: Driven, targets: Targets) -> None:
    free = pool("foo/app", "foo.example.org www.example.org", targets[0])
    await driven.router.apply([free])
    for wanted in (
        guarded(free, "foo.example.org"),
        guarded(free, "foo.example.org", users=(("kim", "1" * 32),)),
        guarded(free, "www.example.org"),
        free,
    ):
        driven.commands.clear()
        await driven.router.change([wanted])
        assert len(driven.commands) == 1
        assert (await driven.router.table()).pools == {"foo/app": wanted}
        for domain in sorted(free.domains):
            expected = (401, None) if domain in dict(wanted.guards) else (200, targets[0].id)
            assert await driven.visit(domain) == expected


async def test_guard_comes_before_its_domain_and_goes_after_it(driven: Driven, targets: Targets) -> None:
    first = guarded(pool("a/app", "x.example.org keep.example.org", targets[0]), "x.example.org")
    await driven.router.apply([first])
    second = guarded(pool("b/app", "x.example.org y.example.org", targets[1]), "x.example.org")
    await driven.router.apply([pool("a/app", "keep.example.org", targets[0]), second])
    assert await driven.visit("x.example.org") == (401, None)
    assert await driven.visit("y.example.org") == (200, targets[1].id)
    third = guarded(pool("b/app", "z.example.org y.example.org", targets[1]), "z.example.org")
    driven.commands.clear()
    await driven.router.apply([pool("a/app", "x.example.org keep.example.org", targets[0]), third])
    assert (await driven.router.table()).pools["b/app"] == third
    assert await driven.visit("x.example.org") == (200, targets[0].id)
    assert await driven.visit("z.example.org") == (401, None)
    # A place that a pool with guards had asks for nothing once another pool has it.
    await driven.router.apply([])
    await driven.router.remove(targets[1].id)
    await driven.router.apply([pool("c/app", "z.example.org", targets[2])])
    assert await driven.visit("z.example.org") == (200, targets[2].id)


async def test_pool_with_a_guard_in_maintenance_shows_its_page(driven: Driven, targets: Targets) -> None:
    closed = replace(
        guarded(pool("foo/app", "foo.example.org", targets[0]), "foo.example.org"), maintenance=True
    )
    await driven.router.apply([closed])
    assert await driven.visit("foo.example.org") == (503, None)
    await driven.router.apply([replace(closed, maintenance=False)])
    assert await driven.visit("foo.example.org") == (401, None)


async def pools_of(driven: Driven) -> Sequence[Pool]:
    return tuple((await driven.router.table()).pools.values())


async def test_pool_that_leaves_is_unknown_and_its_targets_drain(driven: Driven, targets: Targets) -> None:
    await driven.router.apply([pool("foo/app", "foo.example.org", targets[0])])
    await driven.router.apply([])
    assert await driven.visit("foo.example.org") == (404, None)
    table = await driven.router.table()
    assert (table.pools, table.draining) == ({}, {targets[0].id: 0})


async def test_target_that_leaves_drains_until_it_is_removed(driven: Driven, targets: Targets) -> None:
    await driven.router.apply([pool("foo/app", "foo.example.org", targets[0])])
    await driven.router.apply([pool("foo/app", "foo.example.org", targets[1])])
    assert (await driven.router.table()).draining == {targets[0].id: 0}
    assert {await driven.visit("foo.example.org") for _ in range(4)} == {(200, targets[1].id)}
    await driven.router.remove(targets[0].id)
    await driven.router.remove(targets[0].id)
    assert (await driven.router.table()).draining == {}


async def test_draining_target_may_come_back(driven: Driven, targets: Targets) -> None:
    first, second = pool("foo/app", "f.example.org", targets[0]), pool("foo/app", "f.example.org", targets[1])
    for wanted in (first, second, first):
        await driven.router.apply([wanted])
    assert (await driven.router.table()).draining == {targets[1].id: 0}
    assert await driven.visit("f.example.org") == (200, targets[0].id)


async def test_removing_a_routed_or_unknown_target_does_nothing(driven: Driven, targets: Targets) -> None:
    await driven.router.apply([pool("foo/app", "foo.example.org", targets[0])])
    await driven.router.remove(targets[0].id)
    await driven.router.remove("nobody")
    assert await driven.visit("foo.example.org") == (200, targets[0].id)


async def test_target_moves_to_another_address(driven: Driven, targets: Targets) -> None:
    await driven.router.apply([pool("foo/app", "foo.example.org", targets[0])])
    assert await driven.visit("foo.example.org") == (200, targets[0].id)
    moved = Target(targets[0].id, targets[1].address, targets[1].port)
    await driven.router.apply([pool("foo/app", "foo.example.org", moved)])
    table = await driven.router.table()
    assert (table.pools["foo/app"].targets, table.draining) == (frozenset({moved}), {})
    if driven.port is not None:  # in memory nobody listens there
        assert await driven.visit("foo.example.org") == (200, targets[1].id)


async def test_many_targets_are_taken_and_removed_again(driven: Driven, targets: Targets) -> None:
    for number in range(30):
        moving = Target(f"foo-app-{number}-web-1", targets[0].address, targets[0].port)
        await driven.router.apply([pool("foo/app", "foo.example.org", moving)])
        for target in (await driven.router.table()).draining:
            await driven.router.remove(target)
    table = await driven.router.table()
    assert (len(table.pools["foo/app"].targets), table.draining) == (1, {})


@pytest.mark.parametrize(
    "wanted",
    [
        [pool("foo/app\n", "")],
        [pool("foo/app;shutdown frontend web", "")],
        [Pool("foo/app", frozenset({"x.org pool-1\nshow"}), frozenset())],
        [pool("foo/app", "", Target("a b", "127.0.0.1", 80))],
        [pool("foo/app", "", Target("a;b", "127.0.0.1", 80))],
        [pool("foo/app", "", Target("a", "127.0.0.1 check", 80))],
        [pool("foo/app", "", Target("a", "127.0.0.1", 0))],
        [pool("a/app", "x.org"), pool("b/app", "x.org")],
        [pool("a/app", "", Target("t", "127.0.0.1", 80)), pool("b/app", "", Target("t", "127.0.0.1", 81))],
        [pool("a/app", "a.org"), pool("a/app", "b.org")],
        [guarded(pool("a/app", "a.org"), "b.org")],
        [guarded(pool("a/app", "a.org"), "a.org", users=())],
        [guarded(pool("a/app", "a.org"), "a.org", users=(("joe=", "0" * 32),))],
        [guarded(pool("a/app", "a.org"), "a.org", users=(("joe", "secret"),))],
        [guarded(guarded(pool("a/app", "a.org"), "a.org"), "a.org", users=(("joe", "1" * 32),))],
        [guarded(pool("a/app", "a.org"), "a.org", users=tuple((f"u{n}", "0" * 32) for n in range(300)))],
    ],
)
async def test_unfit_or_contradicting_pools_are_refused_whole(driven: Driven, wanted: list[Pool]) -> None:
    await driven.router.apply([pool("old/app", "old.example.org")])
    with pytest.raises(RouterError):
        await driven.router.apply([pool("old/app", "other.example.org"), *wanted])
    assert set((await driven.router.table()).pools["old/app"].domains) == {"old.example.org"}


# From here on: what only a real proxy can break.


@pytest.fixture
def folder() -> Iterator[Path]:
    require_haproxy()
    with short_folder() as made:
        yield made / "haproxy"


@pytest.fixture
async def haproxy(folder: Path) -> AsyncIterator[Driven]:
    port = free_port()
    async with running_router(folder, port, write_delay=0.01) as router:
        yield Driven(router, port, [])


def master_pid(folder: Path) -> int:
    return int((folder / "haproxy.pid").read_text())


@pytest.mark.real
async def test_maintenance_lets_requests_in_work_end_and_survives_a_killed_proxy(
    haproxy: Driven, folder: Path
) -> None:
    assert haproxy.port
    slow = WebServer("slow-1")
    async with slow.listening() as target:
        normal = pool("foo/app", "foo.example.org", target)
        closed = replace(normal, maintenance=True, page="<p>soon</p>")
        await haproxy.router.apply([normal])
        request = asyncio.create_task(get(haproxy.port, "foo.example.org", "/slow"))
        await slow.working.wait()
        await haproxy.router.apply([closed])
        assert await haproxy.visit("foo.example.org") == (503, None)
        slow.release.set()
        assert (await request).body == "slow-1"
        await haproxy.router.close()
        os.kill(master_pid(folder), signal.SIGKILL)
        await haproxy.router.start()
        assert (await haproxy.router.table()).pools == {"foo/app": closed}
        answer = await get(haproxy.port, "foo.example.org")
        assert (answer.status, answer.body) == (503, "<p>soon</p>")


@pytest.mark.real
async def test_drain_reports_and_keeps_a_long_request(haproxy: Driven, targets: Targets) -> None:
    assert haproxy.port
    slow = WebServer("slow-1")
    async with slow.listening() as target:
        await haproxy.router.apply([pool("foo/app", "foo.example.org", target)])
        request = asyncio.create_task(get(haproxy.port, "foo.example.org", "/slow"))
        await slow.working.wait()
        await haproxy.router.apply([pool("foo/app", "foo.example.org", targets[0])])
        assert (await haproxy.router.table()).draining == {"slow-1": 1}
        assert await haproxy.visit("foo.example.org") == (200, targets[0].id)
        slow.release.set()
        assert (await request).body == "slow-1"
        assert (await haproxy.router.table()).draining == {"slow-1": 0}


@pytest.mark.real
async def test_remove_cuts_what_a_target_still_works_on(haproxy: Driven, targets: Targets) -> None:
    assert haproxy.port
    slow = WebServer("slow-1")
    async with slow.listening() as target:
        await haproxy.router.apply([pool("foo/app", "foo.example.org", target)])
        request = asyncio.create_task(get(haproxy.port, "foo.example.org", "/slow"))
        await slow.working.wait()
        await haproxy.router.apply([pool("foo/app", "foo.example.org", targets[0])])
        await haproxy.router.remove("slow-1")
        assert (await request).status >= 500
        assert (await haproxy.router.table()).draining == {}


@pytest.mark.real
async def test_another_router_adopts_what_the_first_one_left(folder: Path, targets: Targets) -> None:
    port = free_port()
    wanted = [pool("foo/app", "foo.example.org", targets[0])]
    async with running_router(folder, port) as first:
        await first.apply([*wanted, pool("bar/app", "", targets[1])])
        await first.apply(wanted)
        await first.close()
        pid = master_pid(folder)
        async with running_router(folder, port) as second:
            table = await second.table()
            assert (table.pools, table.draining) == ({"foo/app": wanted[0]}, {targets[1].id: 0})
            assert master_pid(folder) == pid


@pytest.mark.real
async def test_changed_settings_are_taken_by_a_reload_without_failures(
    folder: Path, targets: Targets
) -> None:
    port, other = free_port(), free_port()
    async with running_router(folder, port) as first:
        await first.apply([pool("foo/app", "foo.example.org", targets[0])])
        await first.close()
        async with running_router(folder, other) as second:
            assert (await get(other, "foo.example.org")).body == targets[0].id
            assert set((await second.table()).pools) == {"foo/app"}


@pytest.mark.real
@pytest.mark.parametrize("sign", [signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV])
@pytest.mark.parametrize("victim", ["master", "worker"])
async def test_killed_proxy_is_started_again(
    haproxy: Driven, folder: Path, targets: Targets, victim: str, sign: signal.Signals
) -> None:
    wanted = [pool("foo/app", "foo.example.org", targets[0])]
    await haproxy.router.apply(wanted)
    pid = master_pid(folder)
    if victim == "worker":
        pid = int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])
    os.kill(pid, sign)
    assert dict((await haproxy.router.table()).pools) == {"foo/app": wanted[0]}
    await haproxy.router.apply([pool("foo/app", "foo.example.org", targets[1])])
    assert await haproxy.visit("foo.example.org") == (200, targets[1].id)


@pytest.mark.real
async def test_apply_mends_a_killed_proxy(haproxy: Driven, folder: Path, targets: Targets) -> None:
    await haproxy.router.apply([pool("foo/app", "foo.example.org", targets[0])])
    os.kill(master_pid(folder), signal.SIGKILL)
    await haproxy.router.apply([pool("foo/app", "foo.example.org", targets[1])])
    assert await haproxy.visit("foo.example.org") == (200, targets[1].id)


@pytest.mark.real
async def test_started_from_disk_alone_it_serves_the_last_table(folder: Path, targets: Targets) -> None:
    port = free_port()
    wanted = pool("foo/app", "foo.example.org *.wild.example.org", targets[0])
    async with running_router(folder, port) as first:
        await first.apply([wanted, pool("bar/app", "bar.example.org", targets[1]), pool("no/app", "no.org")])
        await first.close()
        await first.shutdown()
    assert not list(folder.glob("*.sock"))
    async with running_router(folder, port) as second:
        assert (await get(port, "a.wild.example.org")).body == targets[0].id
        assert (await get(port, "no.org")).status == 503
        assert (await second.table()).pools["foo/app"] == wanted


@pytest.mark.real
async def test_growth_reloads_without_a_failed_request_and_keeps_long_ones(
    folder: Path, targets: Targets
) -> None:
    port = free_port()
    slow = WebServer("slow-1")
    async with running_router(folder, port, spare_pools=4) as router, slow.listening() as target:
        kept = [pool("foo/app", "foo.example.org", targets[0]), pool("slow/app", "slow.example.org", target)]
        await router.apply(kept)
        request = asyncio.create_task(get(port, "slow.example.org", "/slow"))
        await slow.working.wait()
        async with load(port, "foo.example.org") as met:
            for size in (10, 20, 40, 80):
                more = [pool(f"more{number}/app", f"m{number}.example.org") for number in range(size)]
                await router.apply([*kept, *more])
                await asyncio.sleep(0.05)
            assert (await get(port, "m79.example.org")).status == 503
            # The request began three processes ago, and still counts.
            await router.apply([kept[0], *more])
            assert (await router.table()).draining == {"slow-1": 1}
        assert (met.failures, met.bodies) == ([], {targets[0].id})
        assert met.answered > 100
        slow.release.set()
        assert (await request).body == "slow-1"
        assert set((await router.table()).draining.values()) <= {0}


@pytest.mark.real
async def test_remove_cuts_requests_that_an_older_process_still_has(folder: Path, targets: Targets) -> None:
    port = free_port()
    slow = WebServer("slow-1")
    async with running_router(folder, port, spare_pools=1) as router, slow.listening() as target:
        await router.apply([pool("foo/app", "foo.example.org", target)])
        request = asyncio.create_task(get(port, "foo.example.org", "/slow"))
        await slow.working.wait()
        await router.apply([pool(f"m{number}/app", f"m{number}.example.org") for number in range(5)])
        assert (await router.table()).draining == {"slow-1": 1}
        await router.remove("slow-1")
        assert (await request).status >= 500
        assert (await router.table()).draining == {}


@pytest.mark.real
async def test_300_switches_under_load_fail_no_request(haproxy: Driven) -> None:
    assert haproxy.port
    async with contextlib.AsyncExitStack() as first:
        previous = first
        target = await first.enter_async_context(WebServer("foo-app-0-web-1").listening())
        await haproxy.router.apply([pool("foo/app", "foo.example.org", target)])
        async with load(haproxy.port, "foo.example.org") as met:
            for number in range(1, 300):
                stack = contextlib.AsyncExitStack()
                target = await stack.enter_async_context(WebServer(f"foo-app-{number}-web-1").listening())
                await haproxy.router.apply([pool("foo/app", "foo.example.org", target)])
                old = f"foo-app-{number - 1}-web-1"
                while (await haproxy.router.table()).draining.get(old):
                    await asyncio.sleep(0.002)
                await haproxy.router.remove(old)
                await previous.aclose()
                previous = stack
        await previous.aclose()
    assert met.failures == []
    assert met.answered > 300
    assert met.longest < 1.0


@pytest.mark.real
async def test_crashed_target_is_passed_over(haproxy: Driven, targets: Targets) -> None:
    assert haproxy.port
    crashing = WebServer("crash-1")
    async with crashing.listening() as target:
        await haproxy.router.apply([pool("foo/app", "foo.example.org", target, targets[0])])
        async with load(haproxy.port, "foo.example.org") as met:
            await asyncio.sleep(0.1)
            crashing.stop()
            await asyncio.sleep(0.3)
        # Only what it had just taken is lost with it: one request a client at most.
        assert len(met.failures) <= 8
        assert met.bodies >= {"crash-1", targets[0].id}


@pytest.mark.real
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_request_is_never_sent_twice(haproxy: Driven, method: str) -> None:
    assert haproxy.port
    server = WebServer("foo-1")
    async with server.listening() as target:
        await haproxy.router.apply([pool("foo/app", "foo.example.org", target)])
        assert (await get(haproxy.port, "foo.example.org", "/die", method=method)).status == 502
        assert server.seen == [f"{method} /die"]


@pytest.mark.real
async def test_apps_learn_who_asked_and_how(haproxy: Driven) -> None:
    assert haproxy.port
    async with WebServer("foo-1").listening() as target:
        await haproxy.router.apply([pool("foo/app", "foo.example.org", target)])
        host = f"foo.example.org:{haproxy.port}"
        head = (await get(haproxy.port, host, "/echo", headers="X-Forwarded-Proto: https\r\n")).body.lower()
        assert "x-forwarded-for: 127.0.0.1\r\n" in head
        assert "x-forwarded-proto: http\r\n" in head
        assert f"x-forwarded-host: {host}\r\n" in head
        assert f"x-forwarded-port: {haproxy.port}\r\n" in head
        assert "x-request-id: " in head
        own = "0123456789-abcdefghij"
        head = (await get(haproxy.port, host, "/echo", headers=f"X-Request-Id: {own}\r\n")).body.lower()
        assert head.count("x-request-id") == 1
        assert own in head


@pytest.mark.real
async def test_keep_alive_connection_follows_a_switch_at_once(haproxy: Driven, targets: Targets) -> None:
    assert haproxy.port
    client = Client(haproxy.port)
    for target in targets:
        await haproxy.router.apply([pool("foo/app", "foo.example.org", target)])
        assert (await client.get("foo.example.org")).body == target.id
    client.close()


@pytest.mark.real
async def test_pages_are_ours(haproxy: Driven) -> None:
    assert haproxy.port
    await haproxy.router.apply([pool("foo/app", "foo.example.org")])
    assert "The app is not running" in (await get(haproxy.port, "foo.example.org")).body
    assert "knows no app" in (await get(haproxy.port, "bar.example.org")).body


@pytest.mark.real
async def test_port_of_somebody_else_is_refused_in_words(folder: Path) -> None:
    server = await asyncio.start_server(lambda _reader, _writer: None, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    router = HaproxyRouter(folder=folder, host="127.0.0.1", port=port)
    with pytest.raises(RouterError, match=f"127.0.0.1:{port}: the port is in use by another program"):
        await router.start()
    server.close()
    await server.wait_closed()
    await router.start()
    await router.shutdown()


@pytest.mark.real
async def test_shutdown_ends_the_process_and_its_files(folder: Path, targets: Targets) -> None:
    async with running_router(folder, free_port()) as router:
        await router.apply([pool("foo/app", "foo.example.org", targets[0])])
        pid = master_pid(folder)
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        await router.shutdown()
        assert not [each for each in (str(pid), *children) if Path(f"/proc/{each}").exists()]
        assert not list(folder.glob("*.sock"))


@pytest.mark.real
async def test_proxy_has_nothing_of_our_environment(haproxy: Driven, folder: Path) -> None:
    process = Path(f"/proc/{master_pid(folder)}")
    names = [each.partition(b"=")[0] for each in (process / "environ").read_bytes().split(b"\0") if each]
    assert {name for name in names if not name.startswith(b"HAPROXY_")} == {b"PATH", b"LANG"}
    assert (process / "cwd").readlink() == Path("/")
    assert (folder / "admin.sock").stat().st_mode & 0o777 == 0o600
    if os.geteuid() == 0:
        worker = (process / f"task/{process.name}/children").read_text().split()[0]
        uids = Path(f"/proc/{worker}/status").read_text().partition("Uid:")[2].split()[:4]
        assert "0" not in uids


@pytest.mark.real
async def test_after_a_reboot_domains_are_known_and_lead_nowhere_until_the_table_is_applied(
    folder: Path, targets: Targets
) -> None:
    """Somebody else may listen where the targets were."""
    port = free_port()
    known = pool("foo/app", "foo.example.org *.foo.example.org", targets[0])
    closed = replace(pool("bar/app", "bar.example.org", targets[1]), maintenance=True)
    async with running_router(folder, port) as first:
        await first.apply([known, closed])
        await first.close()
        os.kill(master_pid(folder), signal.SIGKILL)
        (folder / "current" / "boot").write_text("00000000-0000-0000-0000-000000000000")
        async with running_router(folder, port) as second:
            empty = {each.name: replace(each, targets=frozenset()) for each in (known, closed)}
            assert (await second.table()).pools == empty
            assert (await get(port, "x.foo.example.org")).status == 503
            await second.apply([known, closed])
            assert (await get(port, "foo.example.org")).body == targets[0].id
