"""The slug store: what builds made, kept by content, and unpacked once for each service."""

import asyncio
import filecmp
import hashlib
import io
import os
import re
import secrets
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TypedDict, TypeVar

import zstandard

from builder.ahead import ahead
from builder.base import ArtifactLost, BuilderUnavailable, BuildFailed
from builder.pack import BLOCK, blocks_of, canonical_tar, tar_of
from builder.restore import Damaged, TooMuch, restore
from builder.source import MAX_FILES
from builder.threads import Check, completed, run_blocking
from builder.tree import megabytes, open_folder, remove_tree, seal, sealed
from controller.types import Artifact

Block = TypeVar("Block", bytes, memoryview)
_REFERENCE = re.compile(r"[0-9a-f]{64}")
_ARCHIVE = ".tar.zst"
_TEMPORARY = ".tmp"
_EXPANSION = 16
"""A slug may unpack to this many times its limit."""
_TOLD_EVERY = 2.0
"""Seconds between two words on how large an archive has become."""

Progress = Callable[[int, int], None]
"""Takes the bytes written so far, 0 where it begins, and the most there may be."""
FRESH = 60.0
"""Seconds that an archive is safe after a build wrote it: far longer than writing down that it did."""


@dataclass(frozen=True)
class Slug:
    reference: str
    """Hex SHA-256 of the canonical tar, before compression."""
    size: int
    """Bytes of the compressed archive."""


class Bounds(TypedDict):
    """Of what an archive may hold."""

    max_files: int
    max_bytes: int


class SlugStore:
    """Archives at `<slugs>/<reference>.tar.zst`; trees at `<apps>/<deployment>/<service>/<reference>/`.

    When the server is root, a tree belongs to root and to the service's group: the app can read it,
    never change it, and other services can't look into it.
    """

    def __init__(self, slugs: Path, apps: Path, *, limit: int) -> None:
        """`limit`: largest archive, in bytes, compressed."""
        self._slugs = slugs
        self._apps = apps
        self._limit = limit
        self._locks: dict[Path, asyncio.Lock] = {}
        self._whole: set[Path] = set()
        """Trees that need no look at their content any more."""
        self._archives = threading.Lock()
        """Held while an archive is taken away, or is said to be fresh so that it is not: work of threads."""
        self._fresh: dict[str, float] = {}
        """Reference of an archive that a build wrote, to when: nobody may know of it yet but that build."""

    @property
    def largest_tree(self) -> int:
        """Bytes that what is kept may take unpacked."""
        return self._limit * _EXPANSION

    async def keep(
        self,
        tree: Path,
        *,
        deployment: str,
        service: str,
        uid: int | None,
        progress: Progress = lambda _size, _limit: None,
    ) -> Slug:
        """Seal and archive a built tree, and move it to where the service's instances find it.

        `tree` is gone afterwards. `progress` is called in the event loop, every few seconds. Raises
        BuildFailed when it is too large, BuilderUnavailable when it can't be written.
        """
        loop = asyncio.get_running_loop()

        def tell(size: int) -> None:
            loop.call_soon_threadsafe(progress, size, self._limit)

        slug = await run_blocking(lambda check: self._archive(tree, uid, check, tell))
        await self._take_over(tree, self._place(deployment, service, slug.reference))
        return slug

    def receive(
        self,
        stream: io.BufferedReader,
        tree: Path,
        *,
        build: str,
        deployment: str,
        service: str,
        uid: int | None,
        progress: Progress = lambda _size, _limit: None,
    ) -> Slug:
        """Write a canonical archive while it comes, and the new folder `tree` that it holds, sealed. Blocking.

        Both are kept by `adopt` with the same names, or taken back by `discard`. `progress` is called in a
        thread. Raises Damaged for what is no such archive, BuildFailed when it is too large, OSError.
        """
        digest = hashlib.sha256()
        open_folder(self._slugs, 0o700)
        with self._half(build).open("xb") as file:
            writing = _Writing(file, self._limit, lambda size: progress(size, self._limit))
            with ahead(writing.taking(_hashed(_blocks(stream.readinto), digest))) as blocks:
                try:
                    like = self._latest(self._apps / deployment / service)
                    restore(blocks, tree, uid, lambda: None, like=like, **self._bounds)
                except TooMuch as error:
                    raise BuildFailed(
                        f"The built app can't be kept: {error}. Leave out files that the app does not need to run."
                    ) from error
            return Slug(digest.hexdigest(), file.tell())

    async def adopt(self, slug: Slug, tree: Path, *, build: str, deployment: str, service: str) -> None:
        """Keep what was received. `tree` is gone afterwards. Raises BuilderUnavailable when it can't be written."""
        await run_blocking(lambda _check: self._place_archive(self._half(build), slug.reference))
        await self._take_over(tree, self._place(deployment, service, slug.reference))

    def discard(self, build: str) -> None:
        """What was received and not adopted goes; fine where there is nothing."""
        self._half(build).unlink(missing_ok=True)

    async def ensure_unpacked(
        self, deployment: str, service: str, artifact: Artifact, uid: int | None
    ) -> Path:
        """The folder with the slug's files, unpacked from the archive when it is not there or not whole.

        Any number of callers may ask at once. Raises BuilderUnavailable when the archive is missing or
        damaged.
        """
        place = self._place(deployment, service, artifact.reference)
        async with self._lock(place):
            await run_blocking(lambda check: self._drop_torn(place, check))
            if not place.is_dir():
                await run_blocking(lambda check: self._unpack(artifact.reference, place, uid, check))
            elif uid is not None and place.stat().st_gid != uid:
                # The service was destroyed and made again, with another user id.
                await run_blocking(lambda _check: seal(place, uid))
        return place

    def forget_fresh(self, references: Collection[str]) -> None:
        """Somebody holds these by now: that they were just written does not protect them any longer."""
        with self._archives:
            for reference in references:
                self._fresh.pop(reference, None)

    async def remove(self, references: Collection[str]) -> tuple[int, int]:
        """Forget archives, but for those that a build has just written; how many went, and their bytes.

        A reference that is not there is fine.
        """
        return await asyncio.to_thread(self._remove, references)

    async def collect(self, is_held: Callable[[str], bool]) -> tuple[int, int]:
        """Forget every archive but those of which `is_held` says so, as `remove` does."""
        names = await asyncio.to_thread(lambda: [each.name for each in self._slugs.glob(f"*{_ARCHIVE}")])
        stored = [name.removesuffix(_ARCHIVE) for name in names]
        held = {each for each in stored if is_held(each)}
        self.forget_fresh(held)
        return await self.remove([each for each in stored if each not in held])

    def archive(self, reference: str) -> Path:
        """Where its archive is, or would be."""
        return self._archive_path(reference)

    async def unpacked(
        self, services: Collection[tuple[str, str]] | None = None
    ) -> Sequence[tuple[str, str, str]]:
        """(deployment, service, reference) of the unpacked trees, of these services or of all."""
        return await asyncio.to_thread(self._unpacked, services)

    async def take_out(
        self, deployment: str, service: str, reference: str, target: Path, *, unless: Callable[[], bool]
    ) -> Path | None:
        """Move an unpacked tree to `target`, unless that says at the last moment that it is wanted, or a build
        has just made it. Whoever wants it afterwards gets it unpacked again. `target`, or None.
        """
        place = self._place(deployment, service, reference)
        async with self._lock(place):
            if unless() or self._is_fresh(reference):
                return None
            self._whole.discard(place)
            try:
                await completed(asyncio.to_thread(_move, place, target))
            except FileNotFoundError:
                return None
        return target

    async def size(self, reference: str) -> int | None:
        """Bytes of the archive; None when there is none."""
        try:
            return (await asyncio.to_thread(self._archive_path(reference).stat)).st_size
        except FileNotFoundError:
            return None

    async def sweep(self) -> None:
        """Remove what a server that was killed left half made."""
        await asyncio.to_thread(self._sweep)

    def _sweep(self) -> None:
        for half in (*self._slugs.glob(f"*{_TEMPORARY}"), *self._apps.glob(f"*/*/*{_TEMPORARY}")):
            remove_tree(half)

    def _archive(self, tree: Path, uid: int | None, check: Check, tell: Callable[[int], None]) -> Slug:
        half = self._half(secrets.token_hex(8))
        digest = hashlib.sha256()
        try:
            open_folder(self._slugs, 0o700)
            with half.open("xb") as file:
                writing = _Writing(file, self._limit, tell)
                with ahead(_hashed(blocks_of(tar_of(sealed(tree, uid), check)), digest)) as blocks:
                    for _ in writing.taking(blocks):
                        pass
                slug = Slug(digest.hexdigest(), file.tell())
            self._place_archive(half, slug.reference)
        except OSError as error:
            raise BuilderUnavailable(f"The slug could not be written: {error.strerror or error}.") from error
        finally:
            half.unlink(missing_ok=True)
        return slug

    def _place_archive(self, half: Path, reference: str) -> None:
        kept = self._archive_path(reference)
        self._set_fresh(reference)
        try:
            if not _are_same(half, kept):
                _sync(half)
                half.rename(kept)
                _sync(self._slugs)
                self._set_fresh(reference)
        except OSError as error:
            raise BuilderUnavailable(f"The slug could not be written: {error.strerror or error}.") from error

    def _half(self, name: str) -> Path:
        return self._slugs / f"{name}{_TEMPORARY}"

    @property
    def _bounds(self) -> "Bounds":
        return {"max_files": 10 * MAX_FILES, "max_bytes": self.largest_tree}

    def _remove(self, references: Collection[str]) -> tuple[int, int]:
        count = size = 0
        for reference in references:
            path = self._archive_path(reference)
            with self._archives:
                if self._is_fresh(reference):
                    continue
                try:
                    info = path.stat()
                    path.unlink()
                except FileNotFoundError:
                    continue
            count, size = count + 1, size + info.st_blocks * 512
        return count, size

    def _set_fresh(self, reference: str) -> None:
        with self._archives:
            self._fresh[reference] = time.monotonic()

    def _is_fresh(self, reference: str) -> bool:
        written = self._fresh.get(reference)
        return written is not None and time.monotonic() - written < FRESH

    def _latest(self, folder: Path) -> Path | None:
        """The tree of a service that was made last."""
        found = [each for each in folder.glob("*") if _REFERENCE.fullmatch(each.name)]
        return max(found, key=_changed_at, default=None)

    def _unpacked(self, services: Collection[tuple[str, str]] | None) -> Sequence[tuple[str, str, str]]:
        if services is None:
            folders = list(self._apps.glob("*/*"))
        else:
            folders = [self._apps / deployment / service for deployment, service in services]
        return [
            (folder.parent.name, folder.name, tree.name)
            for folder in folders
            if folder.is_dir()
            for tree in folder.iterdir()
            if _REFERENCE.fullmatch(tree.name)
        ]

    async def _take_over(self, tree: Path, place: Path) -> None:
        async with self._lock(place):
            await completed(asyncio.to_thread(self._adopt, tree, place))

    def _adopt(self, tree: Path, place: Path) -> None:
        """Take the tree as it is where a rename can do it; else `ensure_unpacked` makes it later."""
        try:
            self._open_parents(place)
            if not place.exists():
                tree.rename(place)
        except OSError:
            pass
        remove_tree(tree)

    def _unpack(self, reference: str, place: Path, uid: int | None, check: Check) -> None:
        self._open_parents(place)
        half = place.with_name(f"{reference}.{secrets.token_hex(4)}{_TEMPORARY}")
        try:
            with (
                self._archive_path(reference).open("rb") as file,
                ahead(_content(file, reference)) as blocks,
            ):
                restore(blocks, half, uid, check, like=self._latest(place.parent), **self._bounds)
            half.rename(place)
        except FileNotFoundError as error:
            raise ArtifactLost(f"The slug {reference} is not there; push again.") from error
        except (Damaged, zstandard.ZstdError) as error:
            raise ArtifactLost(f"The slug {reference} is damaged: {error}") from error
        except OSError as error:
            raise BuilderUnavailable(f"The slug {reference} can't be unpacked: {error.strerror}.") from error
        finally:
            remove_tree(half)

    def _drop_torn(self, place: Path, check: Check) -> None:
        """Remove a tree that a power cut left half written.

        Archives are synced to the disk, trees are not: one from before the machine's last start is
        compared with its hash, once.
        """
        if place in self._whole or not place.is_dir():
            return
        if place.stat().st_ctime < _started_at() and _hash_of(place, check) != place.name:
            remove_tree(place)
        else:
            self._whole.add(place)

    def _open_parents(self, place: Path) -> None:
        for folder in (self._apps, place.parent.parent, place.parent):
            open_folder(folder)

    def _place(self, deployment: str, service: str, reference: str) -> Path:
        return self._apps / deployment / service / _checked(reference)

    def _archive_path(self, reference: str) -> Path:
        return self._slugs / f"{_checked(reference)}{_ARCHIVE}"

    def _lock(self, place: Path) -> asyncio.Lock:
        return self._locks.setdefault(place, asyncio.Lock())


class _Writing:
    """A compressed archive on its way to a file."""

    def __init__(self, file: IO[bytes], limit: int, tell: Callable[[int], None]) -> None:
        """`limit`: most bytes of the file. `tell` is called with those so far, every few seconds."""
        self._file = file
        self._limit = limit
        self._tell = tell
        os.fchmod(file.fileno(), 0o600)

    def taking(self, blocks: Iterable[Block]) -> Iterator[Block]:
        """The same blocks, each written by then; the file is whole at their end. Raises BuildFailed, OSError."""
        total, told = 0, time.monotonic()
        with zstandard.ZstdCompressor(level=1).stream_writer(self._file, closefd=False) as archive:
            for block in blocks:
                archive.write(block)
                total += len(block)
                self._check_size(total)
                if time.monotonic() - told >= _TOLD_EVERY:
                    told = time.monotonic()
                    self._tell(self._file.tell())
                yield block
        self._check_size(total)

    def _check_size(self, total: int) -> None:
        if self._file.tell() > self._limit:
            raise BuildFailed(
                f"The slug is larger than {megabytes(self._limit)}, the limit of this server. "
                "Leave out files that the app does not need to run."
            )
        if total > self._limit * _EXPANSION:
            raise BuildFailed(
                f"The built app takes more than {megabytes(self._limit * _EXPANSION)} on disk. "
                "Leave out files that the app does not need to run."
            )


def _hashed(blocks: Iterable[Block], digest: "hashlib._Hash") -> Iterator[Block]:
    for block in blocks:
        digest.update(block)
        yield block


def _content(archive: IO[bytes], reference: str) -> Iterator[memoryview]:
    """What an archive holds, in whole blocks; raises ArtifactLost at the end when it is not what it is called."""
    digest = hashlib.sha256()
    reader = zstandard.ZstdDecompressor().stream_reader(archive, read_size=BLOCK)
    yield from _hashed(_blocks(reader.readinto), digest)
    if digest.hexdigest() != reference:
        raise ArtifactLost(f"The slug {reference} is damaged: its content has another hash.")


def _blocks(read: Callable[[memoryview], int]) -> Iterator[memoryview]:
    """All that `read` gives into what it is handed, in pieces of BLOCK bytes; fewer only at the end."""
    size = BLOCK
    while size == BLOCK:
        block, size = memoryview(bytearray(BLOCK)), 0
        while size < BLOCK and (more := read(block[size:])):
            size += more
        if size:
            yield block[:size]


def _checked(reference: str) -> str:
    if not _REFERENCE.fullmatch(reference):
        raise BuilderUnavailable(f"{reference!r} is no slug.")
    return reference


def _hash_of(tree: Path, check: Check) -> str:
    """The reference that a tree would have; empty when it can't be read whole."""
    digest = hashlib.sha256()
    try:
        for piece in canonical_tar(tree, check):
            digest.update(piece)
    except OSError:
        return ""
    return digest.hexdigest()


def _started_at() -> float:
    """When this machine was started, in seconds of its clock."""
    return time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)


def _changed_at(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _move(origin: Path, target: Path) -> None:
    target.parent.mkdir(mode=0o700, exist_ok=True)
    origin.rename(target)


def _are_same(half: Path, kept: Path) -> bool:
    """Whether the same archive is there, and whole: an app that did not change is not written to the disk again."""
    try:
        return filecmp.cmp(half, kept, shallow=False)
    except FileNotFoundError:
        return False


def _sync(path: Path) -> None:
    opened = os.open(path, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
