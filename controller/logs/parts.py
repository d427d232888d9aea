"""Files of stamped lines: found by time, read block by block from either end, known again once moved aside.

A line is `<stamp> <source> <text>` as `controller.backends.keeper.output` writes it; one of the router has
the instance's id (or `-`) before its text. Stamps have one width, so that their order as text is that of time.
Everything here blocks.
"""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path

from controller.backends.keeper.output import BACKUPS, MAX_LINE, backup, stamp
from controller.types import LogLine, LogSource

BLOCK = 128 * 1024
SLACK = 2.0
"""Seconds by which stamps of a file may be out of order: a clock that was set, lines of several threads."""
_STAMPED = re.compile(rb"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z) (app|build|router|system)(?: |$)")
_HEAD = 27
"""Bytes of a stamp."""
_LONGEST = MAX_LINE + 200
"""Bytes of a line with all that is before its text."""


@dataclass(frozen=True)
class Origin:
    """Whose lines a file holds."""

    instance: str
    """Id of the instance or build; empty: each line says it itself."""
    process: str
    unstamped: bytes | None = None
    """Stamp of lines without one; None: they are torn, and left out."""


@dataclass(frozen=True, slots=True)
class Raw:
    """One line, not yet made into a value."""

    stamp: bytes
    source: bytes
    text: bytes
    origin: Origin

    def about(self) -> tuple[str, str, bytes]:
        """Instance, process and the text proper."""
        if self.source != b"router":
            return self.origin.instance, self.origin.process, self.text
        word, _, text = self.text.partition(b" ")
        instance = "" if word == b"-" else word.decode(errors="replace")
        return instance, process_of(instance) or self.origin.process, text

    def line(self) -> LogLine:
        instance, process, text = self.about()
        return LogLine(
            time=datetime.fromisoformat(self.stamp.decode()),
            source=LogSource(self.source.decode()),
            instance=instance,
            process=process,
            text=text.decode(errors="replace"),
        )


@lru_cache(maxsize=10_000)
def process_of(instance: str) -> str:
    """`web.1` of `foo-app-12-web-1`; empty where it can't be told."""
    match = re.search(r"-\d+-(.+)-(\d+)$", instance)
    return f"{match[1]}.{match[2]}" if match else ""


def parse(line: bytes, origin: Origin) -> Raw | None:
    """None for a torn line. `line` has no newline."""
    match = _STAMPED.match(line)
    if match is not None:
        return Raw(match[1], match[2], line[match.end() :], origin)
    return Raw(origin.unstamped, b"build", line, origin) if origin.unstamped is not None else None


def stamp_of(moment: datetime, *, shift: float = 0.0) -> bytes:
    return stamp(max(0.0, moment.astimezone(UTC).timestamp() + shift))


@dataclass(frozen=True)
class Part:
    """One file as it was at a moment: what is in it up to `end` never changes."""

    path: Path
    """Where it was; it may have been moved aside since."""
    inode: int
    head: bytes
    """Its first bytes: an inode is given to another file as soon as it is free."""
    end: int
    """Offset behind its last whole line."""
    size: int
    written_at: float

    def read(self, offset: int, size: int) -> bytes:
        """Up to `size` bytes before `end`; nothing when it was deleted meanwhile."""
        file = find_file(self.path, self.inode, self.head)
        if file is None:
            return b""
        try:
            return os.pread(file, max(0, min(size, self.end - offset)), offset)
        finally:
            os.close(file)


def find_file(path: Path, inode: int, head: bytes) -> int | None:
    """A descriptor of that very file, wherever rotation has moved it."""
    for place in (path, *_rotated(path)):
        try:
            file = os.open(place, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            continue
        if os.fstat(file).st_ino == inode and os.pread(file, len(head), 0) == head:
            return file
        os.close(file)
    return None


def _rotated(path: Path) -> Iterator[Path]:
    """All names that a file of this chain may have."""
    young = path if path.suffix == ".log" else path.with_suffix("")
    yield young
    for number in range(1, BACKUPS + 1):
        yield backup(young, number)


def parts_of(path: Path) -> list[Part]:
    """The file and what was moved aside of it, oldest first, as of one moment."""
    while True:
        names = [*(backup(path, number) for number in range(BACKUPS, 0, -1)), path]
        found = [_look(name) for name in names]
        # Where files were moved aside while we looked, one may have escaped us.
        if [each.inode if each else 0 for each in found] == [_inode(name) for name in names]:
            return [each for each in found if each is not None]


def _look(path: Path) -> Part | None:
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        status = os.fstat(file)
        end = _end_of_last_line(file, status.st_size)
        head = os.pread(file, min(_HEAD, end), 0)
        return Part(path, status.st_ino, head, end, status.st_size, status.st_mtime)
    finally:
        os.close(file)


def _end_of_last_line(file: int, size: int) -> int:
    """A line may be on its way to the disk while we look."""
    for looked_at in (512, 2 * _LONGEST):
        start = max(0, size - looked_at)
        found = os.pread(file, size - start, start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
    return start


def _inode(path: Path) -> int:
    try:
        return path.stat().st_ino
    except FileNotFoundError:
        return 0


def find_offset(part: Part, wanted: bytes, origin: Origin) -> int:
    """Offset of the first line that is stamped `wanted` or later, found in a few reads; `end` when none is."""
    low, high = 0, part.end
    while high - low > BLOCK:
        middle = (low + high) // 2
        found = _line_behind(part, middle, high, origin)
        if found is None or found[1] >= wanted:
            high = middle
        else:
            low = found[0]
    # `high` may lie within a line that began before it.
    offset = low
    for line in part.read(low, high - low + _LONGEST).split(b"\n")[:-1]:
        raw = parse(line, origin)
        if raw is not None and raw.stamp >= wanted:
            break
        offset += len(line) + 1
    return offset


def _line_behind(part: Part, offset: int, limit: int, origin: Origin) -> tuple[int, bytes] | None:
    """Offset and stamp of the first line with a stamp that begins after `offset`, and before `limit`."""
    size = 4096
    while True:
        data = part.read(offset, size)
        start = data.find(b"\n") + 1
        while start and offset + start < limit:
            end = data.find(b"\n", start)
            raw = parse(data[start : end if end >= 0 else None], origin)
            if raw is not None and (end >= 0 or len(data) - start > 2 * _HEAD):
                return offset + start, raw.stamp
            if end < 0:
                break
            start = end + 1
        if offset + size >= min(limit, part.end) or len(data) < size:
            return None
        size *= 8


def lines_before(part: Part, start: int, end: int) -> Iterator[bytes]:
    """Blocks of whole lines (each with its newline) from `end` back to `start`, the last block first."""
    rest: list[bytes] = []
    """The end of a line that began before the blocks read so far, its last piece first."""
    position = end
    while position > start:
        first = max(start, position - BLOCK)
        data = part.read(first, position - first)
        if len(data) < position - first:
            return
        position = first
        cut = 0 if first == start else data.find(b"\n") + 1
        if first > start and not cut:
            rest.append(data)
            continue
        yield data[cut:] + b"".join(reversed(rest))
        rest = [data[:cut]]


def lines_after(part: Part, start: int, end: int) -> Iterator[bytes]:
    """Blocks of whole lines from `start` up to `end`, in order."""
    kept = b""
    position = start
    while position < end:
        data = part.read(position, min(BLOCK, end - position))
        if not data:
            return
        position += len(data)
        block, newline, rest = (kept + data).rpartition(b"\n")
        kept = rest
        if newline:
            yield block + newline
