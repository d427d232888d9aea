"""A store in memory: the whole contract without durability, for tests and all-in-memory demos."""

import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass

import msgspec

from controller.store.base import (
    Change,
    Compacted,
    Entry,
    Json,
    Lease,
    StoreConflict,
    StoreUnavailable,
    Write,
    check_writes,
)
from controller.store.feed import Feed, Transaction


class MemoryStore:
    """Keeps JSON text, so that nobody can change a value behind the store's back."""

    def __init__(self, *, keep: int = 10_000, clock: Callable[[], float] = time.monotonic) -> None:
        """Keep the last `keep` transactions for watches; `clock` counts the seconds of leases."""
        self._entries: dict[str, tuple[str, int]] = {}
        self._feed = Feed(0, keep=keep)
        self._clock = clock
        self._leases: dict[str, tuple[str, float]] = {}
        self._closed = False

    async def get(self, key: str) -> Entry | None:
        self._check_open()
        found = self._entries.get(key)
        return None if found is None else Entry(key, msgspec.json.decode(found[0]), found[1])

    async def list(self, prefix: str) -> tuple[Sequence[Entry], int]:
        self._check_open()
        keys = sorted(key for key in self._entries if key.startswith(prefix))
        found = [(key, *self._entries[key]) for key in keys]
        return [Entry(key, msgspec.json.decode(text), at) for key, text, at in found], self._feed.revision

    async def commit(self, writes: Sequence[Write]) -> int:
        return self._commit(writes).revision

    async def put(self, key: str, value: Json, *, expect: int | None = None) -> int:
        return self._commit([Write(key, value, expect)]).revision

    async def delete(self, key: str, *, expect: int | None = None) -> bool:
        return bool(self._commit([Write(key, None, expect)]).changes)

    def _commit(self, writes: Sequence[Write]) -> Transaction:
        self._check_open()
        check_writes(writes)
        texts = [
            None if write.value is None else msgspec.json.encode(write.value).decode() for write in writes
        ]
        for write in writes:
            _, found = self._entries.get(write.key, ("", 0))
            if write.expect is not None and write.expect != found:
                raise StoreConflict(write.key, write.expect, found)
        revision = self._feed.revision + 1
        changes = list[tuple[str, str | None]]()
        for write, text in zip(writes, texts, strict=True):
            if text is not None:
                self._entries[write.key] = (text, revision)
            elif self._entries.pop(write.key, None) is None:
                continue
            changes.append((write.key, text))
        transaction = Transaction(revision, tuple(changes))
        self._feed.append(transaction)
        return transaction

    def watch(self, prefix: str, *, after: int) -> AsyncIterator[Change]:
        return self._feed.watch(prefix, after, self._read_log)

    async def _read_log(self, after: int) -> Sequence[Transaction]:
        raise Compacted(f"Changes after revision {after} are no longer kept.")

    async def compact(self, before: int) -> None:
        self._check_open()
        self._feed.forget(before)

    async def acquire(self, name: str, *, owner: str, ttl: float) -> Lease | None:
        self._check_open()
        holder, _ = self._leases.get(name, (owner, 0.0))
        if holder != owner and self._is_held(name, holder):
            return None
        self._leases[name] = (owner, self._clock() + ttl)
        return _MemoryLease(name, owner, ttl, self)

    async def close(self) -> None:
        self._closed = True
        self._feed.close()

    def _is_held(self, name: str, owner: str) -> bool:
        holder, until = self._leases.get(name, ("", 0.0))
        return holder == owner and until > self._clock()

    def _check_open(self) -> None:
        if self._closed:
            raise StoreUnavailable("The store is closed.")


@dataclass
class _MemoryLease:
    name: str
    owner: str
    ttl: float
    store: MemoryStore

    async def renew(self) -> bool:
        self.store._check_open()
        if not self.store._is_held(self.name, self.owner):
            return False
        self.store._leases[self.name] = (self.owner, self.store._clock() + self.ttl)
        return True

    async def release(self) -> None:
        if self.store._is_held(self.name, self.owner):
            del self.store._leases[self.name]
