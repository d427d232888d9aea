"""The typed view of the store that operations and the reconcile loop share.

`State` holds an immutable mirror of everything in memory. Reading it is synchronous and cheap; what
it returns never changes under the reader. Writing goes through `commit` (or `transact`), which is
applied to the mirror before it returns; changes made by other processes arrive by a watch.

    service = state.service("foo", "app")
    await state.commit(put(replace(service, stopped=True)), events=[EventDraft(kind="service.stopped", …)])

A read, a decision and a `commit` with no `await` in between is atomic: when somebody else was
faster, StoreConflict is raised and nothing is written. `transact` wraps that in a retry.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Self
from weakref import WeakSet

from controller.bell import Bell
from controller.following import Changes, Events
from controller.mirror import Mirror, Record, domain_key, event_key, key_of
from controller.names import Address
from controller.store.base import (
    Change,
    Compacted,
    Entry,
    Json,
    Store,
    StoreConflict,
    StoreError,
    StoreUnusable,
    Write,
)
from controller.store.copy import UNFINISHED_KEY
from controller.types import Event, Service
from controller.vault import Codec, Plain
from controller.wire import WireError, decode, encode, to_json

SCHEMA = 4
"""Of the values below the keys; raised when older code could no longer read them, or would take them for more than
they are. 2: config may be sealed. 3: tokens may be narrowed and expire, builds queued,
versions cancelled. 4: domains may ask for a password, which older releases would not."""
SCHEMA_KEY = "meta/schema"
JOURNAL_LIMIT = 5_000
JOURNAL_TRIM = 100
"""The journal is trimmed this many at a time (and so no transaction gets long)."""
SEALED_AT_ONCE = 100
SEALED_SIZE = 512 * 1024
"""Records, and about how many bytes of them, that are sealed anew in one transaction: etcd takes 1.5 MiB."""
ATTEMPTS = 10
CATCH_UP = 5.0
"""Seconds that a change made by another process may take to arrive by the watch."""
RETRY = 1.0
"""Seconds between attempts to reach a store that does not answer."""

_along: ContextVar[list[Write]] = ContextVar("along", default=[])  # noqa: B039  (the default stays empty)
"""What the next transaction of this task takes along."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Put:
    """Write this record, new or over the one of the same name."""

    record: Record


@dataclass(frozen=True)
class Delete:
    """Forget this record; harmless when it is gone already."""

    record: Record


@dataclass(frozen=True, kw_only=True)
class EventDraft:
    """A journal entry before it has its time and revision. Fields as in `Event`."""

    kind: str
    deployment: str = ""
    service: str = ""
    actor: str = ""
    text: str = ""
    data: Mapping[str, Any] = field(default_factory=dict)


def put(record: Record) -> Put:
    """A step that writes `record`."""
    return Put(record)


def delete(record: Record) -> Delete:
    """A step that forgets `record`."""
    return Delete(record)


class State(Mirror):
    """Made by `await State.open(store)`; used from one event loop. Reading is `Mirror`'s."""

    def __init__(
        self, store: Store, *, codec: Codec, clock: Callable[[], datetime], journal_limit: int
    ) -> None:
        super().__init__()
        self._store = store
        self._codec = codec
        self._clock = clock
        self._journal_limit = journal_limit
        self._writing = asyncio.Lock()
        self._next_event = 1
        self._deleted: dict[str, int] = {}
        """Own deletions that the watch has not told yet: it may still tell older changes of the key."""
        self._subscriptions = WeakSet[Changes]()
        self._bell = Bell()
        self._problem: str | None = None
        self._follower: asyncio.Task[None] | None = None

    @classmethod
    async def open(
        cls,
        store: Store,
        *,
        codec: Codec | None = None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        journal_limit: int = JOURNAL_LIMIT,
    ) -> Self:
        """Read everything and follow the store from there. Raises StoreUnavailable.

        `codec` seals what is secret on its way to the store (`vault.open_vault`); None: nothing is sealed.

        The store stays the caller's: `close` does not close it.
        """
        state = cls(store, codec=codec or Plain(), clock=clock, journal_limit=journal_limit)
        is_older = await state._check_schema()
        if is_older:
            # First of all an older release must no longer take what is sealed for variables.
            await store.put(SCHEMA_KEY, {"version": SCHEMA, "sealing": True})
            await state.seal_anew()
            await store.put(SCHEMA_KEY, {"version": SCHEMA})
        revision = await state._reload()
        if state._problem is not None:
            raise StoreUnusable(state._problem)
        state._follower = asyncio.create_task(state._follow(revision), name="state watch")
        return state

    async def close(self) -> None:
        """Stop following; iterators of `changes` and `follow_events` end."""
        if self._follower is not None:
            self._follower.cancel()
            await asyncio.gather(self._follower, return_exceptions=True)
        for subscription in self._subscriptions:
            subscription.close()
        self._bell.close()

    @property
    def problem(self) -> str | None:
        """Why the mirror may be behind the store, in words; None while it is followed."""
        return self._problem

    # Writing

    def commit(
        self, *steps: Put | Delete, events: Sequence[EventDraft] = ()
    ) -> Coroutine[Any, Any, Sequence[Event]]:
        """Write all steps and events or nothing; return the events as they were written.

        Each step expects the record as the mirror has it at this call (a new one: that none exists).
        A service's domains are claimed with it: two services never get the same one. Raises
        StoreConflict when somebody else was faster, StoreUnavailable when the outcome is not known
        (the mirror follows whatever it was).
        """
        # No `async def`: what the steps expect is what the mirror has now, not when somebody awaits.
        return self._commit(self._writes(steps), events)

    async def _commit(self, writes: Sequence[Write], drafts: Sequence[EventDraft]) -> Sequence[Event]:
        async with self._writing:
            return await self._write(writes, drafts)

    async def transact(self, decide: Callable[[], Iterable[Put | Delete | EventDraft]]) -> Sequence[Event]:
        """`commit` what `decide` gives; decide again when somebody else was faster.

        `decide` reads the mirror and returns (or yields) steps and events; what it raises goes to the
        caller and nothing is written. No other commit of this process is under way while it runs,
        so it may also check across records (a free user id, a free name). No steps: nothing is written.
        """
        async with self._writing:
            for attempt in range(1, ATTEMPTS + 1):
                decided = list(decide())
                steps = [each for each in decided if not isinstance(each, EventDraft)]
                drafts = [each for each in decided if isinstance(each, EventDraft)]
                try:
                    return await self._write(self._writes(steps), drafts)
                except StoreConflict as conflict:
                    if attempt == ATTEMPTS or not await self._caught_up(conflict):
                        raise
        raise AssertionError("the last attempt returns or raises")

    @contextmanager
    def along(self, record: Record) -> Iterator[None]:
        """Within the block the first transaction takes `record` along, which is new, or written over as it is now.

        That is so for what the current task writes, through whatever calls. Nothing written: not the record either.
        Raises StoreConflict (from the transaction) when somebody else has written the record since.
        """
        kept = self._kept(key_of(record))
        waiting = [Write(key_of(record), _checked(record), 0 if kept is None else kept.revision)]
        token = _along.set(waiting)
        try:
            yield
        finally:
            waiting.clear()  # tasks that were started within know the same list
            _along.reset(token)

    def _writes(self, steps: Iterable[Put | Delete]) -> Sequence[Write]:
        writes = list[Write]()
        freed, claimed = set[str](), dict[str, Address]()
        for step in steps:
            key = key_of(step.record)
            kept = self._kept(key)
            new = step.record if isinstance(step, Put) else None
            writes.append(
                Write(key, None if new is None else _checked(new), 0 if kept is None else kept.revision)
            )
            before, after = _domains(None if kept is None else kept.record), _domains(new)
            freed |= before.keys() - after.keys()
            for domain in after.keys() - before.keys():
                if domain in claimed:
                    raise ValueError(f"{domain} is given to two services in one commit")
                claimed[domain] = after[domain]
        for domain in sorted(freed | claimed.keys()):
            # What nobody frees here must be free: the store refuses to take it from its owner.
            kept = self._kept(domain_key(domain)) if domain in freed else None
            owner = to_json(claimed[domain]) if domain in claimed else None
            writes.append(Write(domain_key(domain), owner, 0 if kept is None else kept.revision))
        return writes

    async def _write(self, writes: Sequence[Write], drafts: Sequence[EventDraft]) -> Sequence[Event]:
        if not writes and not drafts:
            return ()
        along = _along.get()
        while True:
            events = self._numbered(drafts)
            journal = [Write(event_key(each.revision), _checked(each), 0) for each in events]
            every = [*writes, *along, *journal, *self._trimming()]
            try:
                # Sealed as late as this, so that no write with an old key follows a rotation.
                revision = await self._store.commit([self._sealed(each) for each in every])
            except StoreConflict as conflict:
                if not conflict.key.startswith("events/"):
                    raise
                # Another process has written events that the watch has not told yet: go on behind them.
                self._next_event = max(self._next_event, int(conflict.key.partition("/")[2]) + 1)
                continue
            if along:
                along.clear()
            self._take([Change(each.key, each.value, revision) for each in every], own=True)
            return events

    def _sealed(self, write: Write) -> Write:
        if write.value is None:
            return write
        return Write(write.key, self._codec.seal(write.key, write.value), write.expect)

    def _numbered(self, drafts: Sequence[EventDraft]) -> Sequence[Event]:
        first = max(self._next_event, self.last_event + 1)
        return [
            Event(
                revision=number,
                time=self._clock(),
                kind=draft.kind,
                deployment=draft.deployment,
                service=draft.service,
                actor=draft.actor,
                text=draft.text,
                data=draft.data,
            )
            for number, draft in enumerate(drafts, first)
        ]

    def _trimming(self) -> Sequence[Write]:
        surplus = len(self._journal) - self._journal_limit
        if surplus < JOURNAL_TRIM:
            return ()
        return [Write(event_key(each.revision), None) for each in self._journal.oldest(JOURNAL_TRIM)]

    # Following

    def changes(self) -> Changes:
        """Sets of (deployment, service) whose service, versions or builds changed, until `close`.

        A change of the deployment itself is told as (deployment, ""). Changes since this call are
        collected while nobody waits, so a slow reader gets one larger set. Journal entries, users,
        keys and tokens don't show here. Waiting for the next set may be cancelled and resumed.
        """
        changes = Changes()
        self._subscriptions.add(changes)
        if self._bell.closed:
            changes.close()
        return changes

    def follow_events(
        self, deployment: str | None = None, service: str | None = None, *, after: int | None = None
    ) -> AsyncIterator[Event]:
        """Events with a revision above `after` (None: from now on), in order, until `close`.

        Where the journal was trimmed before they were read, an event of the kind `journal.trimmed` stands for
        those that are missing. Waiting for the
        next event may be cancelled and resumed.
        """
        return Events(self, self._bell, deployment, service, self.last_event if after is None else after)

    async def _check_schema(self) -> bool:
        """Whether its values must be brought up to date."""
        if await self._store.get(UNFINISHED_KEY) is not None:
            raise StoreUnusable(
                "The store holds a copy that was broken off. Repeat `moor store:copy` with --force, or start "
                "with the store that was copied from."
            )
        entry = await self._store.get(SCHEMA_KEY)
        if entry is None:
            try:
                await self._store.put(SCHEMA_KEY, {"version": SCHEMA}, expect=0)
            except StoreConflict:
                return await self._check_schema()
        elif entry.value["version"] > SCHEMA:
            raise StoreUnusable(
                f"The state was written by a newer release of Mooring (schema {entry.value['version']}, "
                f"this one knows {SCHEMA}). Start that release, or restore a backup from before it."
            )
        else:
            return bool(entry.value["version"] < SCHEMA or entry.value.get("sealing"))
        return False

    async def seal_anew(self) -> None:
        """Seal all that is plain or sealed with an older key, in transactions of bounded size.

        Others may write meanwhile. Broken off at any point it leaves everything readable, and can be repeated.
        """
        while True:
            async with self._writing:  # what is being written now may have an old key
                entries, _ = await self._store.list("")
            stale = [each for each in entries if self._codec.stale(each.key, each.value)]
            if not stale:
                return
            for batch in _batches(stale):
                writes = [
                    Write(
                        each.key,
                        self._codec.seal(each.key, self._codec.open(each.key, each.value)),
                        each.revision,
                    )
                    for each in batch
                ]
                with suppress(StoreConflict):  # somebody has written one of them: looked at again
                    async with self._writing:
                        revision = await self._store.commit(writes)
                        self._take([Change(each.key, each.value, revision) for each in writes], own=True)

    async def _follow(self, revision: int | None) -> None:
        while True:
            try:
                if revision is None:
                    revision = await self._reload()
                async for change in self._store.watch("", after=revision):
                    self._take([change])
                self._problem = "The store was closed."
                return  # noqa: TRY300 - else would part the two ways that a watch ends
            except Compacted:
                log.warning("store_watch_compacted: reading everything again")
            except Exception as error:  # whatever it is, the mirror must not grow old unnoticed
                self._problem = f"The store can't be followed: {error}"
                log.warning(
                    "store_watch_failed error=%r", str(error), exc_info=not isinstance(error, StoreError)
                )
                await asyncio.sleep(RETRY)
            revision = None

    async def _reload(self) -> int:
        """Make the mirror equal to the store; the revision at which it is."""
        entries, revision = await self._store.list("")
        present = {entry.key for entry in entries}
        gone = [key for key in self._kept_keys() if key not in present]
        self._problem = None
        self._take(Change(key, None, revision) for key in gone)
        self._take(Change(entry.key, entry.value, entry.revision) for entry in entries)
        self._deleted = {key: at for key, at in self._deleted.items() if at > revision}
        return revision

    def _take(self, changes: Iterable[Change], *, own: bool = False) -> None:
        """Apply what is newer than the mirror. What can't be read is said, and leaves the old record."""
        touched = set[tuple[str, str]]()
        for change in changes:
            if change.revision > max(self._revision(change.key), self._deleted.get(change.key, 0)):
                if own and change.value is None and self._revision(change.key):
                    self._deleted[change.key] = change.revision
                try:
                    value = self._codec.open(change.key, change.value)
                    touched |= self._set(change.key, value, change.revision)
                except WireError as error:
                    self._problem = f"{change.key} can't be read: {error}"
                    log.error("unreadable_record key=%s error=%r", change.key, str(error))  # noqa: TRY400
            if not own and self._deleted.get(change.key, change.revision + 1) <= change.revision:
                del self._deleted[change.key]
        for subscription in self._subscriptions:
            subscription.add(touched)
        self._bell.ring()

    async def _caught_up(self, conflict: StoreConflict) -> bool:
        """Wait until the mirror has seen what the store found in our way; False when that takes too long."""
        try:
            async with asyncio.timeout(CATCH_UP):
                while conflict.found > self._revision(conflict.key) or (
                    not conflict.found and self._revision(conflict.key)
                ):
                    await self._bell.wait()
        except TimeoutError:
            return False
        return True


def _batches(entries: Sequence[Entry]) -> Iterator[Sequence[Entry]]:
    batch, size = list[Entry](), 0
    for each in entries:
        length = len(encode(each.value))
        if batch and (len(batch) >= SEALED_AT_ONCE or size + length > SEALED_SIZE):
            yield batch
            batch, size = [], 0
        batch.append(each)
        size += length
    if batch:
        yield batch


def _domains(record: Record | None) -> Mapping[str, Address]:
    if not isinstance(record, Service):
        return {}
    return dict.fromkeys(record.domains, Address(record.deployment, record.name))


def _checked(record: Record | Event) -> Json:
    """JSON of it; raises WireError (or TypeError) rather than let something be kept that can't be read back."""
    decode(type(record), encode(record))
    return to_json(record)
