"""Large files (Git LFS): their content, kept by its hash beside a service's repository, and put into its source."""

import asyncio
import hashlib
import os
import re
import shutil
import stat
import tempfile
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from builder.base import BuildFailed
from builder.source import MAX_BYTES
from builder.threads import Check, run_blocking
from builder.tree import megabytes, read_small, shown
from controller.config import Settings
from controller.errors import InvalidInput
from gitreceive.download import keep as keep_file

FOLDER = "lfs"
"""Below a service's repository, as git-lfs itself lays it out: `objects/<2>/<2>/<sha256>`."""
UNFINISHED_PREFIX = "tmp-"
MAX_POINTER = 1024
SHOWN = 10
"""Names of missing files that are told."""
_OID = re.compile(r"[0-9a-f]{64}")
_POINTER = re.compile(
    rb"version https://git-lfs\.github\.com/spec/v1\n(?:[a-z0-9.-]+ [^\n]*\n)*?oid sha256:([0-9a-f]{64})\nsize (\d+)\n"
)
ATTRIBUTES = ".gitattributes"
_MAX_ATTRIBUTES = 1024**2
_MARK = b"filter=lfs"


@dataclass(frozen=True)
class Pointer:
    """What stands in a repository in place of a large file."""

    oid: str
    size: int


def parse_pointer(content: bytes) -> Pointer | None:
    """None for what is a file of its own."""
    match = _POINTER.match(content) if len(content) < MAX_POINTER else None
    return Pointer(match[1].decode(), int(match[2])) if match else None


def check_oid(text: str) -> str:
    """Raises InvalidInput for what is no hash."""
    if not _OID.fullmatch(text):
        raise InvalidInput("oid", f"{text[:80]!a} is no SHA-256 of an object.")
    return text


class LargeFiles:
    """Those of one service."""

    def __init__(self, repository: Path, settings: Settings) -> None:
        self._folder = repository / FOLDER
        self._settings = settings

    def find(self, oid: str) -> Path | None:
        """The object's file; None where it was never sent."""
        place = self._place(check_oid(oid))
        return place if place.is_file() else None

    async def add(self, oid: str, size: int, chunks: AsyncIterator[bytes]) -> None:
        """Keep an object, once all of it is there and is what its hash says.

        Raises InvalidInput when it is not, Refused when it is too large or the disk is full.
        """
        place = self._place(check_oid(oid))
        unfinished = Path(await asyncio.to_thread(self._unfinished))
        file = unfinished / oid
        try:
            await keep_file(_gathered(chunks), file, self._settings)
            found = await run_blocking(lambda check: _hash(file, check))
            if found != Pointer(oid, size):
                raise InvalidInput("oid", f"What came has {found.size} bytes and the SHA-256 {found.oid}.")
            await asyncio.to_thread(_settle, file, place)
        finally:
            await asyncio.shield(asyncio.to_thread(shutil.rmtree, unfinished, ignore_errors=True))

    def _unfinished(self) -> str:
        self._folder.mkdir(mode=0o700, exist_ok=True)
        return tempfile.mkdtemp(prefix=UNFINISHED_PREFIX, dir=self._folder)

    def _place(self, oid: str) -> Path:
        return self._folder / "objects" / oid[:2] / oid[2:4] / oid

    async def fill(self, source: Path, *, size: int) -> int:
        """Put the content in place of the pointers in a source of that size; how many there were.

        Raises BuildFailed naming what was never sent.
        """
        return await run_blocking(lambda check: self._fill(source, size, check))

    def _fill(self, source: Path, size: int, check: Check) -> int:
        pointers = list(_pointers(source, check))
        missing = sorted(path for path, pointer in pointers if self.find(pointer.oid) is None)
        if missing:
            raise BuildFailed(
                f"Git LFS keeps {_names(source, missing)} apart from the repository, and that was never sent here. "
                "Send it with `git lfs push --all REMOTE`, then push again."
            )
        size += sum(pointer.size for _, pointer in pointers)
        if size > MAX_BYTES:
            raise BuildFailed(f"With its large files the source has more than {megabytes(MAX_BYTES)}.")
        for path, pointer in pointers:
            check()
            content = self.find(pointer.oid)
            assert content is not None
            mode = stat.S_IMODE(path.stat().st_mode)
            path.unlink()
            shutil.copyfile(content, path)
            path.chmod(mode)
        return len(pointers)


def keeps_large_files(source: Path) -> bool:
    """Whether the `.gitattributes` at the top of a source speaks of LFS."""
    return _MARK in (read_small(source, ATTRIBUTES, _MAX_ATTRIBUTES) or b"")


def forgotten(repository: Path, age: float, now: float) -> bool:
    """Whether nothing of large files was sent here within so many seconds."""
    try:
        return now - (repository / FOLDER).stat().st_mtime > age
    except OSError:
        return True


def _pointers(source: Path, check: Check) -> Iterator[tuple[Path, Pointer]]:
    """Only where some `.gitattributes` speaks of LFS: else a file that looks like a pointer is what it is."""
    small: list[Path] = []
    speaks = False
    for folder, _, names in os.walk(source):
        check()
        for name in names:
            path = Path(folder) / name
            info = path.lstat()
            if stat.S_ISREG(info.st_mode):
                if name == ATTRIBUTES:
                    speaks = speaks or keeps_large_files(path.parent)
                elif info.st_size < MAX_POINTER:
                    small.append(path)
    for path in small if speaks else ():
        check()
        pointer = parse_pointer(path.read_bytes())
        if pointer is not None and pointer.size:
            yield path, pointer


def _names(source: Path, paths: Sequence[Path]) -> str:
    names = ", ".join(shown(str(each.relative_to(source))) for each in paths[:SHOWN])
    return f"{names} and {len(paths) - SHOWN} more files" if len(paths) > SHOWN else names


async def _gathered(chunks: AsyncIterator[bytes], size: int = 1024**2) -> AsyncIterator[bytes]:
    """The same in larger pieces: each is written by a thread."""
    kept = bytearray()
    async for chunk in chunks:
        kept += chunk
        if len(kept) >= size:
            yield bytes(kept)
            kept.clear()
    if kept:
        yield bytes(kept)


def _hash(file: Path, check: Check) -> Pointer:
    found, size = hashlib.sha256(), 0
    with file.open("rb") as content:
        while chunk := content.read(1024**2):
            check()
            found.update(chunk)
            size += len(chunk)
        os.fsync(content.fileno())
    return Pointer(found.hexdigest(), size)


def _settle(file: Path, place: Path) -> None:
    place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    file.replace(place)
    with suppress(OSError):
        os.utime(place.parents[3])  # the service's folder: something was sent
