"""The file of the SQLite store: tables, migrations and what is asked of them. Synchronous, for one thread.

Raises sqlite3.Error and OSError as they come; `sqlite.py` puts them into words.
"""

import os
import sqlite3
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec

from controller.store.base import Compacted, Entry, StoreConflict, StoreUnusable
from controller.store.feed import Transaction

BUSY_TIMEOUT = 5.0
"""Seconds to wait for another process (a backup, a curious person) that holds a lock."""
LOG_STEP = 256
"""Transactions read from the change log at a time."""

MIGRATIONS: Sequence[Sequence[str]] = (
    (
        "CREATE TABLE entry (key TEXT PRIMARY KEY, value TEXT NOT NULL, revision INTEGER NOT NULL) WITHOUT ROWID",
        "CREATE TABLE change (revision INTEGER NOT NULL, position INTEGER NOT NULL, key TEXT NOT NULL, value TEXT,"
        " PRIMARY KEY (revision, position)) WITHOUT ROWID",
        "CREATE TABLE counter (revision INTEGER NOT NULL, kept_from INTEGER NOT NULL)",
        "INSERT INTO counter VALUES (0, 1)",
        "CREATE TABLE lease (name TEXT PRIMARY KEY, owner TEXT NOT NULL, boot TEXT NOT NULL,"
        " expires REAL NOT NULL) WITHOUT ROWID",
    ),
)
"""The statements that lead from each schema version to the next. Add at the end, never change one."""


@dataclass(frozen=True)
class RawWrite:
    """A `Write` with its value as JSON text."""

    key: str
    text: str | None
    expect: int | None


class Database:
    """An open connection. Every method is one transaction."""

    def __init__(self, path: Path, *, keep: int) -> None:
        """Open or create the file and bring its tables up to date.

        Raises StoreUnusable when a newer release wrote it. `keep` bounds the change log.
        """
        # The file holds secrets; SQLite gives its -wal and -shm the same mode. EXCL, because closing a
        # file that is there already would take the locks of another connection of this process away.
        with suppress(FileExistsError):
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        self._path = path
        self._keep = keep
        self._boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        self._connection = sqlite3.connect(path, timeout=BUSY_TIMEOUT, isolation_level=None)
        try:
            self._prepare()
            self._migrate()
        except BaseException:
            self._connection.close()
            raise

    def _prepare(self) -> None:
        (mode,) = self._connection.execute("PRAGMA journal_mode = WAL").fetchone()
        if mode != "wal":
            raise StoreUnusable(f"The file system of {self._path} can't hold a database in WAL mode.")
        self._connection.execute("PRAGMA synchronous = FULL")
        # What is no longer kept is not readable in the file either: it may be config from before it was sealed.
        self._connection.execute("PRAGMA secure_delete = ON")
        self._connection.execute(f"PRAGMA journal_size_limit = {16 * 1024**2}")

    def _migrate(self) -> None:
        # Looked at without a write lock first, so that opening works while another process writes.
        if self._schema() == len(MIGRATIONS):
            return
        with self._transaction():
            self._connection.execute(
                "CREATE TABLE IF NOT EXISTS schema (version INTEGER PRIMARY KEY, applied_at TEXT NOT NULL)"
            )
            version = self._schema()
            if version > len(MIGRATIONS):
                raise StoreUnusable(
                    f"{self._path} was written by a newer release of Mooring (schema {version}, this one "
                    f"knows {len(MIGRATIONS)}). Start that release, or restore a backup from before it."
                )
            for number, statements in enumerate(MIGRATIONS[version:], version + 1):
                for statement in statements:
                    self._connection.execute(statement)
                self._connection.execute("INSERT INTO schema VALUES (?, datetime())", (number,))

    def _schema(self) -> int:
        """0 for a new file."""
        if not self._connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'schema'").fetchone():
            return 0
        (version,) = self._connection.execute("SELECT coalesce(max(version), 0) FROM schema").fetchone()
        return int(version)

    def close(self) -> None:
        self._connection.close()

    def revision(self) -> int:
        return self._counter()[0]

    def get(self, key: str) -> Entry | None:
        row = self._connection.execute(
            "SELECT key, value, revision FROM entry WHERE key = ?", (key,)
        ).fetchone()
        return None if row is None else _entry(*row)

    def list(self, prefix: str) -> tuple[Sequence[Entry], int]:
        found = list[Entry]()
        with self._transaction("DEFERRED"):
            for row in self._connection.execute(
                "SELECT key, value, revision FROM entry WHERE key >= ? ORDER BY key", (prefix,)
            ):
                if not row[0].startswith(prefix):
                    break
                found.append(_entry(*row))
            return found, self._counter()[0]

    def commit(self, writes: Sequence[RawWrite]) -> Transaction:
        with self._transaction():
            revision, kept_from = self._counter()
            revision += 1
            for write in writes:
                self._expect(write)
            changes = [(write.key, write.text) for write in writes if self._write(write, revision)]
            self._connection.executemany(
                "INSERT INTO change VALUES (?, ?, ?, ?)",
                [(revision, position, *change) for position, change in enumerate(changes)],
            )
            # In bulk: some more than asked for is kept for a while.
            if revision - kept_from >= self._keep + max(1, self._keep // 10):
                kept_from = revision - self._keep + 1
                self._forget(kept_from)
            self._connection.execute("UPDATE counter SET revision = ?, kept_from = ?", (revision, kept_from))
            return Transaction(revision, tuple(changes))

    def _expect(self, write: RawWrite) -> None:
        if write.expect is None:
            return
        row = self._connection.execute("SELECT revision FROM entry WHERE key = ?", (write.key,)).fetchone()
        found = row[0] if row else 0
        if found != write.expect:
            raise StoreConflict(write.key, write.expect, found)

    def _write(self, write: RawWrite, revision: int) -> bool:
        """Whether anything changed: deleting what is not there does not."""
        if write.text is None:
            return self._connection.execute("DELETE FROM entry WHERE key = ?", (write.key,)).rowcount > 0
        self._connection.execute(
            "INSERT OR REPLACE INTO entry VALUES (?, ?, ?)", (write.key, write.text, revision)
        )
        return True

    def log(self, after: int) -> Sequence[Transaction]:
        """The first transactions above revision `after`. Raises Compacted."""
        with self._transaction("DEFERRED"):
            revision, kept_from = self._counter()
            if after + 1 < kept_from:
                raise Compacted(
                    f"Changes after revision {after} are no longer kept, those from {kept_from} on are."
                )
            last = min(after + LOG_STEP, revision)
            changes = defaultdict[int, list[tuple[str, str | None]]](list)
            for at, key, text in self._connection.execute(
                "SELECT revision, key, value FROM change WHERE revision > ? AND revision <= ?"
                " ORDER BY revision, position",
                (after, last),
            ):
                changes[at].append((key, text))
            return [Transaction(at, tuple(changes[at])) for at in range(after + 1, last + 1)]

    def compact(self, before: int) -> None:
        with self._transaction():
            revision, kept_from = self._counter()
            kept_from = max(kept_from, min(before, revision + 1))
            self._forget(kept_from)
            self._connection.execute("UPDATE counter SET kept_from = ?", (kept_from,))

    def acquire(self, name: str, owner: str, ttl: float) -> bool:
        now = _uptime()
        with self._transaction():
            taken = self._connection.execute(
                "INSERT INTO lease VALUES (:name, :owner, :boot, :expires) ON CONFLICT (name) DO UPDATE"
                " SET owner = excluded.owner, boot = excluded.boot, expires = excluded.expires"
                " WHERE owner = excluded.owner OR boot <> excluded.boot OR expires <= :now",
                {"name": name, "owner": owner, "boot": self._boot, "expires": now + ttl, "now": now},
            )
            return taken.rowcount > 0

    def renew(self, name: str, owner: str, ttl: float) -> bool:
        now = _uptime()
        with self._transaction():
            renewed = self._connection.execute(
                "UPDATE lease SET expires = ? WHERE name = ? AND owner = ? AND boot = ? AND expires > ?",
                (now + ttl, name, owner, self._boot, now),
            )
            return renewed.rowcount > 0

    def release(self, name: str, owner: str) -> None:
        with self._transaction():
            self._connection.execute("DELETE FROM lease WHERE name = ? AND owner = ?", (name, owner))

    def _counter(self) -> tuple[int, int]:
        revision, kept_from = self._connection.execute("SELECT revision, kept_from FROM counter").fetchone()
        return revision, kept_from

    def _forget(self, before: int) -> None:
        self._connection.execute("DELETE FROM change WHERE revision < ?", (before,))

    @contextmanager
    def _transaction(self, kind: str = "IMMEDIATE") -> Iterator[None]:
        self._connection.execute(f"BEGIN {kind}")
        try:
            yield
            self._connection.execute("COMMIT")
        except BaseException:
            # Some errors (a full disk) have rolled back already.
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise


def _entry(key: str, text: str, revision: int) -> Entry:
    return Entry(key, msgspec.json.decode(text), revision)


def _uptime() -> float:
    """Seconds that every process of this machine counts alike, through suspends and clock changes."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)
