"""The contract of a store: keys, JSON values, revisions. It knows nothing of the model.

A store has one counter, the *revision*; every committed transaction raises it by at least one, and
each key remembers the revision of its last change. Keys are `/`-separated text without empty parts.
"""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

Json = Any
"""What `json.dumps` takes: dict, list, str, int, float, bool, None."""


class StoreError(Exception):
    """The root of what a store raises."""

    retryable = False


class StoreConflict(StoreError):
    """A write's `expect` was not met; nothing of its transaction was written."""

    def __init__(self, key: str, expected: int, found: int) -> None:
        super().__init__(f"{key}: expected revision {expected}, found {found}")
        self.key = key
        self.expected = expected
        self.found = found


class StoreUnavailable(StoreError):
    """The store did not answer in time, or is not there: nothing is known of its content."""

    retryable = True


class StoreUnusable(StoreUnavailable):
    """It is there, and no use to us until a person has looked: damaged, or written by a newer release."""

    retryable = False


class TooLarge(StoreError):
    """A transaction is larger than this store takes; nothing of it was written."""


class Compacted(StoreError):
    """A watch asked for changes that are no longer kept; read everything again with `list`."""


@dataclass(frozen=True)
class Entry:
    key: str
    value: Json
    revision: int
    """Revision of this key's last change."""


@dataclass(frozen=True)
class Change:
    """One key's change as a watch tells it; `value` is None for a deletion."""

    key: str
    value: Json | None
    revision: int


@dataclass(frozen=True)
class Write:
    """One step of a transaction.

    `value` None deletes. `expect` None writes whatever is there; 0 demands that the key does not
    exist; any other number demands that the key's revision is exactly that.
    """

    key: str
    value: Json | None
    expect: int | None = None


def check_writes(writes: Sequence[Write]) -> None:
    """Raise ValueError for what is the caller's mistake: a key without form, or one key written twice."""
    seen = set[str]()
    for write in writes:
        write.key.encode()  # text that is no UTF-8 raises a ValueError of its own
        if not all(write.key.split("/")):
            raise ValueError(f"{write.key!r} is no key: its parts may not be empty")
        if write.key in seen:
            raise ValueError(f"{write.key!r} is written twice in one transaction")
        seen.add(write.key)


class Lease(Protocol):
    """A named lock with a time limit. Lost when not renewed in time: check, do not assume."""

    name: str
    owner: str

    async def renew(self) -> bool:
        """Extend by the TTL it was acquired with; False when it is lost to somebody else or expired."""

    async def release(self) -> None:
        """Give it back; harmless when it is already lost."""


class Store(Protocol):
    """All calls raise StoreUnavailable when the store can't be asked."""

    async def get(self, key: str) -> Entry | None:
        """The entry, or None when there is none."""

    async def list(self, prefix: str) -> tuple[Sequence[Entry], int]:
        """All entries whose key begins with `prefix`, sorted by key, and the revision of that view."""

    async def commit(self, writes: Sequence[Write]) -> int:
        """Write all or nothing, durably; return the new revision, which every written key now has.

        Raises StoreConflict, TooLarge, and ValueError for what is no key or no JSON. After
        StoreUnavailable the outcome is not known: read again.
        """

    async def put(self, key: str, value: Json, *, expect: int | None = None) -> int:
        """`commit` of one write."""

    async def delete(self, key: str, *, expect: int | None = None) -> bool:
        """Delete; False when the key did not exist. Raises StoreConflict."""

    def watch(self, prefix: str, *, after: int) -> AsyncIterator[Change]:
        """Changes with a revision above `after`, in order, until the store is closed; raises Compacted.

        Changes of one transaction share a revision and come together, sorted as they were written.
        """

    async def compact(self, before: int) -> None:
        """Forget changes below revision `before`; current values stay.

        A store also forgets the oldest by itself, so that its history has a bound.
        """

    async def acquire(self, name: str, *, owner: str, ttl: float) -> Lease | None:
        """Take the lease for `ttl` seconds; None when somebody else holds it.

        Who holds it already gets it anew. Clock changes neither shorten nor extend it; a store may
        round `ttl` up to what it can count (etcd: whole seconds, and no less than its election takes).
        """

    async def close(self) -> None:
        """Release files and connections; watches end."""
