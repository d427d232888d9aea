"""The default store: one SQLite file, written by one thread.

Durable (WAL, synchronous FULL) and for one server process: watches are told of this process's commits.
Another process may read the file, or write it rarely; it is told apart from ours by its revision.
"""

import asyncio
import errno
import sqlite3
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import msgspec

from controller.store.base import (
    Change,
    Entry,
    Json,
    Lease,
    StoreUnavailable,
    StoreUnusable,
    Write,
    check_writes,
)
from controller.store.database import Database, RawWrite
from controller.store.feed import Feed, Transaction

RECENT = 1_000
"""Transactions kept in memory for watchers; slower ones read the change log."""

T = TypeVar("T")


class SqliteStore:
    """Opens its file at the first call, and again after an error."""

    def __init__(self, path: Path, *, keep: int = 10_000, timeout: float = 30.0) -> None:
        """Keep the last `keep` transactions for watches; give a call up after `timeout` seconds."""
        self._path = path
        self._keep = keep
        self._timeout = timeout
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="store")
        self._database: Database | None = None
        self._feed: Feed | None = None
        self._closed = False

    async def get(self, key: str) -> Entry | None:
        return await self._ask(lambda database: database.get(key))

    async def list(self, prefix: str) -> tuple[Sequence[Entry], int]:
        return await self._ask(lambda database: database.list(prefix))

    async def commit(self, writes: Sequence[Write]) -> int:
        return (await self._commit(writes)).revision

    async def put(self, key: str, value: Json, *, expect: int | None = None) -> int:
        return (await self._commit([Write(key, value, expect)])).revision

    async def delete(self, key: str, *, expect: int | None = None) -> bool:
        return bool((await self._commit([Write(key, None, expect)])).changes)

    async def _commit(self, writes: Sequence[Write]) -> Transaction:
        check_writes(writes)
        raw = [RawWrite(each.key, _text(each.value), each.expect) for each in writes]
        loop = asyncio.get_running_loop()

        def commit(database: Database) -> Transaction:
            transaction = database.commit(raw)
            # From here and not from the coroutine, which may have been cancelled meanwhile.
            loop.call_soon_threadsafe(self._committed, transaction)
            return transaction

        return await self._ask(commit)

    async def watch(self, prefix: str, *, after: int) -> AsyncIterator[Change]:
        await self._ask(Database.revision)
        assert self._feed is not None
        async for change in self._feed.watch(prefix, after, self._read_log):
            yield change

    async def _read_log(self, after: int) -> Sequence[Transaction]:
        return await self._ask(lambda database: database.log(after))

    async def compact(self, before: int) -> None:
        await self._ask(lambda database: database.compact(before))
        assert self._feed is not None
        self._feed.forget(before)

    async def acquire(self, name: str, *, owner: str, ttl: float) -> Lease | None:
        taken = await self._ask(lambda database: database.acquire(name, owner, ttl))
        return _SqliteLease(name, owner, ttl, self) if taken else None

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        if self._feed is not None:
            self._feed.close()
        await asyncio.get_running_loop().run_in_executor(self._thread, self._disconnect)
        self._thread.shutdown(wait=False)

    async def _ask(self, call: Callable[[Database], T]) -> T:
        if self._closed:
            raise StoreUnavailable("The store is closed.")
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._timeout):
                return await loop.run_in_executor(self._thread, self._perform, call, loop)
        except TimeoutError as error:
            raise StoreUnavailable(
                f"{self._path}: the disk did not answer within {self._timeout:g} seconds."
            ) from error

    # In the thread

    def _perform(self, call: Callable[[Database], T], loop: asyncio.AbstractEventLoop) -> T:
        try:
            if self._database is None:
                self._database = Database(self._path, keep=self._keep)
                loop.call_soon_threadsafe(self._opened, self._database.revision())
            return call(self._database)
        except (sqlite3.Error, OSError) as error:
            # A connection that has seen an error of the disk is not to be trusted: open again.
            self._disconnect()
            raise _explained(self._path, error) from error

    def _disconnect(self) -> None:
        if self._database is not None:
            self._database.close()
            self._database = None

    # In the event loop again

    def _opened(self, revision: int) -> None:
        if self._feed is None:
            self._feed = Feed(revision, keep=min(RECENT, self._keep))
        elif self._feed.revision != revision:
            self._feed.jump(revision)

    def _committed(self, transaction: Transaction) -> None:
        assert self._feed is not None
        self._feed.append(transaction)


@dataclass
class _SqliteLease:
    name: str
    owner: str
    ttl: float
    store: SqliteStore

    async def renew(self) -> bool:
        return await self.store._ask(lambda database: database.renew(self.name, self.owner, self.ttl))

    async def release(self) -> None:
        await self.store._ask(lambda database: database.release(self.name, self.owner))


def _text(value: Json) -> str | None:
    return None if value is None else msgspec.json.encode(value).decode()


def _explained(path: Path, error: sqlite3.Error | OSError) -> StoreUnavailable:
    """What went wrong and what to do about it, for the person who runs the server."""
    if isinstance(error, OSError):
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return StoreUnavailable(f"{path}: the disk is full. Make room; nothing else is needed.")
        return StoreUnusable(f"{path} can't be opened: {error.strerror}.")
    name = getattr(error, "sqlite_errorname", "SQLITE_ERROR")
    match name.split("_")[1]:
        case "BUSY" | "LOCKED":
            return StoreUnavailable(f"{path}: another process keeps the database locked. Find and end it.")
        case "FULL":
            return StoreUnavailable(f"{path}: the disk is full. Make room; nothing else is needed.")
        case "IOERR":
            return StoreUnavailable(
                f"{path}: the disk can't be read or written ({name}): is it full or failing?"
            )
        case "CORRUPT" | "NOTADB":
            return StoreUnusable(f"{path} is damaged or no database ({error}). Restore it from a backup.")
        case "CANTOPEN" | "READONLY" | "PERM" | "AUTH":
            return StoreUnusable(
                f"{path} can't be opened for writing ({error}): check its folder, owner and mode."
            )
    return StoreUnavailable(f"{path}: {error} ({name})")
