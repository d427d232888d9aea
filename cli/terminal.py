"""The Context of a command on somebody's own machine: the process's streams, folder and environment."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from cli.context import Context
from cli.folder import Folder
from cli.output import Output

if TYPE_CHECKING:
    from cli.console import Console
    from controller.client import Client


class Stream:
    """A Sink on a standard stream, flushed at each write so that `moor logs -t | grep` is live."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()

    async def drain(self) -> None:
        """Writes to a local stream wait by themselves."""


class StandardInput:
    """Reads file descriptor 0 without a thread, so that Ctrl-C ends a question at once."""

    def __init__(self, descriptor: int = 0) -> None:
        self._descriptor = descriptor
        self._kept = b""

    @property
    def terminal(self) -> bool:
        return os.isatty(self._descriptor)

    async def line(self, *, hidden: bool = False) -> str:
        with _no_echo(self._descriptor) if hidden and self.terminal else nullcontext():
            while b"\n" not in self._kept:
                more = await self._more()
                if not more:
                    break
                self._kept += more
        line, _, self._kept = self._kept.partition(b"\n")
        return line.decode("utf-8", "replace").rstrip("\r")

    async def everything(self) -> str:
        while more := await self._more():
            self._kept += more
        text, self._kept = self._kept, b""
        return text.decode("utf-8", "replace")

    async def some(self) -> bytes:
        """What is there, as it came; nothing at the end."""
        if not self._kept:
            return await self._more()
        found, self._kept = self._kept, b""
        return found

    async def _more(self) -> bytes:
        import asyncio

        loop = asyncio.get_running_loop()
        ready = asyncio.Event()
        try:
            loop.add_reader(self._descriptor, ready.set)
        except PermissionError:
            return os.read(self._descriptor, 65536)  # a regular file: always ready
        try:
            await ready.wait()
        finally:
            loop.remove_reader(self._descriptor)
        return os.read(self._descriptor, 65536)


@contextmanager
def _no_echo(descriptor: int) -> Iterator[None]:
    import termios

    before = termios.tcgetattr(descriptor)
    silent = [*before]
    silent[3] &= ~termios.ECHO
    termios.tcsetattr(descriptor, termios.TCSADRAIN, silent)
    try:
        yield
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


def local_console(keys: StandardInput) -> "Console":
    """Loaded for the few commands that need it."""
    from cli.console import LocalConsole

    return LocalConsole(keys)


def local_context() -> Context:
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError):
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    terminal = sys.stdout.isatty()
    output = Output(
        Stream(sys.stdout), Stream(sys.stderr), terminal=terminal, raw=not terminal, width=_width(terminal)
    )
    keys = StandardInput()
    return Context(
        output=output,
        input=keys,
        open_console=lambda: local_console(keys),
        connect=connect,
        folder=Folder(Path(), os.environ),
        environ=os.environ,
    )


def _width(terminal: bool) -> int:
    with suppress(OSError, ValueError):
        if terminal:
            return max(40, min(os.get_terminal_size(sys.stdout.fileno()).columns, 120))
    return 100


def connect(context: Context) -> "Client":
    """The client for the server that environment, `--server` or `moor login` name."""
    from urllib.parse import urlsplit

    from cli.credentials import find_server

    found = find_server(context.environ, wanted=context.server)
    context.server_host = urlsplit(found.url).hostname
    return open_client(found.url, found.token)


def open_client(url: str, token: str) -> "Client":
    """A client on this machine, loaded now: nothing else of a command takes as long."""
    # httpx brings a command line of its own along, and that loads rich where it is installed: 50 ms.
    sys.modules.setdefault("httpx._main", None)  # type: ignore[arg-type]
    from controller.client import Client

    return Client(url, token)


def quiet_exit(status: int) -> int:
    """Flush what is left; a reader that has gone is no news (Python would print a traceback at exit)."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return status or 141
    return status
