"""From what the engine kept of an instance's output to stamped lines, exactly once. Nothing here performs.

The engine stamps each piece of output when it comes; these stamps go into our file. So whoever goes on later
knows from the file alone what it has: everything before its last stamp, and as many lines with that one.
"""

import calendar
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from controller.backends.docker.wire import Frames
from controller.backends.keeper.output import MAX_LINE

PIECE = 16 * 1024
"""Bytes of a longer line that an engine keeps at once."""
WIDTH = 27
"""Bytes of a stamp: to the microsecond, with its Z."""


@dataclass(frozen=True)
class Mark:
    """Up to where a file has an instance's lines."""

    stamp: bytes = b""
    """Of its last line; empty: it has none."""
    lines: int = 0
    """How many of its last lines have that stamp."""

    @property
    def since(self) -> str:
        """The same moment as an engine takes it: seconds since 1970; "0" for all there is."""
        if not self.stamp:
            return "0"
        whole, _, fraction = self.stamp.decode()[:-1].partition(".")
        return f"{calendar.timegm(time.strptime(whole, '%Y-%m-%dT%H:%M:%S'))}.{fraction}000"


class Lines:
    """Takes the stream of one instance, which begins at or before a mark."""

    def __init__(self, mark: Mark) -> None:
        self._frames = Frames()
        self._partial: dict[int, tuple[bytes, bytes]] = {}
        """Of each stream: stamp and beginning of a line whose end has yet to come."""
        self._skip_at = mark.stamp
        self._skip = mark.lines
        self.mark = mark

    def feed(self, data: bytes) -> bytes:
        """Lines of our file, from what came, cut anywhere."""
        found: list[bytes] = []
        for stream, piece in self._frames.feed(data):
            stamp, _, text = piece.partition(b" ")
            self._take(stream, to_width(stamp), text, found)
        return b"".join(found)

    def finish(self) -> bytes:
        """The stream has ended: last lines may lack their newline."""
        found: list[bytes] = []
        for stamp, text in self._partial.values():
            self._put(stamp, [text], found)
        self._partial = {}
        return b"".join(found)

    def _take(self, stream: int, stamp: bytes, text: bytes, found: list[bytes]) -> None:
        begun, before = self._partial.pop(stream, (stamp, b""))
        if before and begun != stamp:
            # The pieces of one line have one stamp: that one ended without a newline, with its process.
            self._put(begun, [before], found)
            before = b""
        # Some engines forget the newline of a line that came in pieces; but only its last piece may be short.
        whole = text.endswith(b"\n") or len(text) < PIECE
        text = before + text
        pieces = _pieces(text.removesuffix(b"\n").removesuffix(b"\r") if whole else text)
        if not whole:
            self._partial[stream] = (stamp, pieces.pop())
        self._put(stamp, pieces, found)

    def _put(self, stamp: bytes, pieces: Iterable[bytes], found: list[bytes]) -> None:
        for piece in pieces:
            if stamp == self._skip_at and self._skip:
                self._skip -= 1
                continue
            count = self.mark.lines + 1 if stamp == self.mark.stamp else 1
            self.mark = Mark(stamp, count)
            found.append(b"%s app %s\n" % (stamp, piece))


def to_width(stamp: bytes) -> bytes:
    """An engine leaves zeros at the end away, or has more digits than we keep."""
    whole, _, fraction = stamp.rstrip(b"Z").partition(b".")
    return b"%s.%sZ" % (whole, fraction[:6].ljust(6, b"0"))


def _pieces(line: bytes) -> list[bytes]:
    return [line[start : start + MAX_LINE] for start in range(0, len(line), MAX_LINE)] or [b""]


def last_mark(blocks: Iterable[bytes]) -> Mark:
    """From the lines of a file, its last block first."""
    stamp, count = b"", 0
    for block in blocks:
        for line in reversed(block.split(b"\n")[:-1]):
            if line[WIDTH : WIDTH + 5] != b" app " and line[WIDTH:] != b" app":
                continue
            if not stamp:
                stamp = line[:WIDTH]
            if line[:WIDTH] != stamp:
                return Mark(stamp, count)
            count += 1
    return Mark(stamp, count)


def last_note(blocks: Sequence[bytes]) -> bytes:
    """The stamp of the last line of ours in them; empty where there is none."""
    for block in blocks:
        for line in reversed(block.split(b"\n")[:-1]):
            if line[WIDTH : WIDTH + 8] == b" system ":
                return line[:WIDTH]
    return b""
