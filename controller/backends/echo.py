"""What the memory backend runs for whoever is attached: it says again what it is told, and ends with its input."""

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

from controller.backends.base import Terminal

QUEUED = 4
"""Pieces that wait to be taken; then whoever writes waits."""
_CTRL_C, _CTRL_D = b"\x03", b"\x04"
_SIGINT, _SIGKILL = 2, 9


class Echo:
    """Implements Attached."""

    def __init__(self, code: int, terminal: Terminal | None) -> None:
        self._code = code
        self._terminal = terminal
        self._said: asyncio.Queue[bytes] = asyncio.Queue(QUEUED)
        self._over: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def output(self) -> AsyncGenerator[tuple[int, bytes], None]:
        while True:
            taking = asyncio.ensure_future(self._said.get())
            await _either(taking, self._over)
            if not taking.done():
                taking.cancel()
                return
            yield 1, taking.result()

    async def write(self, data: bytes) -> None:
        if self._terminal is not None and _CTRL_C in data:
            return self._end(128 + _SIGINT)
        if self._terminal is not None and _CTRL_D in data:
            return await self.close_input()
        putting = asyncio.ensure_future(self._said.put(data))
        await _either(putting, self._over)
        putting.cancel()
        return None

    async def close_input(self) -> None:
        while not self._said.empty() and not self._over.done():  # noqa: ASYNC110 - until all was taken
            await asyncio.sleep(0.001)
        self._end(self._code)

    def resize(self, columns: int, rows: int) -> None:
        if self._terminal is not None:
            self._terminal = Terminal(columns=columns, rows=rows, kind=self._terminal.kind)

    async def signal(self, number: int) -> None:
        self._end(128 + number)

    async def wait(self) -> tuple[int | None, str]:
        code = await asyncio.shield(self._over)
        return code, f"exited with status {code}"

    async def end(self, *, grace: float = 3.0) -> None:
        self._end(128 + _SIGKILL)

    def _end(self, code: int) -> None:
        if not self._over.done():
            self._over.set_result(code)


async def _either(*waiting: "asyncio.Future[Any]") -> None:
    await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
