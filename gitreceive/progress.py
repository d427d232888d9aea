"""What a pusher sees while the push runs: headings, details and warnings on side-band 2, and signs of life.

A client that did not ask for side-band gets the same lines over the SSH channel's stderr.
"""

import asyncio
import re
import time
from collections.abc import Callable

BAND_DATA = 1
BAND_PROGRESS = 2
MAX_BAND = 65515
"""Payload bytes of one side-band-64k packet: 65520, less 4 for the length and 1 for the band."""
KEEP_ALIVE = b"0005\x01"
"""A packet of band 1 without content: the sign of life that git's own receive-pack gives."""
MAX_LINE = 4000
"""Characters of one line that are shown; a longer one is cut."""

_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\-_])?")
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


def harmless(text: str) -> str:
    """One line without anything that could steer the reader's terminal."""
    line = _CONTROL.sub("", _ESCAPES.sub("", text.rstrip("\r\n").rpartition("\r")[2]))
    return line if len(line) <= MAX_LINE else line[:MAX_LINE] + "…"


def packets(band: int, payload: bytes) -> bytes:
    """The payload as side-band packets."""
    parts = (payload[start : start + MAX_BAND] for start in range(0, len(payload), MAX_BAND))
    return b"".join(b"%04x%c" % (len(part) + 5, band) + part for part in parts)


class Progress:
    """Prints for one push; `builder.types.BuildOutput` is part of it. Calls come from the event loop only."""

    def __init__(
        self, *, write: Callable[[bytes], None], stderr: Callable[[bytes], None], waiting: Callable[[], int]
    ) -> None:
        """`waiting` tells how many bytes the client has yet to take from us."""
        self._write = write
        self._stderr = stderr
        self._waiting = waiting
        self._band = False
        self._last = time.monotonic()
        self._left_out = 0

    def use_side_band(self) -> None:
        """From now on: the client asked for it, and has sent its commands."""
        self._band = True
        self._last = time.monotonic()

    def step(self, text: str) -> None:
        self._print(f"-----> {harmless(text)}")

    def section(self, text: str) -> None:
        """A bigger heading."""
        self._print(f"=====> {harmless(text)}")

    def line(self, text: str) -> None:
        self._print(f"       {harmless(text)}")

    def warn(self, text: str) -> None:
        for each in text.splitlines() or [""]:
            self._print(f" !     {harmless(each)}")

    async def keep_alive(self, interval: float) -> None:
        """Give a sign of life after each `interval` seconds of silence, until cancelled.

        It also lets us notice a client that has gone: only something sent to it can fail.
        """
        while True:
            silent = time.monotonic() - self._last
            if silent < interval:
                await asyncio.sleep(interval - silent)
                continue
            self._last = time.monotonic()
            if self._band:
                self._write(KEEP_ALIVE)

    def _print(self, line: str) -> None:
        # A client that reads nothing (a suspended terminal) must not make us keep a whole build log for it.
        if self._waiting() > 1024**2:
            self._left_out += 1
            return
        if self._left_out:
            line = f" !     {self._left_out} lines were left out here: your side did not read them.\n{line}"
            self._left_out = 0
        data = line.rstrip().encode() + b"\n"
        self._last = time.monotonic()
        if self._band:
            self._write(packets(BAND_PROGRESS, data))
        else:
            self._stderr(data)
