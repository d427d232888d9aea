"""Between dulwich, which blocks in a thread, and the streams of an SSH channel on the event loop."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, TypeVar

from dulwich.errors import HangupException

from gitreceive.command import ByteReader, ByteWriter

T = TypeVar("T")

CHUNK = 256 * 1024
READ_TIMEOUT = 1800.0
"""Seconds without a byte from a client that owes us some; then the push ends. Long, because git sends
nothing while it packs a large history; a link that is dead shows by SSH's own keep-alive, much sooner."""
MID_PACK_TIMEOUT = 120.0
"""The same once the pack has begun: git packs first and sends then."""


class Bridge:
    """One push's bytes and calls.

    `read`, `recv`, `write` and `call` are for the thread; everything else is for the event loop.
    """

    def __init__(
        self,
        reader: ByteReader,
        writer: ByteWriter,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._reader = reader
        self._writer = writer
        self._ahead = bytearray()
        self._task: asyncio.Task[Any] | None = None
        self._gone = False
        self._finishing = False
        self.patience = READ_TIMEOUT
        """Seconds without a byte after which reading raises TimeoutError."""

    def call(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Run this on the event loop and wait for it. Raises HangupException when the client went away."""

        async def tracked() -> T:
            self._task = asyncio.current_task()
            if self._gone and not self._finishing:
                raise HangupException
            try:
                return await work()
            except asyncio.CancelledError:
                # Not passed on as such: in the thread it would look like a cancelled future, whose
                # task may still be at work.
                raise HangupException from None
            finally:
                self._task = None

        return asyncio.run_coroutine_threadsafe(tracked(), self._loop).result()

    def read(self, size: int) -> bytes:
        """Exactly `size` bytes, fewer only at the end of the stream."""
        # What is there already is taken without going to the event loop, which is at rest between calls.
        while len(self._ahead) < size and self.call(self._fill):
            pass
        return self._take(size)

    def recv(self, size: int) -> bytes:
        """At least one byte, none only at the end of the stream."""
        return self._take(size) if self._ahead else self.call(lambda: self.some(size))

    def nested_read(self, size: int, *, exact: bool) -> bytes:
        """As `read` or `recv`, for another thread, which works for what `call` runs now."""
        if self._gone:
            raise HangupException
        work = self._exactly(size) if exact else self.some(size)
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def write(self, data: bytes) -> None:
        """Hand these bytes to the channel, in order with what the event loop writes."""
        self._loop.call_soon_threadsafe(self._writer.write, data)

    def write_and_wait(self, data: bytes) -> None:
        """As `write`, and wait until the client has taken most of what it was sent."""
        self.write(data)
        self.call(self._writer.drain)

    async def stream(self, limit: int = CHUNK) -> AsyncIterator[bytes]:
        """All that the client still sends, until it closes its side."""
        while chunk := await self.some(limit):
            yield chunk

    async def peek(self, size: int) -> bytes:
        """The next `size` bytes, which stay to be read; fewer only at the end of the stream."""
        while len(self._ahead) < size and await self._fill():
            pass
        return bytes(self._ahead[:size])

    def disconnect(self) -> None:
        """The client has gone: end what runs for it, unless that is past the point of no return."""
        self._gone = True
        if self._task is not None and not self._finishing:
            self._task.cancel()

    def finish(self) -> None:
        """From here on the work is done to its end, with or without its client."""
        self._finishing = True

    def abort(self) -> None:
        """The server stops: end what runs, whatever it is."""
        self._finishing = False
        self.disconnect()

    async def _exactly(self, size: int) -> bytes:
        await self.peek(size)
        return self._take(size)

    async def some(self, size: int = CHUNK) -> bytes:
        """What the client sends next, none only at the end of the stream."""
        return self._take(size) if self._ahead else await self._chunk(size)

    def _take(self, size: int) -> bytes:
        taken = bytes(self._ahead[:size])
        del self._ahead[:size]
        return taken

    async def _fill(self) -> bool:
        chunk = await self._chunk(CHUNK)
        self._ahead += chunk
        return bool(chunk)

    async def _chunk(self, size: int) -> bytes:
        async with asyncio.timeout(self.patience):
            return await self._reader.read(size)
