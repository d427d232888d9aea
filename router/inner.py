"""Ports within the machine, beside whatever routes domains: a second proxy that passes plain connections on.

Each `Inner` of a pool is a pool of that proxy, whose "domains" are `PORT-ADDRESS` of those who may connect. The two
proxies don't know of each other: where this one can't run, domains are routed all the same, and what was wanted of it
last is taken for true until it answers again.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

from router.base import Router, RouterError
from router.types import Inner, Pool, Table, Target

log = logging.getLogger(__name__)

NOWHERE = "127.0.0.1"
"""Stands for the address where none is needed: to end a proxy, which is found by what it left in its folder."""
RETRY, LONGEST_RETRY = 1.0, 60.0
"""Seconds until a proxy that failed is tried again: doubled each time, up to the second."""
LIMIT = 5.0
"""Seconds that it may take for anything: whatever it does, domains are to be routed meanwhile."""

Leads = Mapping[Inner, Pool]
T = TypeVar("T")


class WithInnerPorts:
    """Obeys the contracts of `Router` and `SupportsInnerPorts`. The second proxy runs from when it is first needed."""

    def __init__(
        self,
        outer: Router,
        *,
        make: Callable[[str], Router],
        address: Callable[[], Awaitable[str]],
        begun: Callable[[], bool] = lambda: False,
    ) -> None:
        """`make`: the second proxy, at an address. `address`: see `inner_address`. `begun`: whether there was one
        before. What these raise as RouterError counts as its failure."""
        self._outer = outer
        self._make = make
        self._address = address
        self._begun = begun
        self._inner: Router | None = None
        self._own = ""
        self._lock = asyncio.Lock()
        self._pools: dict[str, Pool] = {}
        """What the outer one does, as of the last look."""
        self._leads: dict[str, dict[Inner, Pool]] = {}
        """Pool to what the inner one does for it, as of the last look or change."""
        self._wanted: dict[str, frozenset[Inner]] = {}
        self._admitted: dict[str, str] = {}
        """Address to group."""
        self._changed: set[str] = set()
        """Pools that look different since the last look that was told of."""
        self._cursor = ""
        self._looks = 0
        self._within = ""
        """The inner one's own cursor."""
        self._problem: str | None = None
        self._retry_at = 0.0
        self._pause = RETRY

    @property
    def problem(self) -> str | None:
        """Why there are no inner ports now, for people; None: there are, or nobody needs any."""
        return self._problem

    async def start(self) -> None:
        await self._outer.start()

    async def close(self) -> None:
        await self._outer.close()
        if self._inner is not None:
            await self._inner.close()

    async def shutdown(self) -> None:
        await self._outer.shutdown()
        if self._begun() or self._inner is not None:
            await (self._inner or self._make(NOWHERE)).shutdown()

    async def inner_address(self) -> str:
        async with self._lock:
            try:
                async with asyncio.timeout(LIMIT):
                    await self._started()
            except TimeoutError as error:
                raise RouterError(f"the proxy of inner ports does not start within {LIMIT:g} s.") from error
            return self._own

    async def remove(self, target: str) -> None:
        await self._outer.remove(target)
        async with self._lock:
            if self._inner is not None and not self._rests():
                await self._attempt(lambda inner: self._remove_within(inner, target))

    async def apply(self, pools: Iterable[Pool]) -> None:
        given = list(pools)
        await self._outer.apply(map(_plain, given))
        wanted = {each.name: each for each in given}
        async with self._lock:
            self._wanted = {each.name: each.inner for each in wanted.values() if each.inner}
            if self._wanted or self._begun():
                await self._attempt(lambda inner: self._apply_within(inner, wanted))

    async def change(self, pools: Iterable[Pool], *, gone: Iterable[str] = ()) -> None:
        changed, left = list(pools), list(gone)
        await self._outer.change(map(_plain, changed), gone=left)
        async with self._lock:
            for each in changed:
                self._wanted[each.name] = each.inner
            for name in (*left, *(each.name for each in changed if not each.inner)):
                self._wanted.pop(name, None)
            touched = {*left, *(each.name for each in changed)}
            needed = any(each.inner for each in changed) or not self._leads.keys().isdisjoint(touched)
            if needed and not self._rests():
                await self._attempt(lambda inner: self._change_within(inner, changed, left))

    async def _remove_within(self, inner: Router, target: str) -> None:
        for each in (await self._look_within(inner)).draining:
            if _outer_id(each) == target:
                await inner.remove(each)

    async def _apply_within(self, inner: Router, wanted: Mapping[str, Pool]) -> None:
        await self._look_within(inner)
        leads = {name: self._due(pool) for name, pool in wanted.items() if pool.inner}
        await inner.apply([each for some in leads.values() for each in some.values()])
        self._leads = leads

    async def _change_within(self, inner: Router, changed: Sequence[Pool], left: Sequence[str]) -> None:
        if not self._within:
            await self._look_within(inner)
        after = {each.name: self._due(each) for each in changed} | {name: {} for name in left}
        kept = {pool.name for leads in after.values() for pool in leads.values()}
        before = {pool.name for name in after for pool in self._leads.get(name, {}).values()}
        await inner.change(
            [each for some in after.values() for each in some.values()], gone=sorted(before - kept)
        )
        for name, leads in after.items():
            self._leads.pop(name, None)
            if leads:
                self._leads[name] = leads

    async def table(self, *, after: str = "") -> Table:
        async with self._lock:
            known = after != "" and after == self._cursor
            if not known:
                self._within = ""
            outer = await self._outer.table(after=after.partition("|")[0] if known else "")
            self._take(outer)
            was, within = self._problem, None
            needed = bool(self._wanted) or self._inner is not None or self._begun()
            if needed and not self._rests():
                within = await self._attempt(self._look_within)
            complete = outer.complete or not known or was != self._problem
            names = {*self._pools, *self._leads} if complete else self._changed
            joined = {name: self._joined(name) for name in names}
            self._changed = set()
            self._looks += 1
            self._cursor = f"{outer.cursor}|{self._looks}" if outer.cursor else ""
            return Table(
                {name: pool for name, pool in joined.items() if pool is not None},
                {**outer.draining, **_drained(within or Table(), outer)},
                self._cursor,
                complete=complete,
                gone=frozenset(name for name, pool in joined.items() if pool is None and not complete),
            )

    async def admit(self, group: str, address: str) -> None:
        async with self._lock:
            before = self._admitted.get(address)
            self._admitted[address] = group
            if before != group:
                await self._follow_clients()

    async def dismiss(self, address: str) -> None:
        async with self._lock:
            group = self._admitted.pop(address, None)
            if group is not None:
                await self._follow_clients(gone=address)

    async def _follow_clients(self, *, gone: str = "") -> None:
        """Let the inner proxy know who may connect by now."""
        due = dict[str, dict[Inner, Pool]]()
        for name, leads in self._leads.items():
            for inner, pool in leads.items():
                domains = self._clients(inner, pool.domains) - {f"{inner.port}-{gone}"}
                if domains != pool.domains:
                    due.setdefault(name, {})[inner] = replace(pool, domains=domains)
        if due and not self._rests():
            await self._attempt(lambda proxy: self._take_clients(proxy, due))

    async def _take_clients(self, inner: Router, due: Mapping[str, Leads]) -> None:
        await inner.change([each for leads in due.values() for each in leads.values()])
        for name, leads in due.items():
            self._leads[name].update(leads)

    # What is, and what should be

    def _take(self, outer: Table) -> None:
        if outer.complete:
            self._pools = dict(outer.pools)
        else:
            self._pools.update(outer.pools)
        for name in outer.gone:
            self._pools.pop(name, None)
        self._changed |= {*outer.pools, *outer.gone}

    async def _look_within(self, inner: Router) -> Table:
        """Learn what the inner one does by now."""
        table = await inner.table(after=self._within)
        if table.complete:
            self._changed |= self._leads.keys()
            self._leads = {}
        for name in table.gone:
            pool, lead = _read(name)
            self._leads.get(pool, {}).pop(lead, None)
            self._changed.add(pool)
        for name, each in table.pools.items():
            pool, lead = _read(name)
            self._leads.setdefault(pool, {})[lead] = each
            self._changed.add(pool)
        self._leads = {name: leads for name, leads in self._leads.items() if leads}
        self._within = table.cursor
        return table

    def _joined(self, name: str) -> Pool | None:
        """What both do for that pool. One that only the inner one knows shows that there is something to undo."""
        pool = self._pools.get(name)
        leads = self._leads.get(name, {})
        if self._problem is not None:
            return pool and replace(pool, inner=self._wanted.get(name, frozenset()))
        if pool is None:
            return Pool(name, frozenset(), frozenset(), inner=frozenset(leads)) if leads else None
        if not leads:
            return pool
        due = self._due(replace(pool, inner=frozenset(leads)))
        return replace(pool, inner=frozenset(each for each, now in leads.items() if now == due[each]))

    def _due(self, pool: Pool) -> dict[Inner, Pool]:
        known = self._leads.get(pool.name, {})
        return {
            each: Pool(
                _name(pool.name, each),
                self._clients(each, known[each].domains if each in known else frozenset()),
                frozenset(
                    Target(f"{target.id}.{each.port}", target.address, each.leads_to or target.port)
                    for target in pool.targets
                ),
            )
            for each in pool.inner
        }

    def _clients(self, inner: Inner, before: Iterable[str]) -> frozenset[str]:
        """Who may connect: the machine itself, who was admitted, and who was before this server began, unless that is
        known to be somebody else by now."""
        admitted = (address for address, group in self._admitted.items() if group == inner.group)
        unknown = (each for each in before if each.partition("-")[2] not in self._admitted)
        return frozenset(
            (f"{inner.port}-{self._own}", *(f"{inner.port}-{each}" for each in admitted), *unknown)
        )

    # The inner proxy

    async def _attempt(self, act: Callable[[Router], Awaitable[T]]) -> T | None:
        """What comes of it, once the proxy runs. That it fails is kept as the problem."""
        try:
            async with asyncio.timeout(LIMIT):
                done = await act(await self._started())
        except (RouterError, TimeoutError) as error:
            self._note_problem(str(error) or f"their proxy does not answer within {LIMIT:g} s.")
            return None
        self._problem, self._pause = None, RETRY
        return done

    def _note_problem(self, why: str) -> None:
        if self._problem is None:
            log.warning("inner ports=none reason=%s", why)
        self._problem = f"Apps can't reach each other at their inner ports (expose): {why}"
        self._retry_at = time.monotonic() + self._pause
        self._pause = min(2 * self._pause, LONGEST_RETRY)
        self._within = ""

    def _rests(self) -> bool:
        """Whether it failed just now."""
        return self._problem is not None and time.monotonic() < self._retry_at

    async def _started(self) -> Router:
        own = await self._address()
        if self._inner is not None and own != self._own:
            await self._inner.close()
            self._inner, self._within = None, ""
        if self._inner is None:
            inner = self._make(own)
            await inner.start()
            self._inner, self._own = inner, own
        return self._inner


def _plain(pool: Pool) -> Pool:
    return replace(pool, inner=frozenset()) if pool.inner else pool


def _name(pool: str, inner: Inner) -> str:
    return f"{pool}/{inner.port}.{inner.leads_to}.{inner.group}"


def _read(name: str) -> tuple[str, Inner]:
    """The opposite of `_name`."""
    pool, _, words = name.rpartition("/")
    port, leads_to, group = words.split(".", 2)
    return pool, Inner(int(port), group, int(leads_to))


def _outer_id(target: str) -> str:
    return target.rpartition(".")[0]


def _drained(within: Table, outer: Table) -> Mapping[str, int]:
    found = dict[str, int]()
    for target, connections in within.draining.items():
        name = _outer_id(target)
        found[name] = found.get(name, outer.draining.get(name, 0)) + connections
    return found
