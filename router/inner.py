"""Ports within the machine, beside whatever routes domains: a second proxy that passes plain connections on.

Each `Inner` of a pool is a pool of that proxy (a lead), whose "domains" are `PORT-ADDRESS` of who may connect. The two
proxies don't know of each other: where this one can't run, domains are routed all the same, and what was wanted of
it last is taken for true until it answers again.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

from router.base import Router, RouterError
from router.runtime_api import NotRunning
from router.types import Inner, Pool, Table, Target

log = logging.getLogger(__name__)

NOWHERE = "127.0.0.1"
"""Stands for the address where none is needed: to end a proxy, which is found by what it left in its folder."""
NOBODY = ""
"""The group of an address that was given back."""
RETRY, LONGEST_RETRY = 1.0, 60.0
"""Seconds until a proxy that failed is tried again: doubled each time, up to the second."""
LIMIT = 5.0
"""Seconds that it may take for anything: whatever it does, domains are to be routed meanwhile."""

Leads = Mapping[str, Pool]
"""By their names."""
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
        self._leads: dict[str, Leads] = {}
        """Pool to what the inner one does for it, as of the last look or change."""
        self._wanted: dict[str, frozenset[Inner]] = {}
        """Pool to what was asked for last."""
        self._refused: dict[str, str] = {}
        """Pool to why the inner one did not take it, until something else is wanted of it."""
        self._admitted: dict[str, str] = {}
        """Address to group."""
        self._changed: set[str] = set()
        """Pools that look different since the last look that was told of."""
        self._cursor = ""
        self._looks = 0
        self._within = ""
        """The inner one's own cursor."""
        self._failure: str | None = None
        """Why the inner one can't be asked now."""
        self._told_failing = False
        """Whether the last look that was told of had a failure in its place."""
        self._retry_at = 0.0
        self._pause = RETRY

    @property
    def problem(self) -> str | None:
        """Why there are no inner ports now, or not all, for people; None: there are, or nobody needs any."""
        said = (self._failure,) if self._failure is not None else tuple(sorted(self._refused.values()))
        return (
            f"Apps can't reach each other at their inner ports (expose): {'; '.join(said)}" if said else None
        )

    async def start(self) -> None:
        await self._outer.start()

    async def close(self) -> None:
        try:
            await self._outer.close()
        finally:
            if self._inner is not None:
                await self._inner.close()

    async def shutdown(self) -> None:
        try:
            await self._outer.shutdown()
        finally:
            if self._begun() or self._inner is not None:
                await (self._inner or self._make(NOWHERE)).shutdown()

    async def inner_address(self) -> str:
        async with self._lock:
            if not self._rests():
                await self._attempt(_nothing)
            if self._failure is not None:
                raise RouterError(self._failure)
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
            self._note_wanted(given, [name for name in self._wanted if name not in wanted])
            if (self._wanted or self._leads or self._begun()) and not self._rests():
                await self._attempt(lambda inner: self._apply_within(inner, wanted))

    async def change(self, pools: Iterable[Pool], *, gone: Iterable[str] = ()) -> None:
        changed, left = list(pools), list(gone)
        await self._outer.change(map(_plain, changed), gone=left)
        touched = {*left, *(each.name for each in changed)}
        async with self._lock:
            self._note_wanted(changed, left)
            needed = any(each.inner for each in changed) or not self._leads.keys().isdisjoint(touched)
            if needed and not self._rests():
                await self._attempt(lambda inner: self._change_within(inner, changed, left))

    def _note_wanted(self, changed: Iterable[Pool], left: Iterable[str]) -> None:
        """What is taken for true where it can't be seen."""
        wanted = {each.name: each.inner for each in changed} | dict.fromkeys(left, frozenset[Inner]())
        for name, inner in wanted.items():
            before = self._wanted.pop(name, frozenset())
            if inner:
                self._wanted[name] = inner
            if self._refused.pop(name, None) is not None or inner != before:
                self._changed.add(name)

    async def table(self, *, after: str = "") -> Table:
        async with self._lock:
            known = after != "" and after == self._cursor
            if not known:
                self._within = ""
            outer = await self._outer.table(after=after.partition("|")[0] if known else "")
            self._take(outer)
            within = None
            needed = bool(self._wanted) or self._inner is not None or self._begun()
            if needed and not self._rests():
                within = await self._attempt(self._look_within)
            failing = self._failure is not None
            complete = outer.complete or not known or failing != self._told_failing
            names = {*self._pools, *self._leads} if complete else self._changed
            joined = {name: self._joined(name) for name in names}
            self._changed, self._told_failing = set(), failing
            self._looks += 1
            self._cursor = f"{outer.cursor}|{self._looks}" if outer.cursor else ""
            return Table(
                {name: pool for name, pool in joined.items() if pool is not None},
                {**outer.draining, **_drained(within or Table(), outer)},
                self._cursor,
                complete=complete,
                gone=frozenset(name for name, pool in joined.items() if pool is None and not complete),
            )

    # Who may connect

    async def admit(self, group: str, address: str) -> None:
        async with self._lock:
            self._admitted[address] = group
            await self._follow(address)

    async def dismiss(self, address: str) -> None:
        async with self._lock:
            self._admitted[address] = NOBODY
            await self._follow(address)

    async def _follow(self, address: str) -> None:
        """Let the inner proxy know whose that address is. It may learn later that it is let in somewhere, but not that
        it is let in no more: that is tried at once, and raises RouterError where it fails."""
        group = self._admitted[address]
        due, closing = dict[str, dict[str, Pool]](), False
        for name, leads in self._leads.items():
            for lead in leads.values():
                inner = _read(lead)[1]
                entry = frozenset({f"{inner.port}-{address}"})
                is_in, should = bool(entry & lead.domains), inner.group == group
                if is_in != should:
                    closing |= is_in
                    domains = lead.domains | entry if should else lead.domains - entry
                    due.setdefault(name, {})[lead.name] = replace(lead, domains=domains)
        if due and (closing or not self._rests()):
            await self._attempt(lambda proxy: self._take_clients(proxy, due))
            if closing and self._failure is not None:
                raise RouterError(self._failure)

    async def _take_clients(self, inner: Router, due: Mapping[str, Leads]) -> None:
        await inner.change([each for leads in due.values() for each in leads.values()])
        for name, leads in due.items():
            self._leads[name] = {**self._leads[name], **leads}

    def _clients(self, inner: Inner, before: Iterable[str]) -> frozenset[str]:
        """Who may connect: the machine itself, who was admitted, and who was before this server began, unless that is
        known to be somebody else by now."""
        admitted = (address for address, group in self._admitted.items() if group == inner.group)
        unknown = (each for each in before if each.partition("-")[2] not in self._admitted)
        return frozenset(
            (f"{inner.port}-{self._own}", *(f"{inner.port}-{each}" for each in admitted), *unknown)
        )

    # Acting on the inner proxy

    async def _remove_within(self, inner: Router, target: str) -> None:
        for each in (await self._look_within(inner)).draining:
            if _outer_id(each) == target:
                await inner.remove(each)

    async def _apply_within(self, inner: Router, wanted: Mapping[str, Pool]) -> None:
        await self._look_within(inner)
        gone = [name for name in self._leads if name not in wanted]
        await self._change_within(inner, list(wanted.values()), gone)

    async def _change_within(self, inner: Router, changed: Sequence[Pool], left: Sequence[str]) -> None:
        """All at once, else one by one: what it does not take of one pool is no matter of the others."""
        if not self._within:
            await self._look_within(inner)
        due = {each.name: self._due(each) for each in changed} | {name: {} for name in left}
        try:
            await self._set_within(inner, due)
        except NotRunning:
            raise
        except RouterError as error:
            if len(due) == 1:
                self._refused[next(iter(due))] = str(error)
                return
            await self._look_within(inner)
            for name, leads in due.items():
                try:
                    await self._set_within(inner, {name: leads})
                except NotRunning:
                    raise
                except RouterError as refusal:
                    self._refused[name] = str(refusal)

    async def _set_within(self, inner: Router, due: Mapping[str, Leads]) -> None:
        kept = {name for leads in due.values() for name in leads}
        before = {lead for name in due for lead in self._leads.get(name, {})}
        changes = [each for leads in due.values() for each in leads.values()]
        await inner.change(changes, gone=sorted(before - kept))
        for name, leads in due.items():
            self._leads.pop(name, None)
            if leads:
                self._leads[name] = leads

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
        touched = {_pool_of(name) for name in (*table.gone, *table.pools)}
        if table.complete:
            touched |= self._leads.keys()
            self._leads = {}
        for name in table.gone:
            leads = self._leads.get(_pool_of(name), {})
            self._leads[_pool_of(name)] = {lead: each for lead, each in leads.items() if lead != name}
        for name, each in table.pools.items():
            self._leads[_pool_of(name)] = {**self._leads.get(_pool_of(name), {}), name: each}
        for name in touched:
            leads = self._leads.get(name, {})
            if not leads:
                self._leads.pop(name, None)
            elif name not in self._wanted:
                self._wanted[name] = frozenset(_read(each)[1] for each in leads.values())
        self._changed |= touched
        self._within = table.cursor
        return table

    def _joined(self, name: str) -> Pool | None:
        """What both do for that pool. One that only the inner one knows shows that there is something to undo."""
        pool = self._pools.get(name)
        leads = self._leads.get(name, {})
        if self._failure is not None or name in self._refused:
            return pool and replace(pool, inner=self._wanted.get(name, frozenset()))
        if pool is None:
            is_left = frozenset(_read(each)[1] for each in leads.values())
            return Pool(name, frozenset(), frozenset(), inner=is_left) if leads else None
        if not leads:
            return pool
        found = {_read(each)[1]: each for each in leads.values()}
        due = self._due(replace(pool, inner=frozenset(found)))
        return replace(pool, inner=frozenset(each for each, now in found.items() if now == due[now.name]))

    def _due(self, pool: Pool) -> Leads:
        known = self._leads.get(pool.name, {})
        found = dict[str, Pool]()
        for each in pool.inner:
            name = _name(pool.name, each)
            before = known[name].domains if name in known else frozenset()
            found[name] = Pool(name, self._clients(each, before), _targets(pool, each))
        return found

    # The inner proxy

    async def _attempt(self, act: Callable[[Router], Awaitable[T]]) -> T | None:
        """What comes of it, once the proxy runs. That it fails is kept as the problem."""
        try:
            async with asyncio.timeout(LIMIT):
                done = await act(await self._started())
        except (RouterError, TimeoutError) as error:
            self._note_failure(str(error) or f"their proxy does not answer within {LIMIT:g} s.")
            return None
        self._failure, self._pause = None, RETRY
        return done

    def _note_failure(self, why: str) -> None:
        if self._failure is None:
            log.warning("inner ports=none reason=%s", why)
        self._failure = why
        self._retry_at = time.monotonic() + self._pause
        self._pause = min(2 * self._pause, LONGEST_RETRY)
        self._within = ""

    def _rests(self) -> bool:
        """Whether it failed just now."""
        return self._failure is not None and time.monotonic() < self._retry_at

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


async def _nothing(_: Router) -> None:
    """It runs: that is all."""


def _plain(pool: Pool) -> Pool:
    return replace(pool, inner=frozenset()) if pool.inner else pool


def _name(pool: str, inner: Inner) -> str:
    kind = "all" if inner.leads is None else "some"
    return f"{pool}/{inner.port}.{kind}.{inner.group}"


def _pool_of(name: str) -> str:
    return name.rpartition("/")[0]


def _read(lead: Pool) -> tuple[str, Inner]:
    """The pool that it is of, and what it does."""
    pool, _, words = lead.name.rpartition("/")
    port, kind, group = words.split(".", 2)
    leads = frozenset((_outer_id(each.id), each.port) for each in lead.targets) if kind == "some" else None
    return pool, Inner(int(port), group, leads)


def _targets(pool: Pool, inner: Inner) -> frozenset[Target]:
    ports = None if inner.leads is None else dict(inner.leads)
    return frozenset(
        Target(f"{each.id}.{inner.port}", each.address, each.port if ports is None else ports[each.id])
        for each in pool.targets
        if ports is None or each.id in ports
    )


def _outer_id(target: str) -> str:
    return target.rpartition(".")[0]


def _drained(within: Table, outer: Table) -> Mapping[str, int]:
    found = dict[str, int]()
    for target, connections in within.draining.items():
        name = _outer_id(target)
        found[name] = found.get(name, outer.draining.get(name, 0)) + connections
    return found
