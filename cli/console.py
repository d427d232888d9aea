"""Both ends as bytes, for commands that put a process through to whoever called them."""

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Coroutine, Iterator
from contextlib import AbstractContextManager, aclosing, contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from cli.terminal import StandardInput
    from controller.attachment import Attachment

FORWARDED = ("INT", "TERM", "QUIT", "HUP", "USR1", "USR2")
"""Signals that are passed on where there is no terminal; with one, keys say what is meant."""
Resized = Callable[[int, int], None]
Signalled = Callable[[str], None]


class Console(Protocol):
    """Whoever called the command, as a process would see them."""

    @property
    def size(self) -> tuple[int, int] | None:
        """Columns and rows of the terminal; None: there is none."""

    @property
    def kind(self) -> str:
        """The terminal's TERM."""

    async def read(self) -> bytes:
        """The next piece of input; nothing at its end."""

    async def write(self, stream: int, data: bytes) -> None:
        """To the output (1) or the errors (2); returns once it is passed on. Raises OSError when nobody reads."""

    def attached(self, *, raw: bool, resized: Resized, signalled: Signalled) -> AbstractContextManager[None]:
        """For as long as the block lasts: keys come as they are typed (`raw`), and what happens is told."""


class LocalConsole:
    """The standard streams of this process."""

    def __init__(self, keys: "StandardInput") -> None:
        self._keys = keys

    @property
    def size(self) -> tuple[int, int] | None:
        if not (self._keys.terminal and os.isatty(1)):
            return None
        size = os.get_terminal_size(1)
        return size.columns or 80, size.lines or 24

    @property
    def kind(self) -> str:
        return os.environ.get("TERM") or "xterm"

    async def read(self) -> bytes:
        return await self._keys.some()

    async def write(self, stream: int, data: bytes) -> None:
        await asyncio.to_thread(_write_all, stream, data)

    @contextmanager
    def attached(self, *, raw: bool, resized: Resized, signalled: Signalled) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        names = ("TERM",) if raw else FORWARDED
        sys.stdout.flush()
        for name in names:
            loop.add_signal_handler(signal.Signals[f"SIG{name}"], partial(signalled, name))
        if raw:
            loop.add_signal_handler(signal.SIGWINCH, lambda: resized(*(self.size or (80, 24))))
        try:
            with _raw_mode() if raw else _as_it_is():
                yield
        finally:
            for name in (*names, *(["WINCH"] if raw else [])):
                loop.remove_signal_handler(signal.Signals[f"SIG{name}"])


@contextmanager
def _raw_mode() -> Iterator[None]:
    import termios
    import tty

    before = termios.tcgetattr(0)
    tty.setraw(0, termios.TCSADRAIN)
    try:
        yield
    finally:
        with suppress(termios.error):
            termios.tcsetattr(0, termios.TCSADRAIN, before)


@contextmanager
def _as_it_is() -> Iterator[None]:
    yield


def _write_all(descriptor: int, data: bytes) -> None:
    left = memoryview(data)
    while left:
        try:
            left = left[os.write(descriptor, left) :]
        except BlockingIOError:  # somebody shares it with us, and wants it so
            import select

            select.select([], [descriptor], [])


async def put_through(console: Console, attachment: "Attachment", *, terminal: bool) -> None:
    """Pass on what is typed and what is printed, until the one-off has ended."""
    wishes: asyncio.Queue[Coroutine[Any, Any, None]] = asyncio.Queue()

    async def tell() -> None:
        while True:
            await (await wishes.get())

    async def feed() -> None:
        while data := await console.read():
            await attachment.write(data)
        await attachment.close_input()

    with console.attached(
        raw=terminal,
        resized=lambda columns, rows: wishes.put_nowait(attachment.resize(columns, rows)),
        signalled=lambda name: wishes.put_nowait(attachment.signal(name)),
    ):
        tasks = [asyncio.create_task(tell()), asyncio.create_task(feed())]
        try:
            async with aclosing(attachment.output()) as output:
                async for stream, data in output:
                    await console.write(stream, data)
        finally:
            for each in tasks:
                each.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            while not wishes.empty():
                wishes.get_nowait().close()
