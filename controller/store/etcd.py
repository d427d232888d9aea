"""State in etcd 3.4 or newer: for servers whose state is to outlive their machine.

Layout below the prefix, beside which nothing else may write there:
`state/KEY` the values as JSON, `leases/NAME` the owner, `commit` written by every commit. So the revision
of `commit` is that of the last one, and what is too long for one comparison a key can be guarded by it.
"""

import asyncio
import math
from collections.abc import AsyncGenerator, Coroutine, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import msgspec

from controller.store.base import (
    Change,
    Compacted,
    Entry,
    Json,
    Lease,
    StoreConflict,
    StoreError,
    StoreUnavailable,
    StoreUnusable,
    Write,
    check_writes,
)
from controller.store.etcd_connection import FIRST_PAUSE, Connection, parse_etcd, rpc

LAYOUT = 1
"""Of the keys below the prefix; raised when older code could no longer read them."""
PAGE = 1_000
"""Entries asked for at a time by `list`."""
OPERATIONS = 128
"""That etcd takes in a transaction (--max-txn-ops), counted along each nesting of one."""
PART = 60
"""Writes in each part of a long transaction: with it, 67 parts and 4,020 writes fit into one."""
ATTEMPTS = 10


class EtcdStore:
    """Connects at the first call, and by itself again whenever the connection was lost."""

    def __init__(self, etcd: str, *, keep: int = 10_000, timeout: float = 5.0) -> None:
        """`etcd`: the setting of that name. Keep the last `keep` revisions; give up after `timeout` seconds.

        Raises InvalidInput for what is no address. History is forgotten for everybody who uses that
        etcd: it should be ours alone.
        """
        self._address = parse_etcd(etcd)
        self._connection = Connection(self._address, timeout)
        self._timeout = timeout
        self._keep = keep
        self._kept_from = 1
        self._root = f"{self._address.prefix}/state/"
        self._guard = f"{self._address.prefix}/commit".encode()
        self._checked = False

    # Reading

    async def get(self, key: str) -> Entry | None:
        key.encode()
        answer = await self._read(rpc.RangeRequest(key=self._key(key)))
        return self._entry(answer.kvs[0]) if answer.kvs else None

    async def list(self, prefix: str) -> tuple[Sequence[Entry], int]:
        for _ in range(ATTEMPTS):
            try:
                return await self._list(prefix)
            except Compacted:
                continue  # the view was compacted between two of its pages: take a newer one
        raise StoreUnavailable(f"{self._address} is compacted faster than it can be read.")

    async def _list(self, prefix: str) -> tuple[Sequence[Entry], int]:
        start, end = self._range(prefix)
        entries, revision = list[Entry](), 0
        while True:
            answer = await self._read(
                rpc.RangeRequest(key=start, range_end=end, limit=PAGE, revision=revision)
            )
            revision = revision or answer.header.revision
            entries += map(self._entry, answer.kvs)
            if not answer.more:
                return entries, revision
            start = answer.kvs[-1].key + b"\0"

    # Writing

    async def commit(self, writes: Sequence[Write]) -> int:
        return (await self._commit(writes)).revision

    async def put(self, key: str, value: Json, *, expect: int | None = None) -> int:
        return (await self._commit([Write(key, value, expect)])).revision

    async def delete(self, key: str, *, expect: int | None = None) -> bool:
        return (await self._commit([Write(key, None, expect)])).deleted > 0

    async def _commit(self, writes: Sequence[Write]) -> "_Committed":
        check_writes(writes)
        operations = [self._operation(each) for each in writes]
        expecting = [each for each in writes if each.expect is not None]
        if len(operations) < OPERATIONS:
            committed = await self._commit_short(operations, expecting)
        else:
            committed = await self._commit_long(operations, expecting)
        await self._forget_old(committed.revision)
        return committed

    async def _commit_short(self, operations: Sequence[Any], expecting: Sequence[Write]) -> "_Committed":
        answer = await self._write(
            rpc.TxnRequest(
                compare=[_unchanged(self._key(each.key), each.expect or 0) for each in expecting],
                success=[*operations, self._mark()],
                failure=[self._look_at(each) for each in expecting],
            )
        )
        if not answer.succeeded:
            _check(expecting, answer)
        return _committed(answer)

    async def _commit_long(self, operations: Sequence[Any], expecting: Sequence[Write]) -> "_Committed":
        """More than etcd compares in one transaction: what is expected is looked at before, and the
        transaction demands that no commit came in between. Its writes go into parts of it, nested."""
        parts = [_nested(operations[at : at + PART]) for at in range(0, len(operations), PART)]
        for _ in range(ATTEMPTS):
            guard = await self._read(rpc.RangeRequest(key=self._guard))
            for at in range(0, len(expecting), OPERATIONS):
                looked = expecting[at : at + OPERATIONS]
                _check(looked, await self._transact([self._look_at(each) for each in looked]))
            unchanged = _unchanged(self._guard, _revision_of(guard.kvs))
            answer = await self._write(
                rpc.TxnRequest(compare=[unchanged] if expecting else [], success=[*parts, self._mark()])
            )
            if answer.succeeded:
                return _committed(answer)
        raise StoreUnavailable(
            f"{self._address}: a long transaction gave way to others {ATTEMPTS} times; nothing was written."
        )

    # Watching

    async def watch(self, prefix: str, *, after: int) -> AsyncGenerator[Change, None]:
        while True:
            stood = False
            try:
                async with aclosing(self._stream(prefix, after)) as stream:
                    async for changes in stream:
                        stood = True
                        for change in changes:
                            yield change
                            after = change.revision
            except StoreUnavailable as error:
                if self._connection.closed:
                    return
                # It is taken up again where it broke; that tries for as long as any call may take.
                if not (stood and error.retryable):
                    raise
            await asyncio.sleep(FIRST_PAUSE)

    async def _stream(self, prefix: str, after: int) -> AsyncGenerator[Sequence[Change], None]:
        """The changes of each answer of one watch, after an empty one that says that it stands."""
        await self._check_kept(after)
        start, end = self._range(prefix)
        create = rpc.WatchCreateRequest(key=start, range_end=end, start_revision=after + 1)
        async with self._connection.exchange(
            lambda link: link.watch.Watch, rpc.WatchRequest(create_request=create)
        ) as read:
            self._check_watch(await self._in_time(read()))
            # Again, for it may have been compacted meanwhile: etcd would then tell all but deletions.
            await self._check_kept(after)
            yield ()
            while True:
                answer = await read()
                self._check_watch(answer)
                yield [self._change(each) for each in answer.events]

    async def _check_kept(self, after: int) -> None:
        """Raise Compacted unless the view at revision `after` is still known, and so all that came later."""
        await self._read(rpc.RangeRequest(key=self._guard, revision=max(after, 1), count_only=True))

    def _check_watch(self, answer: Any) -> None:
        if answer.compact_revision:
            raise Compacted(f"{self._address} keeps changes from revision {answer.compact_revision} on.")
        if answer.canceled:
            raise StoreUnavailable(f"{self._address} ended the watch: {answer.cancel_reason or 'no reason'}.")

    async def compact(self, before: int) -> None:
        current = (await self._read(rpc.RangeRequest(key=self._guard, count_only=True))).header.revision
        await self._compact(min(before, current + 1))

    async def _compact(self, before: int) -> None:
        self._kept_from = before
        # One less: etcd forgets deletions at the revision itself.
        request = rpc.CompactionRequest(revision=before - 1)
        try:
            await self._connection.ask(lambda link: link.kv.Compact, request, again=True)
        except Compacted:
            return  # somebody did it already

    async def _forget_old(self, revision: int) -> None:
        # In bulk: some more than asked for is kept for a while.
        if revision - self._kept_from < self._keep + max(1, self._keep // 10):
            return
        try:
            await self._compact(revision - self._keep + 1)
        except StoreError:
            return  # the commit stands; the next one compacts

    # Leases

    async def acquire(self, name: str, *, owner: str, ttl: float) -> Lease | None:
        key = f"{self._address.prefix}/leases/{name}".encode()
        for _ in range(ATTEMPTS):
            held = await self._read(rpc.RangeRequest(key=key))
            if held.kvs and held.kvs[0].value.decode() != owner:
                return None
            if await self._take_lease(key, owner, ttl, _revision_of(held.kvs)):
                return _EtcdLease(name, owner, key, self)
        return None

    async def _take_lease(self, key: bytes, owner: str, ttl: float, revision: int) -> bool:
        """False when the key has changed since that revision."""
        grant = rpc.LeaseGrantRequest(TTL=max(1, math.ceil(ttl)))
        lease = (await self._connection.ask(lambda link: link.lease.LeaseGrant, grant, again=True)).ID
        put = rpc.RequestOp(request_put=rpc.PutRequest(key=key, value=owner.encode(), lease=lease))
        answer = await self._write(rpc.TxnRequest(compare=[_unchanged(key, revision)], success=[put]))
        if not answer.succeeded:
            await self._revoke(lease)
        return bool(answer.succeeded)

    async def _renew(self, key: bytes, owner: str) -> bool:
        lease = await self._lease_of(key, owner)
        if lease is None:
            return False
        async with self._connection.exchange(
            lambda link: link.lease.LeaseKeepAlive, rpc.LeaseKeepAliveRequest(ID=lease)
        ) as read:
            return bool((await self._in_time(read())).TTL > 0)

    async def _release(self, key: bytes, owner: str) -> None:
        lease = await self._lease_of(key, owner)
        if lease is not None:
            await self._revoke(lease)

    async def _lease_of(self, key: bytes, owner: str) -> int | None:
        held = await self._read(rpc.RangeRequest(key=key))
        if not held.kvs or held.kvs[0].value.decode() != owner:
            return None
        return int(held.kvs[0].lease)

    async def _revoke(self, lease: int) -> None:
        """Forget it, and with it the key it holds; harmless when it has expired."""
        request = rpc.LeaseRevokeRequest(ID=lease)
        await self._connection.ask(lambda link: link.lease.LeaseRevoke, request, again=True)

    async def close(self) -> None:
        await self._connection.close()

    # Asking

    async def _read(self, request: Any) -> Any:
        await self._check_layout()
        return await self._connection.ask(lambda link: link.kv.Range, request, again=True)

    async def _transact(self, operations: Sequence[Any]) -> Any:
        """A transaction that only reads."""
        request = rpc.TxnRequest(success=operations)
        return await self._connection.ask(lambda link: link.kv.Txn, request, again=True)

    async def _write(self, request: Any) -> Any:
        await self._check_layout()
        if not self._connection.ready:
            # Reading may be tried again until it stands; a write is sent once.
            await self._read(rpc.RangeRequest(key=self._guard, count_only=True))
        return await self._connection.ask(lambda link: link.kv.Txn, request, again=False)

    async def _in_time(self, answer: Coroutine[Any, Any, Any]) -> Any:
        """The first answer of a stream."""
        try:
            async with asyncio.timeout(self._timeout):
                return await answer
        except TimeoutError as error:
            raise StoreUnavailable(
                f"{self._address} did not answer within {self._timeout:g} seconds."
            ) from error

    async def _check_layout(self) -> None:
        if self._checked:
            return
        request = rpc.RangeRequest(key=self._guard)
        answer = await self._connection.ask(lambda link: link.kv.Range, request, again=True)
        found = int(answer.kvs[0].value) if answer.kvs else LAYOUT
        if found > LAYOUT:
            raise StoreUnusable(
                f"{self._address}: a newer release of Mooring wrote below {self._address.prefix!r} "
                f"(layout {found}, this one knows {LAYOUT}). Start that release, or restore a backup."
            )
        self._checked = True

    # Keys and messages

    def _key(self, key: str) -> bytes:
        return (self._root + key).encode()

    def _range(self, prefix: str) -> tuple[bytes, bytes]:
        start = self._key(prefix)
        # The last byte of UTF-8 is never 255, so the next one up ends the range.
        return start, start[:-1] + bytes([start[-1] + 1])

    def _entry(self, found: Any) -> Entry:
        key = found.key.decode().removeprefix(self._root)
        return Entry(key, msgspec.json.decode(found.value), found.mod_revision)

    def _change(self, event: Any) -> Change:
        key = event.kv.key.decode().removeprefix(self._root)
        deleted = event.type == event.EventType.DELETE
        return Change(key, None if deleted else msgspec.json.decode(event.kv.value), event.kv.mod_revision)

    def _operation(self, write: Write) -> Any:
        key = self._key(write.key)
        if write.value is None:
            return rpc.RequestOp(request_delete_range=rpc.DeleteRangeRequest(key=key))
        value = msgspec.json.encode(write.value)
        value.decode()  # text that is no UTF-8 raises a ValueError of its own
        return rpc.RequestOp(request_put=rpc.PutRequest(key=key, value=value))

    def _look_at(self, write: Write) -> Any:
        return rpc.RequestOp(request_range=rpc.RangeRequest(key=self._key(write.key), keys_only=True))

    def _mark(self) -> Any:
        return rpc.RequestOp(request_put=rpc.PutRequest(key=self._guard, value=str(LAYOUT).encode()))


@dataclass(frozen=True)
class _Committed:
    revision: int
    deleted: int
    """How many of the keys to delete were there."""


@dataclass
class _EtcdLease:
    name: str
    owner: str
    key: bytes
    store: EtcdStore

    async def renew(self) -> bool:
        return await self.store._renew(self.key, self.owner)

    async def release(self) -> None:
        await self.store._release(self.key, self.owner)


def _unchanged(key: bytes, revision: int) -> Any:
    """Compares the key's last change; 0 stands for a key that does not exist."""
    return rpc.Compare(result=rpc.Compare.EQUAL, target=rpc.Compare.MOD, key=key, mod_revision=revision)


def _nested(operations: Sequence[Any]) -> Any:
    return rpc.RequestOp(request_txn=rpc.TxnRequest(success=operations))


def _revision_of(found: Sequence[Any]) -> int:
    return int(found[0].mod_revision) if found else 0


def _check(expecting: Sequence[Write], answer: Any) -> None:
    """Raise StoreConflict for the first key that is not as expected; `answer` has what was looked at."""
    for write, looked in zip(expecting, answer.responses, strict=True):
        found = _revision_of(looked.response_range.kvs)
        if found != write.expect:
            raise StoreConflict(write.key, write.expect or 0, found)


def _committed(answer: Any) -> _Committed:
    return _Committed(answer.header.revision, sum(_deleted(answer.responses)))


def _deleted(responses: Sequence[Any]) -> Iterator[int]:
    for each in responses:
        yield each.response_delete_range.deleted
        yield from _deleted(each.response_txn.responses)
