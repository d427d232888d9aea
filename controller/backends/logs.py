"""Reads what `controller.backends.keeper.output` keeps: many instances' lines, merged by time.

Files outlive their instances. Who wrote a file is in its name: `<folder>/<instance id>.log`.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from controller.backends.keeper.output import BACKUPS, MAX_LINE, backup
from controller.backends.labels import process_name, split_id
from controller.types import LogLine, LogSource

POLL = 0.15
"""Seconds between two looks at the files while following."""
BLOCK = 64 * 1024
READ_LIMIT = 8 * 1024**2
"""Bytes taken from one file in one look, so that a flood doesn't fill the memory."""


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Whose lines."""

    folder: Path
    """The service's log folder; it need not exist yet."""
    deployment: str
    service: str
    process_type: str | None = None
    instance: str | None = None

    def files(self) -> Mapping[Path, "Writer"]:
        """Log files that are there now, without their older parts."""
        found = {}
        for path in self.folder.glob("*.log"):
            name = path.name.removesuffix(".log")
            parts = split_id(name, deployment=self.deployment, service=self.service)
            if (
                parts is None
                or self.instance not in (None, name)
                or self.process_type not in (None, parts[0])
            ):
                continue
            found[path] = Writer(name, process_name(parts[0], self.service, parts[1]))
        return found


@dataclass(frozen=True)
class Writer:
    """Who printed a line."""

    instance: str
    process: str


async def read_logs(selection: Selection, *, lines: int, follow: bool) -> AsyncIterator[LogLine]:
    """The last `lines` lines in order of time, then (with `follow`) new ones as they come."""
    reader = Reader(selection)
    for line in await asyncio.to_thread(reader.tail, lines):
        yield line
    while follow:
        await asyncio.sleep(POLL)
        for line in await asyncio.to_thread(reader.fresh):
            yield line


@dataclass
class Reader:
    """Remembers how far each file was read."""

    selection: Selection
    _read: dict[Path, tuple[int, int]] = field(default_factory=dict)
    """Path to inode and offset behind the last whole line that was read."""

    def tail(self, lines: int) -> list[LogLine]:
        """The last lines of all; from then on `fresh` continues."""
        last: list[LogLine] = []
        for path, writer, status in self._youngest_first():
            end = _end_of_last_line(path, status.st_size)
            self._read[path] = (status.st_ino, end)
            oldest_wanted = last[-lines].time.timestamp() if lines and len(last) >= lines else 0
            # The kernel's clock for files lags some milliseconds behind the one of the stamps.
            if lines and status.st_mtime + 1 >= oldest_wanted:
                found = parse(b"\n".join(_last_lines(path, end, lines)), writer)
                last = sorted([*last, *found], key=_by_time)[-lines:]
        return last

    def fresh(self) -> list[LogLine]:
        """What was written since, of old and new files."""
        found: list[LogLine] = []
        for path, writer in self.selection.files().items():
            inode, offset = self._read.get(path, (0, 0))
            try:
                status = path.stat()
                if inode and status.st_ino != inode:
                    found += self._rest_of_moved(path, inode, offset, writer)
                    offset = 0
                if status.st_size > offset:
                    data = _read_whole_lines(path, offset)
                    found += parse(data, writer)
                    offset += len(data)
            except FileNotFoundError:
                continue
            self._read[path] = (status.st_ino, offset)
        return sorted(found, key=_by_time)

    def _youngest_first(self) -> list[tuple[Path, Writer, os.stat_result]]:
        seen = []
        for path, writer in self.selection.files().items():
            try:
                seen.append((path, writer, path.stat()))
            except FileNotFoundError:
                continue
        return sorted(seen, key=lambda each: each[2].st_mtime, reverse=True)

    def _rest_of_moved(self, path: Path, inode: int, offset: int, writer: Writer) -> list[LogLine]:
        """The file was moved aside since: its end is in one of the older parts."""
        found: list[LogLine] = []
        for number in range(BACKUPS, 0, -1):
            older = backup(path, number)
            if found or (older.exists() and older.stat().st_ino == inode):
                found += parse(_read_whole_lines(older, 0 if found else offset), writer)
        return found


def parse(data: bytes, writer: Writer) -> list[LogLine]:
    """Whole lines as `Output` wrote them; anything else (a torn write) is left out."""
    return [line for each in data.split(b"\n") if (line := _parse_line(each, writer))]


def _parse_line(line: bytes, writer: Writer) -> LogLine | None:
    stamp, _, rest = line.partition(b" ")
    source, _, text = rest.partition(b" ")
    try:
        time = datetime.strptime(stamp.decode(), "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=UTC)
        return LogLine(
            time=time,
            source=LogSource(source.decode()),
            instance=writer.instance,
            process=writer.process,
            text=text.decode(errors="replace"),
        )
    except ValueError:
        return None


def _by_time(line: LogLine) -> datetime:
    return line.time


def _end_of_last_line(path: Path, size: int) -> int:
    """A line may be on its way to the disk while we look."""
    with path.open("rb") as file:
        start = max(0, size - 2 * MAX_LINE)
        file.seek(start)
        return start + file.read(size - start).rfind(b"\n") + 1


def _last_lines(path: Path, end: int, count: int) -> list[bytes]:
    """The last `count` lines of a file before byte `end` and, where it is short, of its older parts."""
    found: list[bytes] = []
    parts = [path, *(backup(path, number) for number in range(1, BACKUPS + 1))]
    for part in parts:
        size = end if part == path else None
        try:
            found = list(_tail_of(part, count - len(found), size)) + found
        except FileNotFoundError:
            break
        if len(found) >= count:
            break
    return found


def _tail_of(path: Path, count: int, size: int | None) -> Iterator[bytes]:
    """The last `count` lines before byte `size` (None: the end), read from behind in blocks."""
    with path.open("rb") as file:
        position = size if size is not None else file.seek(0, os.SEEK_END)
        data = b""
        while position > 0 and data.count(b"\n") <= count:
            start = max(0, position - BLOCK)
            file.seek(start)
            data = file.read(position - start) + data
            position = start
    return iter(data.split(b"\n")[:-1][-count:])


def _read_whole_lines(path: Path, offset: int) -> bytes:
    with path.open("rb") as file:
        file.seek(offset)
        data = file.read(READ_LIMIT)
    return data[: data.rfind(b"\n") + 1]
