"""Being attached to a one-off, by websocket: see `PROTOCOL`."""

import asyncio
import signal
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager, aclosing
from typing import Any

from fastapi import APIRouter, WebSocket
from pydantic import Field, ValidationError
from starlette.websockets import WebSocketDisconnect

from controller import wire
from controller.api.auth import Asker
from controller.api.bodies import Body
from controller.api.paths import SERVICE, At
from controller.api.runs import NewRun
from controller.api.streams import stream_place
from controller.backends.base import Attached, Terminal
from controller.errors import InvalidInput
from controller.names import Address
from controller.operations.access import Actor
from controller.operations.attaching import Attachment, AttachOperations
from controller.window import PIECE, WINDOW, Window

PROTOCOL = """
Being attached to a one-off is a websocket, `/v1/deployments/{deployment}/services/{service}/attach`.
The client's first message is an order as JSON text: the `command`, `env`, `ttl` and `type` of a
detached run, `terminal` (`columns`, `rows`, `kind`; null: none) and `enter` (a process such as web.1,
empty for any, null for a fresh one). The answer is `{"started": …}` with the run. From then on

    binary, to the server      a piece of its standard input
    binary, to the client      a byte 1 or 2 (its output or its errors), then a piece of that
    {"taken": N}               both ways: so many bytes of pieces were passed on; 256 KiB may be on their way
    {"eof": true}              to the server: the end of its standard input
    {"resize": [COLUMNS, ROWS]}, {"signal": "INT"}
    {"exit": N, "detail": …}   to the client, last of all: as a shell tells it; null where it is not known
    {"problem": …}             to the client, instead

Closing the connection ends what runs.
"""
ORDER_TIMEOUT = 15.0
"""Seconds until a client must have said what it wants."""
SIGNALS = {each.name.removeprefix("SIG"): int(each) for each in signal.Signals if each.name.startswith("SIG")}


class Screen(Body):
    columns: int = Field(80, ge=1, le=9999)
    rows: int = Field(24, ge=1, le=9999)
    kind: str = Field("xterm", pattern=r"^[A-Za-z0-9._+-]{1,40}$", description="Its TERM.")


class AttachOrder(NewRun):
    command: list[str] = Field([], description="As of a detached run; nothing: a shell, where one enters.")
    terminal: Screen | None = Field(None, description="Null: none, with output and errors apart.")
    enter: str | None = Field(
        None, description="A process (web.1) or instance to be in; empty: any; null: a fresh one."
    )


def routes(attaching: AttachOperations) -> APIRouter:
    router = APIRouter(tags=["one-offs"])

    @router.websocket(f"{SERVICE}/attach")
    async def attach(socket: WebSocket, asker: Asker, at: At) -> None:
        with stream_place(socket):
            await socket.accept()
            try:
                order = await _order(socket)
                async with _attached(attaching, asker, at, order) as attachment:
                    await socket.send_text(wire.encode({"started": attachment.run}).decode())
                    await _Pass(socket, attachment).until_the_end()
                await socket.close()
            except WebSocketDisconnect:
                return

    return router


def _attached(
    attaching: AttachOperations, asker: Actor, at: Address, order: AttachOrder
) -> AbstractAsyncContextManager[Attachment]:
    screen = order.terminal
    terminal = Terminal(columns=screen.columns, rows=screen.rows, kind=screen.kind) if screen else None
    if order.enter is None:
        return attaching.run(asker, at, order.order(), terminal)
    return attaching.enter(asker, at, order.enter or None, order.order(), terminal)


async def _order(socket: WebSocket) -> AttachOrder:
    try:
        async with asyncio.timeout(ORDER_TIMEOUT):
            text = await socket.receive_text()
        return AttachOrder.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"])) or "order"
        raise InvalidInput(field, f"{field}: {first['msg']}.") from error
    except TimeoutError as error:
        raise InvalidInput("order", f"No order came within {ORDER_TIMEOUT:g} s.") from error
    except KeyError as error:
        raise InvalidInput("order", "The first message must be an order, as JSON text.") from error


class _Pass:
    """Passes on what comes from either side, until the command has ended or the client is gone."""

    def __init__(self, socket: WebSocket, attachment: Attachment) -> None:
        self._socket = socket
        self._attachment = attachment
        self._input: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._untaken = 0
        """Bytes of input that were received and not passed on yet."""
        self._window = Window()

    @property
    def _process(self) -> Attached:
        return self._attachment.process

    async def until_the_end(self) -> None:
        """Raises WebSocketDisconnect, InvalidInput."""
        ways = [asyncio.create_task(each) for each in (self._listen(), self._print())]
        feeding = asyncio.create_task(self._feed())
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in (*ways, feeding):
                each.cancel()
            results = await asyncio.gather(*ways, feeding, return_exceptions=True)
        for result in results:
            if isinstance(result, Exception):
                raise result

    async def _listen(self) -> None:
        """What the client says; never waits for the command, so that signs of life are seen."""
        while True:
            message = await self._socket.receive()
            if message["type"] == "websocket.disconnect":
                raise WebSocketDisconnect(message.get("code", 1006))
            piece = message.get("bytes")
            if piece is None:
                await self._obey(_wish(message.get("text") or ""))
                continue
            self._untaken += len(piece)
            if self._untaken > WINDOW + 2 * PIECE:
                raise InvalidInput("input", "More input came than was asked for: wait for what was taken.")
            self._input.put_nowait(piece)

    async def _obey(self, wish: Mapping[str, Any]) -> None:
        match wish:
            case {"taken": int(count)} if 0 <= count <= WINDOW + 2 * PIECE:
                self._window.give(count)
            case {"eof": True}:
                self._input.put_nowait(None)
            case {"resize": [int(columns), int(rows)]}:
                self._process.resize(columns, rows)
            case {"signal": str(name)} if name in SIGNALS:
                await self._process.signal(SIGNALS[name])
            case _:
                raise InvalidInput("message", "This message is none of those that are known here.")

    async def _feed(self) -> None:
        while (piece := await self._input.get()) is not None:
            await self._process.write(piece)
            self._untaken -= len(piece)
            await self._tell({"taken": len(piece)})
        await self._process.close_input()

    async def _print(self) -> None:
        async with aclosing(self._process.output()) as output:
            async for stream, data in output:
                await self._window.take(len(data))
                await self._socket.send_bytes(bytes([stream]) + data)
        code, detail = await self._attachment.outcome()
        await self._tell({"exit": code, "detail": detail})

    async def _tell(self, message: Mapping[str, Any]) -> None:
        await self._socket.send_text(wire.encode(message).decode())


def _wish(text: str) -> Mapping[str, Any]:
    try:
        found = wire.decode(dict[str, Any], text)
    except wire.WireError as error:
        raise InvalidInput("message", "A text message must be a JSON object.") from error
    return found
