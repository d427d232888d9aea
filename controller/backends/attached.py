"""The server's end of a command that somebody is attached to: its streams, and the child that keeps it in check.

See `keeper.session` for the other end. The streams don't go through it: here are the ends of the command's
own pipes, or of its terminal.
"""

import asyncio
import contextlib
import fcntl
import json
import os
import struct
import sys
import termios
from collections.abc import AsyncGenerator, Mapping
from typing import Any, Self

from controller.backends.base import BackendError, Terminal

START_TIMEOUT = 30.0
"""Seconds until the command runs."""
END_MARGIN = 25.0
"""Seconds beyond its grace until all of it must be gone."""
PIECE = 32 * 1024
QUEUED = 4
"""Bytes of output read at once, and how many pieces wait to be taken: the command waits meanwhile."""
_CTRL_D = b"\x04"
_IUTF8 = 0o40000
"""Erasing takes whole characters away; termios knows no name for it."""


class AttachedProcess:
    """Implements Attached."""

    def __init__(self, child: asyncio.subprocess.Process, ends: "_Ends") -> None:
        self._child = child
        self._ends = ends
        self._ended: asyncio.Task[tuple[int | None, str]] | None = None

    @classmethod
    async def start(cls, order: Mapping[str, Any], *, terminal: Terminal | None) -> Self:
        """`order` as `keeper.session.Order` parses it, but for the streams. Raises BackendError."""
        ends = await _Ends.open(terminal)
        try:
            child = await asyncio.create_subprocess_exec(
                *(sys.executable, "-I", "-m", "controller.backends.keeper.session"),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
                pass_fds=sorted(set(ends.theirs)),
                env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8", "PYTHONSAFEPATH": "1"},
                cwd="/",
                start_new_session=True,
            )
        except BaseException as error:
            ends.close_theirs()
            ends.close()
            if isinstance(error, OSError):
                raise BackendError(f"No process could be started: {error.strerror}.") from error
            raise
        ends.close_theirs()
        attached = cls(child, ends)
        try:
            async with asyncio.timeout(START_TIMEOUT):
                attached._say({**order, "streams": ends.theirs, "terminal": terminal is not None})
                answer = await attached._answer()
        except BaseException as error:
            await attached.end(grace=0)
            if isinstance(error, TimeoutError):
                raise BackendError(f"It did not start within {START_TIMEOUT:g} s.") from error
            raise
        if "started" not in answer:
            await attached.end(grace=0)
            raise BackendError(f"It could not be started: {answer.get('error', 'its keeper is gone')}")
        attached._ended = asyncio.create_task(attached._wait())
        return attached

    async def output(self) -> AsyncGenerator[tuple[int, bytes], None]:
        pieces: asyncio.Queue[tuple[int, bytes]] = asyncio.Queue(QUEUED)

        async def pump(stream: int, reader: asyncio.StreamReader) -> None:
            # A terminal whose other end is closed answers with an error.
            with contextlib.suppress(OSError):
                while data := await reader.read(PIECE):
                    await pieces.put((stream, data))
            await pieces.put((stream, b""))

        pumps = [asyncio.create_task(pump(*each)) for each in self._ends.readers.items()]
        try:
            left = len(pumps)
            while left:
                stream, data = await pieces.get()
                if data:
                    yield stream, data
                else:
                    left -= 1
        finally:
            for each in pumps:
                each.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)

    async def write(self, data: bytes) -> None:
        with contextlib.suppress(OSError):
            if not self._ends.writer.is_closing():
                self._ends.writer.write(data)
                await self._ends.writer.drain()

    async def close_input(self) -> None:
        if self._ends.master is not None:
            await self.write(_CTRL_D)
        else:
            self._ends.writer.close()

    def resize(self, columns: int, rows: int) -> None:
        if self._ends.master is not None:
            set_size(self._ends.master, columns, rows)

    async def signal(self, number: int) -> None:
        self._say({"signal": number})

    async def wait(self) -> tuple[int | None, str]:
        assert self._ended is not None
        return await asyncio.shield(self._ended)

    async def end(self, *, grace: float = 3.0) -> None:
        self._say({"end": grace})
        try:
            async with asyncio.timeout(grace + END_MARGIN):
                await self._child.wait()
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                self._child.kill()
            await self._child.wait()
        finally:
            self._ends.close()

    async def _wait(self) -> tuple[int | None, str]:
        answer = await self._answer()
        return answer.get("status"), str(answer.get("detail", "its keeper is gone"))

    def _say(self, wish: Mapping[str, Any]) -> None:
        stdin = self._child.stdin
        assert stdin is not None
        if not stdin.is_closing():
            stdin.write(json.dumps(wish).encode() + b"\n")

    async def _answer(self) -> dict[str, Any]:
        """Empty when it is gone without one."""
        assert self._child.stdout is not None
        line = await self._child.stdout.readline()
        answer: dict[str, Any] = json.loads(line) if line else {}
        return answer


class _Ends:
    """Both ends of the streams: theirs are handed over and closed, ours are read and written."""

    def __init__(self) -> None:
        self.theirs: list[int] = []
        self.master: int | None = None
        self.readers: dict[int, asyncio.StreamReader] = {}
        self.writer: asyncio.StreamWriter
        self._transports: list[asyncio.BaseTransport] = []

    @classmethod
    async def open(cls, terminal: Terminal | None) -> Self:
        ends = cls()
        try:
            if terminal is not None:
                await ends._open_terminal(terminal)
            else:
                await ends._open_pipes()
        except OSError as error:
            ends.close_theirs()
            ends.close()
            raise BackendError(f"No streams for it can be had: {error.strerror}.") from error
        return ends

    async def _open_terminal(self, terminal: Terminal) -> None:
        self.master, slave = os.openpty()
        self.theirs = [slave, slave, slave]
        set_size(slave, terminal.columns, terminal.rows)
        modes = termios.tcgetattr(slave)
        modes[0] |= _IUTF8
        termios.tcsetattr(slave, termios.TCSANOW, modes)
        await self._read(1, os.dup(self.master))
        await self._write(os.dup(self.master))

    async def _open_pipes(self) -> None:
        for stream in range(3):
            reader, writer = os.pipe()
            self.theirs.append(reader if stream == 0 else writer)
            await (self._write(writer) if stream == 0 else self._read(stream, reader))

    async def _read(self, stream: int, descriptor: int) -> None:
        reader = asyncio.StreamReader(limit=PIECE)
        loop = asyncio.get_running_loop()
        transport, _ = await loop.connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(descriptor, "rb", 0)
        )
        self.readers[stream] = reader
        self._transports.append(transport)

    async def _write(self, descriptor: int) -> None:
        loop = asyncio.get_running_loop()
        protocol = asyncio.StreamReaderProtocol(asyncio.StreamReader())
        transport, _ = await loop.connect_write_pipe(lambda: protocol, os.fdopen(descriptor, "wb", 0))
        self.writer = asyncio.StreamWriter(transport, protocol, None, loop)
        self._transports.append(transport)

    def close_theirs(self) -> None:
        for each in set(self.theirs):
            os.close(each)

    def close(self) -> None:
        for each in self._transports:
            if not isinstance(each, asyncio.WriteTransport):
                each.close()
            elif not each.is_closing() or each.get_write_buffer_size():
                each.abort()
        self._transports = []
        if self.master is not None:
            os.close(self.master)
            self.master = None


def set_size(descriptor: int, columns: int, rows: int) -> None:
    """Tell a terminal its size, and whatever runs in it that it changed."""
    size = struct.pack("HHHH", min(max(rows, 1), 9999), min(max(columns, 1), 9999), 0, 0)
    with contextlib.suppress(OSError):
        fcntl.ioctl(descriptor, termios.TIOCSWINSZ, size)
