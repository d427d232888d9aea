"""The two directions of an SSH channel, without the surprises that asyncssh puts into them."""

from collections.abc import Callable
from contextlib import suppress

import asyncssh

INTERRUPT = b"\x03"
ALL_THERE_IS = 4 * 1024**2
"""More than asyncssh holds for us. Each time that a reader makes room, it lets the client send another
window full; a reader that takes less than what is there makes the pile grow to the size of the pack."""


class ChannelReader:
    """What the client sends. asyncssh raises a resized window and a signal from `read`; here neither does."""

    def __init__(self, reader: asyncssh.SSHReader[bytes]) -> None:
        self._reader = reader
        self._left = memoryview(b"")
        self._resized: Callable[[int, int], None] | None = None
        self._signalled: Callable[[str], None] | None = None

    def tell(
        self,
        *,
        resized: Callable[[int, int], None] | None,
        signalled: Callable[[str], None] | None,
    ) -> None:
        """Call these from `read`, where the window and signals come to light. None: as if nobody cared."""
        self._resized, self._signalled = resized, signalled

    async def read(self, n: int = -1, /) -> bytes:
        """At most `n` bytes, all of them for -1; nothing at the end. A signal or break reads as Ctrl-C."""
        if n < 0:
            parts = []
            while part := await self.read(ALL_THERE_IS):
                parts.append(part)
            return b"".join(parts)
        if not self._left:
            self._left = memoryview(await self._receive())
        taken, self._left = bytes(self._left[:n]), self._left[n:]
        return taken

    async def _receive(self) -> bytes:
        while True:
            try:
                return await self._reader.read(ALL_THERE_IS)
            except asyncssh.TerminalSizeChanged as change:
                if self._resized is not None:
                    self._resized(change.width, change.height)
            except asyncssh.SignalReceived as received:
                if self._signalled is None:
                    return INTERRUPT
                self._signalled(received.signal)
            except asyncssh.BreakReceived:
                return INTERRUPT
            except (OSError, asyncssh.Error):
                return b""  # the connection is lost


class ChannelWriter:
    """What the client gets. When it has gone, nothing happens."""

    def __init__(self, writer: asyncssh.SSHWriter[bytes]) -> None:
        self._writer = writer

    def write(self, data: bytes, /) -> None:
        with suppress(OSError):
            self._writer.write(data)

    async def drain(self) -> None:
        """Wait until the client has taken most of it."""
        with suppress(OSError, asyncssh.Error):
            await self._writer.drain()
