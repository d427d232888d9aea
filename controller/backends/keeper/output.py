"""Keeps what one instance prints: a bounded file of stamped lines.

A line is `<UTC time with microseconds> <source> <text>`, with `app` or `system` as its source, so
that the lines of many instances merge in order of time. `controller.backends.logs` reads them.
"""

import contextlib
import os
import time
from functools import lru_cache
from pathlib import Path

MAX_BYTES = 10 * 1024**2
"""Size at which a log file is moved aside."""
BACKUPS = 2
"""Files kept beside the one that is written: `.log.1` is the younger one. So 30 MB an instance at most."""
MAX_LINE = 64 * 1024
"""A longer line is kept in pieces, each stamped: nobody's memory may depend on an app's newlines."""


def stamp(now: float) -> bytes:
    """`2026-01-31T12:00:00.123456Z`: fine enough that an answer is never stamped like its question."""
    seconds, microseconds = divmod(int(now * 1_000_000), 1_000_000)
    return b"%s.%06dZ" % (_second(seconds), microseconds)


@lru_cache(maxsize=16)
def _second(seconds: int) -> bytes:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)).encode()


class Output:
    """Never raises and never blocks on anything but the disk: a log that fails must not hurt the app."""

    def __init__(self, path: Path, *, max_bytes: int = MAX_BYTES, backups: int = BACKUPS) -> None:
        self._path = path
        self._max_bytes = max_bytes
        self._backups = backups
        self._file: int | None = None
        self._size = 0
        self._partial = b""

    def write(self, data: bytes) -> None:
        """Take what came from the instance's pipe, cut anywhere."""
        *lines, self._partial = (self._partial + data).split(b"\n")
        while len(self._partial) > MAX_LINE:
            lines.append(self._partial[:MAX_LINE])
            self._partial = self._partial[MAX_LINE:]
        self._stamp("app", lines)

    def say(self, text: str) -> None:
        """A line of our own, about the instance."""
        self.finish_line()
        self._stamp("system", [text.encode(errors="replace")])

    def finish_line(self) -> None:
        """Keep a last line that lacks its newline."""
        if self._partial:
            line, self._partial = self._partial, b""
            self._stamp("app", [line])

    def close(self) -> None:
        """What is written afterwards opens the file again."""
        self.finish_line()
        self._close_file()

    def _stamp(self, source: str, lines: list[bytes]) -> None:
        if not lines:
            return
        head = b"%s %s " % (stamp(time.time()), source.encode())
        self.append(b"".join(b"%s%s\n" % (head, piece) for line in lines for piece in _pieces(line)))

    def append(self, blob: bytes) -> None:
        """Whole lines that are stamped already."""
        try:
            if self._file is None:
                self._open()
            assert self._file is not None
            self._size += os.write(self._file, blob)
            if self._size >= self._max_bytes:
                self._rotate()
        except OSError:
            # Disk full, folder gone: these lines are lost, the next ones try again.
            self._close_file()

    def _open(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._size = os.fstat(self._file).st_size

    def _close_file(self) -> None:
        if self._file is not None:
            file, self._file = self._file, None
            with contextlib.suppress(OSError):
                os.close(file)

    def _rotate(self) -> None:
        self._close_file()
        for number in range(self._backups, 0, -1):
            source = self._path if number == 1 else backup(self._path, number - 1)
            if source.exists():
                source.replace(backup(self._path, number))
        # At once: readers find an instance by this file.
        self._open()


def backup(path: Path, number: int) -> Path:
    """The name of the `number`th older file."""
    return path.with_name(f"{path.name}.{number}")


def _pieces(line: bytes) -> list[bytes]:
    line = line.removesuffix(b"\r")
    return [line[start : start + MAX_LINE] for start in range(0, len(line), MAX_LINE)] or [b""]
