"""A place for what a push brings, apart from the repository until the push is accepted.

git's own programs see both through `environment`; the repository alone sees nothing of it. Without
git, dulwich does the same work, more slowly and with more memory.
"""

import asyncio
import logging
import os
import shutil
import stat
import tempfile
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager, closing, suppress
from pathlib import Path
from typing import Any

from dulwich.errors import HangupException, NotTreeError
from dulwich.object_store import DiskObjectStore, tree_lookup_path
from dulwich.objects import S_ISGITLINK, Blob, Commit, ObjectID, Tag, Tree

from gitreceive.bridge import MID_PACK_TIMEOUT, Bridge
from gitreceive.git import TIMEOUT, Git, end
from gitreceive.repos import QUARANTINE_PREFIX

log = logging.getLogger(__name__)

_HEADER = 12
_TRAILER = 20


class PackRefused(Exception):
    """The pack can't be taken; the sentence is for the person who pushed it."""


class Quarantine:
    """The objects of one push."""

    def __init__(self, repository: Path, folder: Path, git: Git | None) -> None:
        self.repository = repository
        self._folder = folder
        self._git = git
        self.kept = False
        """Whether the objects are in the repository."""

    @property
    def environment(self) -> Mapping[str, str]:
        """What git needs to see the repository with this push's objects."""
        if self.kept:
            return {}
        return {"GIT_OBJECT_DIRECTORY": str(self._folder), "GIT_QUARANTINE_PATH": str(self._folder)}

    async def take_pack(self, bridge: Bridge, limit: int) -> None:
        """Read the pack that the client sends and index it. Raises PackRefused; at most `limit` bytes."""
        try:
            await self._take_pack(bridge, limit)
        except TimeoutError as error:
            raise PackRefused("The pack did not arrive, or could not be read, in time.") from error

    async def _take_pack(self, bridge: Bridge, limit: int) -> None:
        head = await bridge.peek(_HEADER)
        if len(head) < _HEADER or head[:4] != b"PACK":
            raise PackRefused("The pack did not arrive: the stream ended, or is no git pack.")
        bridge.patience = MID_PACK_TIMEOUT
        if int.from_bytes(head[8:]) == 0:
            # What git sends when all objects are here already. There is nothing to index.
            await bridge.peek(_HEADER + _TRAILER)
            return
        if self._git is None:
            await _to_the_end(asyncio.to_thread(self._take_with_dulwich, bridge, limit))
        else:
            await self._take_with_git(self._git, bridge, limit)

    async def check_connected(self, tips: Sequence[bytes]) -> None:
        """Raise PackRefused unless everything that the tips refer to is here."""
        if self._git is None:
            await asyncio.to_thread(self._walk, tips)
            return
        status, _, errors = await self._git.ask(
            self.repository,
            *("rev-list", "--objects", "--stdin", "--not", "--all", "--quiet"),
            env=self.environment,
            send=b"".join(tip + b"\n" for tip in tips),
        )
        if status:
            log.info("push is not connected repository=%s error=%r", self.repository, errors[-500:])
            raise PackRefused("The push lacks objects that its commits refer to.")

    async def kinds(self, ids: Sequence[bytes]) -> Sequence[str]:
        """`commit`, `tag`, `tree` or `blob` of each. Raises PackRefused when one is not there."""

        def look() -> Sequence[str]:
            with closing(self._store()) as store:
                try:
                    return [store[ObjectID(each)].type_name.decode() for each in ids]
                except KeyError as error:
                    raise PackRefused(f"The push lacks {error.args[0]!r} itself.") from error

        return await asyncio.to_thread(look)

    async def file(self, commit: str, path: str, limit: int) -> bytes | None:
        """The content of a regular file, of which at most so many bytes and one are read; None when it is none."""

        def look() -> bytes | None:
            with closing(self._store()) as store:
                tree = store[ObjectID(commit.encode())]
                assert isinstance(tree, Commit)
                try:
                    mode, found = tree_lookup_path(store.__getitem__, tree.tree, path.encode())
                except (KeyError, NotTreeError):
                    return None
                return bytes(store[found].as_raw_string()[: limit + 1]) if stat.S_ISREG(mode) else None

        if self._git is None:
            return await asyncio.to_thread(look)
        return await self._file_with_git(self._git, commit, path, limit)

    async def _file_with_git(self, git: Git, commit: str, path: str, limit: int) -> bytes | None:
        listed = ("ls-tree", "-l", "-z", "--full-tree", commit, "--", path)
        _, entries, _ = await git.ask(self.repository, *listed, env=self.environment)
        mode, kind, found, size = [*entries.partition(b"\t")[0].decode().split(), "", "", "", ""][:4]
        if kind != "blob" or not stat.S_ISREG(int(mode, 8)):
            return None
        if int(size) > limit:
            return b" " * (limit + 1)  # never held in memory: a pack may hold a file of any size
        status, content, _ = await git.ask(self.repository, "cat-file", "blob", found, env=self.environment)
        return content if status == 0 else None

    async def contains(self, old: str, new: str) -> bool:
        """Whether the history of `new` has `old` in it."""
        if self._git is not None:
            status, _, _ = await self._git.ask(
                self.repository,
                *("merge-base", "--is-ancestor", old, new),
                env=self.environment,
            )
            return status == 0
        return await asyncio.to_thread(self._contains_with_dulwich, old.encode(), new.encode())

    def keep(self) -> None:
        """Move the objects into the repository, on disk before this returns; once is enough. Blocks."""
        if not self.kept:
            _move_packs(self._folder / "pack", self._objects / "pack")
            self.kept = True

    @property
    def _objects(self) -> Path:
        return self.repository / "objects"

    def _store(self) -> DiskObjectStore:
        return DiskObjectStore(self._objects if self.kept else self._folder)

    async def _take_with_git(self, git: Git, bridge: Bridge, limit: int) -> None:
        indexer = await git.start(
            self.repository,
            *("index-pack", "--stdin", "--fix-thin"),
            env=self.environment,
            stdin=PIPE,
        )
        feeding = asyncio.create_task(_feed(indexer, bridge, limit))
        answer = asyncio.create_task(_answer(indexer))
        try:
            # git ends by itself after the last object: not every client closes its side then.
            await asyncio.wait({feeding, answer}, return_when=asyncio.FIRST_COMPLETED)
            if feeding.done():
                feeding.result()
            async with asyncio.timeout(TIMEOUT):
                errors = await answer
        finally:
            feeding.cancel()
            await end(indexer)
            await asyncio.gather(feeding, answer, return_exceptions=True)
        if indexer.returncode:
            reason = errors.decode(errors="replace").strip().rpartition("\n")[2].removeprefix("fatal: ")
            raise PackRefused(f"The pack is damaged or cut short: {reason}.")

    def _take_with_dulwich(self, bridge: Bridge, limit: int) -> None:
        taken = 0

        def count(chunk: bytes) -> bytes:
            nonlocal taken
            taken += len(chunk)
            if taken > limit:
                raise _too_large(limit)
            return chunk

        with closing(DiskObjectStore(self._folder, fsync_object_files=True)) as store:
            try:
                store.add_thin_pack(
                    lambda size: count(bridge.nested_read(size, exact=True)),
                    lambda size: count(bridge.nested_read(size, exact=False)),
                )
            except (PackRefused, HangupException, TimeoutError):
                raise
            except Exception as error:
                log.info("pack refused repository=%s error=%r", self.repository, error)
                raise PackRefused(f"The pack is damaged or cut short: {error}.") from error

    def _walk(self, tips: Sequence[bytes]) -> None:
        # What the repository has already is connected: refused pushes leave nothing in it.
        with closing(self._store()) as store, closing(DiskObjectStore(self._objects)) as known:
            waiting = [ObjectID(tip) for tip in tips]
            seen = set(waiting)
            while waiting:
                object_id = waiting.pop()
                if object_id in known:
                    continue
                try:
                    references = _references(store[object_id])
                except KeyError:
                    raise PackRefused("The push lacks objects that its commits refer to.") from None
                waiting += references - seen
                seen |= references

    def _contains_with_dulwich(self, old: bytes, new: bytes) -> bool:
        with closing(self._store()) as store:
            waiting, seen = [ObjectID(new)], {ObjectID(new)}
            while waiting:
                object_id = waiting.pop()
                if object_id == old:
                    return True
                commit = store[object_id]
                parents = set(commit.parents) if isinstance(commit, Commit) else set()
                waiting += parents - seen
                seen |= parents
        return False


@asynccontextmanager
async def quarantine(repository: Path, git: Git | None) -> AsyncIterator[Quarantine]:
    """A place for one push; what was not kept by the end is gone."""
    folder = Path(tempfile.mkdtemp(prefix=QUARANTINE_PREFIX, dir=repository / "objects"))
    place = Quarantine(repository, folder, git)
    try:
        (folder / "pack").mkdir()
        (folder / "info").mkdir()
        (folder / "info/alternates").write_text(f"{repository / 'objects'}\n")
        yield place
    finally:
        if place.kept:  # all that is left are empty folders
            shutil.rmtree(folder, ignore_errors=True)
        else:
            await asyncio.shield(asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True))


async def _to_the_end(work: Coroutine[Any, Any, None]) -> None:
    # A thread can't be cancelled, and nothing may be removed under it. It ends soon: its next read fails.
    thread = asyncio.ensure_future(work)
    try:
        await asyncio.shield(thread)
    except asyncio.CancelledError:
        await asyncio.wait({thread})
        raise


async def _feed(indexer: Process, bridge: Bridge, limit: int) -> None:
    assert indexer.stdin is not None
    taken = 0
    async for chunk in bridge.stream():
        taken += len(chunk)
        if taken > limit:
            raise _too_large(limit)
        with suppress(BrokenPipeError, ConnectionResetError):  # its own answer tells why
            indexer.stdin.write(chunk)
            await indexer.stdin.drain()
    indexer.stdin.close()


async def _answer(indexer: Process) -> bytes:
    assert indexer.stdout is not None
    assert indexer.stderr is not None
    _, errors = await asyncio.gather(indexer.stdout.read(), indexer.stderr.read())
    await indexer.wait()
    return errors


def _too_large(limit: int) -> PackRefused:
    return PackRefused(
        f"The push is larger than the {_megabytes(limit)} that this server takes (its setting push_limit). "
        "Keep large files out of git, or push the history in parts to another branch first."
    )


def _megabytes(size: int) -> str:
    return f"{size / 1024**2:.0f} MiB" if size >= 1024**2 else f"{size} bytes"


def _references(thing: object) -> set[ObjectID]:
    match thing:
        case Commit():
            return {thing.tree, *thing.parents}
        case Tree():
            return {entry.sha for entry in thing.items() if not S_ISGITLINK(entry.mode)}
        case Tag():
            return {thing.object[1]}
        case Blob() | _:
            return set()


def _move_packs(source: Path, target: Path) -> None:
    target.mkdir(exist_ok=True)
    # The index last: a pack counts for its readers once its index is there.
    for file in sorted(source.glob("pack-*"), key=lambda each: each.suffix == ".idx"):
        if not (target / file.with_suffix(".idx").name).exists():
            file.rename(target / file.name)
    descriptor = os.open(target, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
