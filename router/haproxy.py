"""Routes with HAProxy: a process that we start, adopt and mend, changed through its Runtime API.

A table is a host map that leads to backends made ahead ("slots"), and servers that are added to them,
drained and deleted. HAProxy itself is asked what the table is; what was learned is kept and updated
for as long as the same process answers, so that a change costs its own commands and no more.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from router.access import AccessBatch, AccessLogs
from router.base import RouterError
from router.diff import AddPool, Step, checked, find_steps, touched
from router.haproxy_commands import perform
from router.haproxy_config import HaproxyConfig, Identity
from router.haproxy_process import HaproxyProcess, parse_info
from router.haproxy_table import (
    GUARDS,
    HOSTS,
    MAINTENANCE,
    NAMES,
    WILDCARDS,
    Layout,
    LiveTable,
    Slot,
    parse_live_table,
    parse_requests_in_work,
)
from router.model import TableModel
from router.runtime_api import Command, NotRunning, Session
from router.types import Pool, Table

log = logging.getLogger(__name__)

Result = TypeVar("Result")


class HaproxyRouter:
    """Obeys the contract of `router.base.Router` with HAProxy 2.6 or newer.

    `folder` is ours alone: configuration, sockets, log, process id. `host` and `port` are where HAProxy
    listens; port 0 is refused, because a restart must find the same one again. `time_limit`: seconds for
    each answer of the Runtime API. `spare_pools`: pools that can be added before a reload makes room for
    more. `write_delay`: seconds in which changes are gathered before the configuration on disk follows.
    `access_logs`: what `take_access` tells of. `ports`, `template` and `setting`: see `HaproxyConfig`.
    """

    def __init__(
        self,
        *,
        folder: Path,
        host: str,
        port: int,
        time_limit: float = 5.0,
        spare_pools: int = 64,
        write_delay: float = 0.5,
        access_logs: AccessLogs = AccessLogs.OFF,
        ports: int = 1,
        template: str = "haproxy.cfg.j2",
        setting: str = "--http",
    ) -> None:
        self._config = HaproxyConfig(
            folder.absolute(),
            host,
            port,
            access_logs=access_logs,
            ports=ports,
            template=template,
            setting=setting,
        )
        self._process = HaproxyProcess(self._config, time_limit=time_limit)
        self._time_limit = time_limit
        self._spare_pools = spare_pools
        self._write_delay = write_delay
        self._busy = asyncio.Lock()
        self._live: LiveTable | None = None
        self._serving: tuple[int, Identity | None] | None = None
        """The process that `_live` was learned from; None when it must be learned again."""
        self._disk = asyncio.Lock()
        self._unwritten = False
        self._write_took = 0.0
        """Seconds that the last write took."""
        self._write_later: asyncio.TimerHandle | None = None
        self._writers: set[asyncio.Task[None]] = set()
        self._taking = asyncio.Lock()

    async def start(self) -> None:
        async with self._busy:
            await self._healing(self._ensure_serving)

    async def table(self, *, after: str = "") -> Table:
        async with self._busy:
            return await self._healing(lambda: self._table(after))

    async def apply(self, pools: Iterable[Pool]) -> None:
        given = tuple(pools)
        async with self._busy:
            await self._healing(lambda: self._apply(given))

    async def change(self, pools: Iterable[Pool], *, gone: Iterable[str] = ()) -> None:
        given, left = tuple(pools), tuple(gone)
        async with self._busy:
            await self._healing(lambda: self._change(given, left))

    async def remove(self, target: str) -> None:
        async with self._busy:
            await self._healing(lambda: self._remove(target))

    async def close(self) -> None:
        async with self._busy:
            await self._finish_writes()
            if self._unwritten and self._live is not None:
                await self._write(self._live.layout())
            self._unwritten = False
            self._serving = None
        async with self._taking:
            self._process.access.close()

    async def take_access(self, *, most: int) -> AccessBatch:
        async with self._taking:
            try:
                batch, was_full = await asyncio.to_thread(self._process.access.take, most=most)
                if was_full:
                    pid, dropped = await self._process.dropped_logs()
                    batch = replace(batch, lost=self._process.access.note_dropped(pid, dropped))
            except OSError as error:
                raise RouterError(f"HAProxy's access log can't be read: {error}.") from error
            except NotRunning:
                pass  # it took its count with it
            return batch

    async def shutdown(self) -> None:
        async with self._busy:
            await self._finish_writes()
            await self._process.shutdown()
            self._unwritten = False
            self._serving = self._live = None

    # Changing the table

    async def _apply(self, pools: Sequence[Pool]) -> None:
        async with self._session() as session:
            live = await self._known(session)
            wanted = checked(pools, known=live.known)
            await self._take_steps(session, live, find_steps(live.known, wanted))

    async def _change(self, pools: Sequence[Pool], gone: Sequence[str]) -> None:
        async with self._session() as session:
            live = await self._known(session)
            wanted = checked(pools, known=live.known, owners=live.owners)
            await self._take_steps(session, live, find_steps(touched(live.known, wanted, gone), wanted))

    async def _take_steps(self, session: Session, live: LiveTable, steps: Sequence[Step]) -> None:
        if not steps:
            return
        new = sum(isinstance(step, AddPool) for step in steps)
        free = live.free_slots() if new else []
        if new > len(free):
            wanted = TableModel(live.known)
            wanted.take(steps)
            slots = len(wanted.pools) + max(self._spare_pools, len(wanted.pools) // 4)
            log.info("haproxy=reload slots=%d reason=no-free-slot", slots)
            await self._reload(live.layout_for(wanted.pools, slots=slots))
            return
        with self._learning_after_failure():
            await perform(session, live, steps, free)
        self._write_soon()

    async def _reload(self, layout: Layout) -> None:
        """The whole table in one seamless reload. What targets that leave still do, the old worker finishes."""
        self._serving = None
        await self._finish_writes()
        self._unwritten = False
        identity = await self._write(layout)
        try:
            await self._process.reload(identity)
        except RouterError:
            # What is on disk must be what serves: the next write puts it right.
            self._write_soon()
            raise
        self._live = LiveTable.serving(layout)
        self._serving = await self._process.find_identity()

    async def _remove(self, target: str) -> None:
        async with self._session() as session:
            live = await self._known(session)
            for slot in list(live.emptying.values()):
                if target in slot.leaving:
                    with self._learning_after_failure():
                        await self._delete_server(session, slot, target)
                    live.left(slot, target)
        if target not in live.owners:
            await self._cut_in_old_workers(target)

    async def _delete_server(self, session: Session, slot: Slot, target: str) -> None:
        server = f"{slot.name}/{target}"
        await session.tell(
            [Command(f"set server {server} state maint"), Command(f"shutdown sessions server {server}")]
        )
        deadline = asyncio.get_running_loop().time() + self._time_limit
        while True:
            answer = await session.ask(f"del server {server}")
            if answer.startswith(("Server deleted", "No such server")):
                break
            # Its connections take a moment to be closed.
            if asyncio.get_running_loop().time() > deadline:
                raise RouterError(f"HAProxy answered 'del server {server}' with {answer!r}.")
            await asyncio.sleep(0.005)

    async def _cut_in_old_workers(self, target: str) -> None:
        for pid in await self._process.old_workers():
            for line in (await self._process.ask_old_worker(pid, "show sess") or "").splitlines():
                reference, _, facts = line.partition(": ")
                if f" srv={target} " in facts:
                    await self._process.ask_old_worker(pid, f"shutdown session {reference}")

    # Learning what HAProxy does

    async def _table(self, after: str) -> Table:
        async with self._session() as session:
            live = await self._known(session) if after else None
            changed = live.changes.since(after) if live else None
            if live is None or changed is None:
                live = await self._learn(session)
            self._process.bound_log()
            if self._unwritten:
                self._write_soon()
            draining = await self._draining(session, live)
        if changed is None:
            return Table(dict(live.known), draining, live.changes.cursor)
        pools = {name: live.known[name] for name in changed if name in live.known}
        gone = frozenset(changed) - pools.keys()
        return Table(pools, draining, live.changes.cursor, complete=False, gone=gone)

    async def _draining(self, session: Session, live: LiveTable) -> Mapping[str, int]:
        found: dict[str, int] = {}
        for slot in live.emptying.values():
            used = parse_requests_in_work(await session.ask(f"show servers conn {slot.name}"))
            for target in slot.leaving:
                found[target] = found.get(target, 0) + used.get(target, 0)
        for pid in await self._process.old_workers():
            answer = await self._process.ask_old_worker(pid, "show servers conn")
            for target, requests in parse_requests_in_work(answer).items() if answer else ():
                if requests and target not in live.owners:
                    found[target] = found.get(target, 0) + requests
        return found

    async def _known(self, session: Session) -> LiveTable:
        """What was learned of this very process, else what it says now."""
        if self._live is not None and self._serving is not None:
            return self._live
        return await self._learn(session)

    async def _learn(self, session: Session) -> LiveTable:
        pid, identity = parse_info(await session.ask("show info"))
        if identity is None:
            raise NotRunning("The HAProxy that answers is ending, or is not ours.")
        self._live = parse_live_table(
            identity.slots,
            names=await session.ask(f"show map {NAMES}"),
            hosts=await session.ask(f"show map {HOSTS}"),
            wildcards=await session.ask(f"show map {WILDCARDS}"),
            maintenance=await session.ask(f"show map {MAINTENANCE}"),
            guards=await self._show_guards(session, identity),
            servers=await session.ask("show servers state"),
        )
        self._serving = (pid, identity)
        return self._live

    async def _show_guards(self, session: Session, identity: Identity) -> str:
        if identity.fingerprint != self._config.fingerprint and GUARDS not in await session.ask("show map"):
            return ""  # an older release started it
        return await session.ask(f"show map {GUARDS}")

    @contextlib.contextmanager
    def _learning_after_failure(self) -> Iterator[None]:
        """What breaks off in here leaves us not knowing what was done: HAProxy is asked again next time."""
        serving, self._serving = self._serving, None
        yield
        self._serving = serving

    # The process

    async def _healing(self, act: Callable[[], Awaitable[Result]]) -> Result:
        """Once more when HAProxy went away meanwhile: every session begins by making sure that it runs."""
        try:
            try:
                return await act()
            except NotRunning as error:
                log.warning("haproxy=gone reason=%s", error)
                return await act()
        except OSError as error:
            raise RouterError(f"HAProxy's folder {self._config.folder} can't be used: {error}.") from error

    @contextlib.asynccontextmanager
    async def _session(self) -> AsyncIterator[Session]:
        """A connection to an HAProxy that serves with our settings; one that is missing is started first."""
        await self._ensure_serving()
        async with self._process.runtime.session() as session:
            yield session

    async def _ensure_serving(self) -> None:
        found = await self._process.find_identity()
        if found is None or found[1] is None or self._process.has_lost_master():
            await self._start_process()
            found = await self._process.find_identity()
        if found is None or found[1] is None:
            raise NotRunning("HAProxy ended as soon as it was started.")
        if found != self._serving:
            self._serving = None
        self._note_pipe()
        if found[1].fingerprint != self._config.fingerprint:
            log.info("haproxy=reload reason=settings-changed")
            async with self._process.runtime.session() as session:
                await self._reload((await self._learn(session)).layout())

    def _note_pipe(self) -> None:
        piped = self._process.is_piped()
        if self._config.piped and not piped and self._config.access_logs is not AccessLogs.OFF:
            log.warning(
                "haproxy=adopted access-logs=off reason=an older release started it; its next start has them"
            )
        self._config.piped = piped
        self._process.access.hold()

    async def _start_process(self) -> None:
        self._serving = None
        self._config.piped = True
        if self._live is not None:
            self._unwritten = False
            identity = await self._write(self._live.layout())
        elif (older := await asyncio.to_thread(self._config.find_older_layout)) is not None:
            log.info("haproxy=start targets=none reason=the table on disk is of an earlier boot")
            identity = await self._write(older)
        else:
            identity = self._config.find_written() or await self._write(Layout(self._spare_pools))
        log.info("haproxy=start listen=%s slots=%d", self._config.listen, identity.slots)
        try:
            await self._process.start(identity)
        except RouterError:
            if identity.fingerprint == self._config.fingerprint:
                raise
            # Other settings wrote it, maybe a port that is no longer ours; the table is applied anew anyhow.
            log.warning("haproxy=start configuration=unusable action=begin-empty", exc_info=True)
            await self._process.start(await self._write(Layout(self._spare_pools)))

    # The configuration on disk

    def _write_soon(self) -> None:
        """Let the disk follow, once for all changes of the next moments."""
        self._unwritten = True
        if self._write_later is None:
            # A large table takes long to write: never more than a tenth of the time goes into that.
            delay = max(self._write_delay, 10 * self._write_took)
            self._write_later = asyncio.get_running_loop().call_later(delay, self._begin_write)

    def _begin_write(self) -> None:
        self._write_later = None
        if self._unwritten and self._live is not None:
            self._unwritten = False
            task = asyncio.create_task(self._attempt_write(self._live.layout()))
            self._writers.add(task)
            task.add_done_callback(self._writers.discard)

    async def _attempt_write(self, layout: Layout) -> None:
        try:
            await self._write(layout)
        except RouterError:
            # HAProxy serves the right table all the same; the next change or `table()` tries again.
            log.exception("haproxy=write folder=%s", self._config.folder)

    async def _finish_writes(self) -> None:
        if self._write_later is not None:
            self._write_later.cancel()
            self._write_later = None
        await asyncio.gather(*self._writers)

    async def _write(self, layout: Layout) -> Identity:
        # In turn: an older table never ends up above a newer one.
        async with self._disk:
            began = time.monotonic()
            try:
                return await asyncio.to_thread(self._config.write, layout)
            except OSError as error:
                self._unwritten = True
                raise RouterError(f"HAProxy's configuration can't be written: {error}.") from error
            finally:
                self._write_took = time.monotonic() - began
