"""The same commands for somebody who came over SSH: bytes of a channel instead of a terminal.

The endpoint hands over what a session has. Here the words are parsed and run in the caller's event
loop; cancelling the call (the terminal closed) ends the command.
"""

import asyncio
import codecs
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Protocol

from cli.console import Resized, Signalled
from cli.context import Context
from cli.main import INTERRUPTED_STATUS, load, run_words
from cli.output import Output
from cli.verbs import VERBS
from controller.errors import InvalidInput
from controller.window import PIECE

if TYPE_CHECKING:
    from controller.client import Client

MAX_INPUT = 1024 * 1024
MAX_LINES = 1000
QUEUED = 4
"""Bytes that a command reads from a session, and lines that wait to be read: keys and answers are small. And
pieces of keys that wait for whoever takes them as they are."""

# A server runs for months: commands loaded late could be those of a newer version on the disk.
for _name in VERBS:
    load(_name)

_INTERRUPT, _END, _ERASE, _KILL_LINE = "\x03", "\x04", "\x08\x7f", "\x15"


class Reader(Protocol):
    """A session's input; an empty answer is its end. Where nobody wants to be told a signal, it reads as Ctrl-C."""

    async def read(self, n: int = -1, /) -> bytes: ...
    def tell(
        self,
        *,
        resized: Callable[[int, int], None] | None,
        signalled: Callable[[str], None] | None,
    ) -> None:
        """Call these when the client's terminal has another size, and when it sends a signal."""


class Writer(Protocol):
    """A session's output."""

    def write(self, data: bytes, /) -> None: ...
    async def drain(self) -> None: ...


class ChannelSink:
    """`terminal`: the client's terminal is in raw mode, so that a new line needs a carriage return."""

    def __init__(self, writer: Writer, *, terminal: bool) -> None:
        self._writer = writer
        self._newline = "\r\n" if terminal else "\n"

    def write(self, text: str) -> None:
        self._writer.write(text.replace("\n", self._newline).encode("utf-8", "backslashreplace"))

    async def drain(self) -> None:
        await self._writer.drain()


class ChannelInput:
    """Input of a session without a terminal: as it comes."""

    terminal = False

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._kept = b""

    async def line(self, *, hidden: bool = False) -> str:
        while b"\n" not in self._kept and await self._more():
            pass
        line, _, self._kept = self._kept.partition(b"\n")
        return line.decode("utf-8", "replace").rstrip("\r")

    async def everything(self) -> str:
        while await self._more():
            pass
        text, self._kept = self._kept, b""
        return text.decode("utf-8", "replace")

    async def _more(self) -> bool:
        more = await self._reader.read(65536)
        self._kept += more
        if len(self._kept) > MAX_INPUT:
            raise InvalidInput("input", f"More than {MAX_INPUT // 1024} KiB came on standard input.")
        return bool(more)


class TerminalInput:
    """Input of a session with a terminal, which is in raw mode at the client's end: keys come one by one.

    Somebody has to do what a terminal's driver does: show what is typed, take it back, and make an
    end at Ctrl-C. `listen` does, for as long as the command runs.
    """

    terminal = True

    def __init__(self, reader: Reader, echo: ChannelSink) -> None:
        self._reader = reader
        self._echo = echo
        self._typed = ""
        self._asking = False
        self._hidden = False
        self._lines: asyncio.Queue[str | None] = asyncio.Queue()
        self._ahead = b""
        """What was typed before somebody wanted it as it came."""
        self._claimed: asyncio.Queue[bytes] | None = None
        self._over = False

    async def some(self) -> bytes:
        """Keys as they are typed; nothing at the end. From the first call on they mean nothing to us."""
        if self._claimed is None:
            self._claimed = asyncio.Queue(QUEUED)
            if self._over:
                self._claimed.put_nowait(b"")
            if self._ahead:
                return self._ahead
        return await self._claimed.get()

    async def line(self, *, hidden: bool = False) -> str:
        self._asking, self._hidden = True, hidden
        try:
            return await self._lines.get() or ""
        finally:
            self._asking = self._hidden = False

    async def everything(self) -> str:
        lines = []
        while (line := await self._lines.get()) is not None:
            lines.append(line)
        return "\n".join(lines)

    async def listen(self) -> None:
        """Take keys until Ctrl-C; at the end of input wait for ever, as the command may go on."""
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        while keys := await self._reader.read(PIECE):
            if self._claimed is not None:
                await self._claimed.put(keys)
                continue
            self._ahead = (self._ahead + keys)[:PIECE]
            for key in decoder.decode(keys):
                if key == _INTERRUPT:
                    self._show("^C\n")
                    return
                self._take(key)
        self._over = True
        self._lines.put_nowait(None)
        if self._claimed is not None:
            await self._claimed.put(b"")
        await asyncio.Event().wait()

    def _take(self, key: str) -> None:
        if key in "\r\n":
            if self._lines.qsize() < MAX_LINES:  # many commands read none of what is typed
                self._lines.put_nowait(self._typed)
            self._typed = ""
            self._show("\n")
        elif key == _END and not self._typed:
            if self._lines.qsize() < MAX_LINES:
                self._lines.put_nowait(None)
        elif key in _ERASE:
            if self._typed:
                self._show("\b \b")
            self._typed = self._typed[:-1]
        elif key == _KILL_LINE:
            self._show("\b \b" * len(self._typed))
            self._typed = ""
        elif key.isprintable() and len(self._typed) < MAX_INPUT:
            self._typed += key
            if not self._hidden:
                self._show(key)

    def _show(self, text: str) -> None:
        if self._asking:
            self._echo.write(text)


class SshConsole:
    """Implements Console for a session."""

    def __init__(
        self,
        keys: TerminalInput | None,
        reader: Reader,
        out: Writer,
        err: Writer,
        *,
        size: tuple[int, int] | None,
        kind: str,
    ) -> None:
        self.size = size
        self.kind = kind
        self._keys = keys
        self._reader = reader
        self._writers = {1: out, 2: err}

    async def read(self) -> bytes:
        return await (self._reader.read(PIECE) if self._keys is None else self._keys.some())

    async def write(self, stream: int, data: bytes) -> None:
        self._writers[stream].write(data)
        await self._writers[stream].drain()

    @contextmanager
    def attached(self, *, raw: bool, resized: Resized, signalled: Signalled) -> Iterator[None]:
        # A terminal at the other end is in raw mode already.
        self._reader.tell(resized=resized, signalled=signalled)
        try:
            yield
        finally:
            self._reader.tell(resized=None, signalled=None)


async def run_over_ssh(
    argv: Sequence[str],
    *,
    user: str,
    connect: Callable[[], "Client"],
    stdin: Reader,
    stdout: Writer,
    stderr: Writer,
    size: tuple[int, int] | None,
    terminal_kind: str = "",
) -> int:
    """Run one admin command; its exit status. `size`: columns and rows of the client's terminal, if it has one.
    `terminal_kind`: its TERM.

    `connect` opens a client that asks on behalf of `user`; it is closed at the end.
    """
    terminal = size is not None
    out, err = ChannelSink(stdout, terminal=terminal), ChannelSink(stderr, terminal=terminal)
    keys = TerminalInput(stdin, err) if terminal else None
    width = max(40, min(size[0] or 80, 120)) if size else 100
    context = Context(
        output=Output(out, err, terminal=terminal, width=width),
        input=keys or ChannelInput(stdin),
        open_console=lambda: SshConsole(
            keys, stdin, stdout, stderr, size=size, kind=terminal_kind or "xterm"
        ),
        connect=lambda _: connect(),
        user=user,
    )
    if keys is None:
        status = await run_words(argv, context)
    else:
        status = await _until_interrupted(run_words(argv, context), keys.listen())
    with suppress(OSError):
        await err.drain()
    return status


async def _until_interrupted(command: Coroutine[Any, Any, int], interrupt: Coroutine[Any, Any, None]) -> int:
    running = asyncio.ensure_future(command)
    listening = asyncio.ensure_future(interrupt)
    try:
        await asyncio.wait((running, listening), return_when=asyncio.FIRST_COMPLETED)
        return running.result() if running.done() else INTERRUPTED_STATUS
    finally:
        for task in (running, listening):
            task.cancel()
        await asyncio.gather(running, listening, return_exceptions=True)
