"""Backups of one resource: whole or not there at all, and checked before they are used. Here as files in a folder."""

import asyncio
import hashlib
import os
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Container, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol

from controller.errors import NotFound
from controller.resources.base import ResourceError
from controller.views import BackupInfo
from controller.wire import WireError, decode, encode

PIECE = 256 * 1024
DATA, RECORD = ".backup", ".json"
"""What the two things are called that a backup is of, after its id: in a bucket as in a folder."""
_PART = ".part"


class BackupStore(Protocol):
    """Where the backups of one resource are kept. Raises Unavailable where it can't be reached, OSError where a disk of
    this machine is full."""

    async def list(self) -> Sequence[BackupInfo]:
        """Newest first."""

    async def keep(
        self, pieces: AsyncIterator[bytes], now: datetime, actor: str, *, scheduled: bool = False
    ) -> BackupInfo:
        """A new one of all that comes. Where that breaks off nothing of it stays; raises what `pieces` raises. One at a
        time."""

    def pieces(self, backup: BackupInfo) -> AsyncGenerator[bytes, None]:
        """All of it, checked before the first piece is given. Raises ResourceError where it is damaged."""

    async def remove(self, backup: str) -> None:
        """One that is not there: nothing."""

    async def sweep(self) -> None:
        """What a server that was killed left half written; to be called while none is being made."""


BackupStores = Callable[[str], BackupStore]
"""Those of a resource, by a name that no other one ever had: letters, digits, `.`, `_` and `-`."""


def folders(root: Path) -> BackupStores:
    """Each in a folder of its own there."""
    return lambda name: BackupFolder(root / name)


async def find_backup(store: BackupStore, backup: str | None, *, verbs: str = "resources") -> BackupInfo:
    """That one, or the newest. Raises NotFound. `verbs`: what the commands about it begin with."""
    found = await store.list()
    if backup is None and found:
        return found[0]
    for each in found:
        if each.id == backup:
            return each
    raise NotFound(
        f"There is no backup yet: {verbs}:backup makes one."
        if backup is None
        else f"There is no backup {backup[:60]!a} (see {verbs}:backups)."
    )


def free_id(now: datetime, taken: Container[str]) -> str:
    """One that is not among those: the moment in UTC, with a number where it is not the first of its second."""
    first = name = now.strftime("%Y%m%dT%H%M%S")
    number = 1
    while name in taken:
        number += 1
        name = f"{first}-{number}"
    return name


def check_damage(backup: BackupInfo, sha256: str) -> None:
    """Raise ResourceError where that is not the hash of what was written."""
    if sha256 != backup.sha256:
        raise ResourceError(
            f"The backup {backup.id} is damaged: its content is not what was written. Take another one.",
            retryable=False,
        )


@dataclass(frozen=True)
class BackupFolder:
    """Implements BackupStore: `<id>.backup`, and `<id>.json`, which is written last: without it there is no backup."""

    path: Path

    async def list(self) -> Sequence[BackupInfo]:
        """Newest first."""
        return await asyncio.to_thread(self._list)

    async def keep(
        self, pieces: AsyncIterator[bytes], now: datetime, actor: str, *, scheduled: bool = False
    ) -> BackupInfo:
        """A new one of all that comes. Where that breaks off, or the disk is full, nothing of it stays: OSError, or
        what `pieces` raises."""
        await asyncio.to_thread(self.path.mkdir, mode=0o700, parents=True, exist_ok=True)
        name = await asyncio.to_thread(self._free_id, now)
        part = self.path / f"{name}{_PART}"
        digest, size = hashlib.sha256(), 0
        try:
            with await asyncio.to_thread(part.open, "xb") as file:
                async for piece in pieces:
                    await asyncio.to_thread(file.write, piece)
                    digest.update(piece)
                    size += len(piece)
                await asyncio.to_thread(_to_disk, file.fileno(), file.flush)
            made = BackupInfo(
                id=name,
                created_at=now,
                size=size,
                sha256=digest.hexdigest(),
                actor=actor,
                scheduled=scheduled,
            )
            await asyncio.to_thread(self._record, part, made)
        finally:
            await asyncio.to_thread(part.unlink, missing_ok=True)
        return made

    async def pieces(self, backup: BackupInfo) -> AsyncGenerator[bytes, None]:
        """All of it, checked before the first piece is given. Raises ResourceError, OSError."""
        path = self.path / f"{backup.id}{DATA}"
        check_damage(backup, await asyncio.to_thread(_hash_of, path))
        with await asyncio.to_thread(path.open, "rb") as file:
            while piece := await asyncio.to_thread(file.read, PIECE):
                yield piece

    async def remove(self, backup: str) -> None:
        """Its record first."""
        for ending in (RECORD, DATA):
            await asyncio.to_thread((self.path / f"{backup}{ending}").unlink, missing_ok=True)

    async def sweep(self) -> None:
        """What a server that was killed left half written; to be called while none is being made."""
        for each in await asyncio.to_thread(lambda: list(self.path.glob(f"*{_PART}"))):
            await asyncio.to_thread(each.unlink, missing_ok=True)

    def _list(self) -> Sequence[BackupInfo]:
        found = []
        for each in self.path.glob(f"*{RECORD}"):
            try:
                found.append(decode(BackupInfo, each.read_bytes()))
            except (OSError, WireError):
                continue  # it is being removed, or not ours
        return sorted(found, key=lambda each: each.id, reverse=True)

    def _free_id(self, now: datetime) -> str:
        return free_id(now, {each.stem for each in self.path.iterdir() if each.suffix in (DATA, _PART)})

    def _record(self, part: Path, made: BackupInfo) -> None:
        part.rename(self.path / f"{made.id}{DATA}")
        record = self.path / f"{made.id}{RECORD}"
        fresh = record.with_suffix(_PART)
        with fresh.open("xb") as file:
            file.write(encode(made))
            _to_disk(file.fileno(), file.flush)
        fresh.rename(record)


def _to_disk(descriptor: int, flush: object) -> None:
    assert callable(flush)
    flush()
    os.fsync(descriptor)


def _hash_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
