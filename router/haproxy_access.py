"""Access logs of HAProxy: its standard output is a named pipe, which is read in batches.

Whoever reads may be slow or away: HAProxy writes without waiting, holds the pipe open itself, and counts what
finds no room. Nobody is woken for a line. The pipe outlives us and a reload; only HAProxy's own end empties it.
"""

import contextlib
import errno
import fcntl
import os
import stat
from collections.abc import Iterable
from pathlib import Path

from router.access import AccessBatch, AccessLine, Fault, fair_share

SIZES = (16 * 1024**2, 1024**2)
"""Bytes that the pipe is to hold, where the system lets us: beyond a MiB takes a privilege."""
LONGEST = 4 * 1024**2
"""Bytes taken at once."""
_READ = 64 * 1024
"""Bytes of one read: as long as it takes, nobody can write."""
_WORDS = 14

_UNFIT = dict.fromkeys((*range(32), 34, 92, 127, 0xFFFD), "?")
"""What a line must not hold, to what is put in its place."""

FORMAT = (
    "%[date(0,ms)] %[be_name,map_str(names.map)] %s %ts %ST %B %TR %Tw %Tc %Ta %ci %HM "
    "%[capture.req.hdr(1)] %[capture.req.hdr(0)] %HP"
)
"""What `parse_line` reads. Last comes what clients choose: the host may hold spaces, the path can't."""


class AccessPipe:
    """Everything here blocks, if only for a moment."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: int | None = None
        self._rest = b""

    def hold(self) -> None:
        """Begin to read: from here on its content outlives HAProxy too. Nothing where there is no pipe yet."""
        if self._file is None:
            with contextlib.suppress(FileNotFoundError):
                self._file = os.open(self.path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)

    def open_for_writing(self) -> int:
        """A descriptor to be HAProxy's standard output; with it HAProxy is a reader too, so that the pipe stays."""
        with contextlib.suppress(FileExistsError):
            os.mkfifo(self.path, 0o600)
        if not stat.S_ISFIFO(self.path.stat().st_mode):
            raise OSError(errno.EEXIST, f"{self.path} is no pipe")
        file = os.open(self.path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        for size in SIZES:
            with contextlib.suppress(OSError):
                fcntl.fcntl(file, fcntl.F_SETPIPE_SZ, size)
                break
        return file

    def is_written_by(self, pid: int) -> bool:
        """Whether that process has it as its standard output: one that an older release started has not."""
        try:
            theirs, ours = Path(f"/proc/{pid}/fd/1").stat(), self.path.stat()
        except OSError:
            return False
        return (theirs.st_dev, theirs.st_ino) == (ours.st_dev, ours.st_ino)

    def take(self, *, most: int) -> tuple[AccessBatch, bool]:
        """What is in it, and whether it was full."""
        data, was_full = self._read()
        *lines, self._rest = (self._rest + data).split(b"\n")
        return parse_batch(lines, most=most), was_full

    def note_dropped(self, pid: int, count: int) -> int:
        """How many of the lines that this process dropped were not noted before; remembered over our own end."""
        noted = self.path.with_suffix(".dropped")
        try:
            known_pid, known = (int(each) for each in noted.read_text().split())
        except (OSError, ValueError):
            known_pid, known = pid, 0
        if (pid, count) != (known_pid, known):
            noted.write_text(f"{pid} {count}\n")
        return count - known if known_pid == pid and count >= known else count

    def close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _read(self) -> tuple[bytes, bool]:
        self.hold()
        if self._file is None:
            return b"", False
        room = fcntl.fcntl(self._file, fcntl.F_GETPIPE_SZ)
        pieces, size = [], 0
        with contextlib.suppress(BlockingIOError):
            while size < LONGEST and (piece := os.read(self._file, _READ)):
                pieces.append(piece)
                size += len(piece)
        # Pages are not filled to their last byte.
        return b"".join(pieces), bool(pieces) and size >= room * 3 // 4


def parse_batch(lines: Iterable[bytes], *, most: int) -> AccessBatch:
    """Whatever is no line of a request to a pool is passed over. What is only counted costs next to nothing."""
    pools: dict[bytes, list[bytes]] = {}
    for line in lines:
        words = line.split(b" ", 2)
        if len(words) == 3 and words[1] != b"-":
            pools.setdefault(words[1], []).append(line)
    share = fair_share([len(each) for each in pools.values()], most)
    found = [read for each in pools.values() for raw in each[:share] if (read := parse_line(raw)) is not None]
    skipped = {
        name.decode(errors="replace"): len(each) - share for name, each in pools.items() if len(each) > share
    }
    return AccessBatch(found, skipped)


def parse_line(line: bytes) -> AccessLine | None:
    """None when it is not written as `FORMAT` says."""
    text = line.decode("ascii", "replace")
    if not text.isprintable() or '"' in text or "\\" in text or not text.isascii():
        text = text.translate(_UNFIT)
    words = text.split(" ", _WORDS - 1)
    try:
        (
            ended,
            pool,
            server,
            end,
            status,
            size,
            read,
            queued,
            connect,
            active,
            client,
            method,
            request,
            rest,
        ) = words
        host, _, path = rest.rpartition(" ")
        connected = max(0, int(connect))
        waited = max(0, int(read)) + max(0, int(queued)) + connected
        return AccessLine(
            int(ended) / 1000,
            pool,
            "" if server[0] == "<" else server,
            None if end == "--" else find_fault(end, server, int(status)),
            max(0, int(status)),
            int(size),
            connected,
            max(0, int(active) - waited),
            client,
            method,
            host.replace(" ", "?"),
            path,
            request,
        )
    except ValueError:
        return None


_FAULTS = {
    "SC": Fault.REFUSED,
    "sC": Fault.CONNECT_TIMEOUT,
    "sQ": Fault.QUEUE_TIMEOUT,
    "sH": Fault.ANSWER_TIMEOUT,
    "SH": Fault.NO_ANSWER,
    "PH": Fault.BAD_ANSWER,
    "PR": Fault.BAD_REQUEST,
    "cR": Fault.CLIENT_TIMEOUT,
    "sD": Fault.IDLE,
    "cD": Fault.IDLE,
}
"""How HAProxy writes that a session ended: who ended it, and when in its life."""
_ENDED_BY = {
    "C": Fault.CLIENT_GONE,
    "c": Fault.CLIENT_TIMEOUT,
    "S": Fault.CUT_OFF,
    "s": Fault.IDLE,
    "P": Fault.BAD_ANSWER,
    "D": Fault.CUT_OFF,
    "K": Fault.CUT_OFF,
    "R": Fault.ROUTER,
    "I": Fault.ROUTER,
}


def find_fault(end: str, server: str, status: int) -> Fault | None:
    """None for a request that was answered, whatever the answer."""
    if end.startswith("-"):
        return None
    if end.startswith("L"):
        # Answered by the router itself; what it does so for pools is the page of maintenance.
        return Fault.MAINTENANCE if status == 503 else None
    if end == "SC" and server.startswith("<"):
        return Fault.NO_TARGET
    return _FAULTS.get(end) or _ENDED_BY.get(end[:1], Fault.ROUTER)
