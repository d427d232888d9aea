"""The two directions of an SSH channel, without the surprises that asyncssh puts into them."""

from contextlib import suppress

import asyncssh

INTERRUPT = b"\x03"


class ChannelReader:
    """What the client sends. asyncssh raises a resized window and a signal from `read`; here neither does."""

    def __init__(self, reader: asyncssh.SSHReader[bytes]) -> None:
        self._reader = reader

    async def read(self, n: int = -1, /) -> bytes:
        """At most `n` bytes, all of them for -1; nothing at the end. A signal or break reads as Ctrl-C."""
        while True:
            try:
                return await self._reader.read(n)
            except asyncssh.TerminalSizeChanged:
                continue
            except (asyncssh.BreakReceived, asyncssh.SignalReceived):
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
