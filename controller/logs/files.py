"""A log stream of files: many writers' lines merged by time, from a moment or from the end, then followed.

Reading is done in a few threads of its own, in short turns: a search through everything must not keep others
from reading, and ends within a turn when nobody waits for it any more.
"""

import asyncio
import heapq
import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from operator import attrgetter
from pathlib import Path
from typing import TypeVar

from controller.backends.keeper.output import stamp
from controller.logs.parts import (
    SLACK,
    Origin,
    Part,
    Raw,
    find_offset,
    lines_after,
    lines_before,
    parse,
    parts_of,
    stamp_of,
)
from controller.logs.query import LogQuery
from controller.types import LogLine, LogSource

log = logging.getLogger(__name__)

T = TypeVar("T")

Files = Mapping[Path, Origin]
"""Youngest part of a chain of rotated files to whose lines it holds."""

POLL = 0.15
"""Seconds between two looks at the files while following."""
TURN = 0.03
"""Seconds that a thread works for one reader before it is another's turn."""
BATCH = 500
"""Lines handed over at once."""
KEPT_BYTES = 16 * 1024**2
"""Of the last lines of the past: beyond it the older ones are left out."""
FOLLOWED_BYTES = 4 * 1024**2
"""Taken from one file in one look, so that a flood doesn't fill the memory; the next look goes on."""
LOST = "[some lines came faster than they were read, and their file is gone]"

_threads = ThreadPoolExecutor(max_workers=4, thread_name_prefix="logs")


async def in_thread(work: Callable[[], T]) -> T:
    """Run this in a thread for logs."""
    return await asyncio.get_running_loop().run_in_executor(_threads, work)


class FileStream:
    """Implements LogStream. `find` says which files there are; it is asked again while following."""

    def __init__(self, query: LogQuery, find: Callable[[], Awaitable[Files]]) -> None:
        self._query = query
        self._find = find
        self._followed: dict[Path, _Followed] = {}

    async def past(self) -> AsyncGenerator[LogLine, None]:
        files = await self._find()
        parts = await in_thread(lambda: self._open(files))
        if self._query.lines is None:
            scan = Scan(self._query, parts, backward=False)
            while not scan.done:
                for each in await in_thread(scan.turn):
                    yield each.line()
            return
        scan = Scan(self._query, parts, backward=True)
        last: list[Raw] = []
        size = 0
        while not scan.done and len(last) < self._query.lines and size < KEPT_BYTES:
            found = (await in_thread(scan.turn))[: self._query.lines - len(last)]
            last += found
            size += sum(len(each.text) for each in found)
        for each in reversed(last):
            yield each.line()

    async def following(self) -> AsyncGenerator[LogLine, None]:
        while True:
            await asyncio.sleep(POLL)
            files = await self._find()
            for line in await in_thread(lambda: self._fresh(files)):  # noqa: B023 - awaited in this turn
                yield line

    def _open(self, files: Files) -> list[tuple[Part, Origin]]:
        """Everything as of now; from its ends `_fresh` continues."""
        found = []
        for path, origin in files.items():
            parts = parts_of(path)
            found += [(part, origin) for part in parts]
            self._followed[path] = _Followed(parts[-1], parts[-1].end) if parts else _Followed()
        return found

    def _fresh(self, files: Files) -> list[LogLine]:
        """What was written since the last look, of old and new files."""
        found: list[LogLine] = []
        for path, origin in files.items():
            followed = self._followed.setdefault(path, _Followed())
            lines, lost = followed.fresh(path, origin, self._query)
            found += lines
            if lost:
                found.append(
                    LogLine(
                        time=datetime.now(UTC),
                        source=LogSource.SYSTEM,
                        instance=origin.instance,
                        process=origin.process,
                        text=LOST,
                    )
                )
        return sorted(found, key=attrgetter("time"))


class Scan:
    """The wanted lines of many files, in order of time or against it, in turns."""

    def __init__(self, query: LogQuery, parts: list[tuple[Part, Origin]], *, backward: bool) -> None:
        self._query = query
        self._since = stamp_of(query.since) if query.since else b""
        self._until = stamp_of(query.until) if query.until else b"~"
        self.done = False
        # Of equal stamps the older file's comes first, whichever end we begin at.
        files = reversed(parts) if backward else parts
        lines = [self._backward(*each) if backward else self._forward(*each) for each in files]
        self._lines = heapq.merge(*lines, key=lambda each: each[0], reverse=backward)

    def turn(self) -> list[Raw]:
        """Some of them, maybe none; `done` says whether there are more."""
        found: list[Raw] = []
        end = time.monotonic() + TURN
        for _, raw in self._lines:
            if raw is not None:
                found.append(raw)
            if len(found) >= BATCH or time.monotonic() > end:
                return found
        self.done = True
        return found

    # Each gives (stamp, None) now and then: a bound for what follows, so that no file is opened before it
    # is its turn, and no turn lasts long where nothing matches.

    def _backward(self, part: Part, origin: Origin) -> Iterator[tuple[bytes, Raw | None]]:
        newest = stamp(part.written_at + SLACK)
        if newest < self._since:
            return
        yield newest, None
        start, end = self._bounds(part, origin)
        for block in lines_before(part, start, end):
            for raw in reversed(self._wanted(block, origin)):
                newest = min(newest, raw.stamp)
                yield newest, raw
            yield newest, None

    def _forward(self, part: Part, origin: Origin) -> Iterator[tuple[bytes, Raw | None]]:
        if stamp(part.written_at + SLACK) < self._since:
            return
        oldest = max(part.head, self._since)
        yield oldest, None
        start, end = self._bounds(part, origin)
        for block in lines_after(part, start, end):
            for raw in self._wanted(block, origin):
                oldest = max(oldest, raw.stamp)
                yield oldest, raw
            yield oldest, None

    def _bounds(self, part: Part, origin: Origin) -> tuple[int, int]:
        query, start, end = self._query, 0, part.end
        if query.since:
            start = find_offset(part, stamp_of(query.since, shift=-SLACK), origin)
        if query.until:
            end = find_offset(part, stamp_of(query.until, shift=SLACK), origin)
        return start, max(start, end)

    def _wanted(self, block: bytes, origin: Origin) -> list[Raw]:
        return [
            raw for raw in wanted_lines(block, origin, self._query) if self._since <= raw.stamp < self._until
        ]


def wanted_lines(block: bytes, origin: Origin, query: LogQuery) -> list[Raw]:
    """Those of a block of whole lines that pass the filters of source, process, instance and text."""
    if not query.pattern.may_be_in(block):
        return []
    sources = {each.value.encode() for each in query.sources}
    found = []
    for line in block.split(b"\n")[:-1]:
        raw = parse(line, origin)
        if raw is None or raw.source not in sources:
            continue
        instance, process, text = raw.about()
        if query.fits(instance, process) and query.pattern.matches(text):
            found.append(raw)
    return found


@dataclass
class _Followed:
    """How far the youngest file of a chain was read."""

    part: Part | None = None
    """None: there was none yet."""
    offset: int = 0
    seen: tuple[int, int] = (0, 0)
    """Inode and size of the youngest file when all of it had been read."""

    def fresh(self, path: Path, origin: Origin, query: LogQuery) -> tuple[list[LogLine], bool]:
        """Lines since the last look, and whether others are gone."""
        if self._is_unchanged(path):
            return [], False
        parts = parts_of(path)
        lost = False
        if self.part is not None:
            known = [index for index, each in enumerate(parts) if self._is_same(each)]
            # Gone: moved aside so often since the last look that it was deleted.
            lost = bool(parts) and not known and self.part.end > 0
            parts = parts[known[0] :] if known else parts
            self.offset = self.offset if known else 0
        found: list[LogLine] = []
        room = FOLLOWED_BYTES
        for part in parts:
            if self.part is None or not self._is_same(part):
                self.offset = 0
            self.part = part
            for block in lines_after(part, self.offset, min(part.end, self.offset + room)):
                found += [
                    line
                    for raw in wanted_lines(block, origin, query)
                    if query.in_time((line := raw.line()).time)
                ]
                self.offset += len(block)
                room -= len(block)
            if self.offset < part.end:
                break  # the rest, and younger files, at the next look
        else:
            self.seen = (parts[-1].inode, parts[-1].size) if parts else (0, 0)
        return found, lost

    def _is_unchanged(self, path: Path) -> bool:
        """For nearly every file, nearly every time."""
        try:
            status = path.stat()
        except FileNotFoundError:
            return False
        return self.seen == (status.st_ino, status.st_size)

    def _is_same(self, part: Part) -> bool:
        assert self.part is not None
        same_head = self.part.head == part.head or not self.part.head
        return part.inode == self.part.inode and same_head and part.end >= self.offset
