"""The client's end of being attached to a one-off: see `controller.api.attach` for what passes."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus

from controller import wire
from controller.errors import InternalFault, MooringError, Unavailable
from controller.problem import MEDIA_TYPE, Problem, error_of
from controller.types import Run
from controller.window import PIECE, Window

OPEN_TIMEOUT = 10.0
START_TIMEOUT = 90.0
"""Seconds until the command runs: its code may have to be unpacked first."""
CLOSE_TIMEOUT = 5.0
SIGN_OF_LIFE = 15.0
"""Seconds between two questions whether the other end is there, and for the answer."""
LARGEST = 1024 * 1024


class Attachment:
    """A one-off that runs elsewhere. Made by `attached`."""

    def __init__(self, socket: ClientConnection, run: Run) -> None:
        self.run = run
        self.exit_code: int | None = None
        """As a shell tells it; there once the output has ended. None: not known."""
        self.detail = ""
        """How it ended, in words."""
        self._socket = socket
        self._window = Window()

    async def output(self) -> AsyncGenerator[tuple[int, bytes], None]:
        """What it prints (1: its output, 2: its errors), until it has ended. Raises the errors of the client."""
        async for message in _messages(self._socket):
            if isinstance(message, bytes):
                yield message[0], message[1:]
                await self._say({"taken": len(message) - 1})
            elif "taken" in message:
                self._window.give(message["taken"])
            elif "exit" in message:
                self.exit_code, self.detail = message["exit"], message["detail"]
                return

    async def write(self, data: bytes) -> None:
        """To its standard input; waits until it takes some."""
        for start in range(0, len(data), PIECE):
            piece = data[start : start + PIECE]
            await self._window.take(len(piece))
            await self._send(piece)

    async def close_input(self) -> None:
        await self._say({"eof": True})

    async def resize(self, columns: int, rows: int) -> None:
        await self._say({"resize": [columns, rows]})

    async def signal(self, name: str) -> None:
        """`INT`, `TERM`, …"""
        await self._say({"signal": name})

    async def _say(self, message: Mapping[str, Any]) -> None:
        await self._send(wire.encode(message).decode())

    async def _send(self, message: str | bytes) -> None:
        try:
            await self._socket.send(message)
        except ConnectionClosed:
            return  # whoever reads the output is told why


@asynccontextmanager
async def attached(
    base_url: str, path: str, *, token: str, order: Mapping[str, Any]
) -> AsyncIterator[Attachment]:
    """Run it for as long as the block lasts. Raises the errors of the client."""
    secure = base_url.startswith("https:")
    try:
        socket = await connect(
            base_url.replace("http", "ws", 1) + path,
            additional_headers={"Authorization": f"Bearer {token}"},
            compression=None,
            open_timeout=OPEN_TIMEOUT,
            close_timeout=CLOSE_TIMEOUT,
            ping_interval=SIGN_OF_LIFE,
            ping_timeout=SIGN_OF_LIFE,
            max_size=LARGEST,
            max_queue=None,  # what may be on its way is bounded by the window
            # A proxy of the environment must not see the token of an unencrypted connection.
            proxy=True if secure else None,
        )
    except InvalidStatus as error:
        raise _refusal(base_url, error) from error
    except (OSError, InvalidHandshake, TimeoutError) as error:
        raise Unavailable(
            f"The server at {base_url} does not take a connection for this: {error or 'no answer'}."
        ) from error
    try:
        await socket.send(wire.encode(order).decode())
        yield Attachment(socket, await _started(socket))
    except ConnectionClosed as error:
        raise _lost() from error
    finally:
        await socket.close()


async def _started(socket: ClientConnection) -> Run:
    async for message in _messages(socket, START_TIMEOUT):
        if isinstance(message, dict) and "started" in message:
            return wire.from_json(Run, message["started"])
    raise _lost()


async def _messages(
    socket: ClientConnection, timeout: float | None = None
) -> AsyncGenerator[bytes | dict[str, Any], None]:
    while True:
        try:
            async with asyncio.timeout(timeout):
                message = await socket.recv()
        except ConnectionClosed as error:
            raise _lost() from error
        except TimeoutError as error:
            raise Unavailable(f"It has not started within {timeout:g} s.") from error
        if isinstance(message, bytes):
            yield message
            continue
        found = wire.decode(dict[str, Any], message)
        if "problem" in found:
            raise error_of(wire.from_json(Problem, found["problem"]))
        yield found


def _lost() -> MooringError:
    return Unavailable("The connection to the server was lost, and with it what ran.")


def _refusal(base_url: str, error: InvalidStatus) -> MooringError:
    answer = error.response
    if answer.headers.get("Content-Type", "").startswith(MEDIA_TYPE) and answer.body:
        try:
            return error_of(wire.decode(Problem, bytes(answer.body)))
        except wire.WireError as off:
            return InternalFault(f"The answer of {base_url} makes no sense to this version of moor: {off}")
    return Unavailable(f"{base_url} answered {answer.status_code}, and not as a Mooring server does.")
