"""Answers that go on: values as they happen, in three forms. NDJSON is for our own client and for `jq`, server-sent
events for browsers, websockets for those who have them anyway."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from contextlib import aclosing, contextmanager
from typing import ClassVar

from starlette.requests import HTTPConnection
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket, WebSocketDisconnect

from controller import wire
from controller.api.limits import OpenStreams
from controller.api.methods import BYTES
from controller.api.problems import answer, told
from controller.errors import Throttled
from controller.problem import Problem
from controller.types import Event

MEDIA_TYPE = "application/x-ndjson"
SSE = "text/event-stream"


@contextmanager
def stream_place(connection: HTTPConnection) -> Iterator[None]:
    """A place among the streams of the asker, for as long as the block lasts. Raises Throttled."""
    places: OpenStreams = connection.app.state.streams
    with places.take(connection.scope["asker"].name):
        yield


class Stream(Response):
    """Sends each value as it comes, a sign of life after `keep_alive` seconds of silence.

    Ends at once when the client goes away, also in the middle of a silence, so that nothing keeps
    following for nobody. An error after the first byte is told as a last value.
    """

    sign_of_life: ClassVar[bytes]

    def __init__(self, values: AsyncIterator[object], *, keep_alive: float) -> None:
        super().__init__()
        del self.headers["content-length"]
        self.headers["cache-control"] = "no-store"
        self.headers["x-accel-buffering"] = "no"  # a proxy in between must not collect lines
        self._values = values
        self._keep_alive = keep_alive

    def written(self, value: object) -> bytes:
        """One value on the wire."""
        raise NotImplementedError

    def written_problem(self, problem: Problem) -> bytes:
        """The last value of a stream that failed."""
        raise NotImplementedError

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            with stream_place(HTTPConnection(scope)):
                await self._until_left(receive, send)
        except Throttled as error:
            await answer(told(error))(scope, receive, send)

    async def _until_left(self, receive: Receive, send: Send) -> None:
        sending = asyncio.ensure_future(self._send(send))
        leaving = asyncio.ensure_future(_disconnected(receive))
        try:
            await asyncio.wait({sending, leaving}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in (sending, leaving):
                each.cancel()
            results = await asyncio.gather(sending, leaving, return_exceptions=True)
        for result in results:
            if isinstance(result, Exception) and not isinstance(result, OSError):
                raise result

    async def _send(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        async with aclosing(self._parts()) as parts:
            async for part in parts:
                await send({"type": "http.response.body", "body": part, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _parts(self) -> AsyncGenerator[bytes, None]:
        upcoming = asyncio.ensure_future(anext(self._values, None))
        try:
            while True:
                await asyncio.wait({upcoming}, timeout=self._keep_alive)
                if not upcoming.done():
                    yield self.sign_of_life
                    continue
                try:
                    value = upcoming.result()
                except Exception as error:
                    yield self.written_problem(told(error))
                    return
                if value is None:
                    return
                yield self.written(value)
                upcoming = asyncio.ensure_future(anext(self._values, None))
        finally:
            upcoming.cancel()
            await asyncio.wait({upcoming})
            await _close(self._values)


class NdjsonStream(Stream):
    """One JSON value a line, blank lines as signs of life; an error becomes a last line `{"problem": {…}}`."""

    media_type = MEDIA_TYPE
    sign_of_life = b"\n"

    def written(self, value: object) -> bytes:
        return wire.encode(value) + b"\n"

    def written_problem(self, problem: Problem) -> bytes:
        return wire.encode({"problem": problem}) + b"\n"


class EventStream(Stream):
    """Server-sent events: `id` is an event's revision, `event` its kind; an error is one of the kind `problem`."""

    media_type = SSE
    sign_of_life = b":\n\n"

    def written(self, value: object) -> bytes:
        assert isinstance(value, Event)
        return _sse({"id": str(value.revision), "event": value.kind}, value)

    def written_problem(self, problem: Problem) -> bytes:
        return _sse({"event": "problem"}, problem)


def _sse(fields: Mapping[str, str], data: object) -> bytes:
    head = "".join(f"{name}: {value}\n" for name, value in fields.items())
    return head.encode() + b"data: " + wire.encode(data) + b"\n\n"


async def serve_socket(socket: WebSocket, values: AsyncIterator[object]) -> None:
    """Accept, and send each value as a JSON text. What the client says is passed over; its leaving ends it.

    An error is told as `{"problem": {…}}`, then the socket is closed with 1008 (it is about the asker) or 1011.
    """
    with stream_place(socket):
        await socket.accept()
        sending = asyncio.ensure_future(_send_all(socket, values))
        leaving = asyncio.ensure_future(_left(socket))
        try:
            await asyncio.wait({sending, leaving}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in (sending, leaving):
                each.cancel()
            results = await asyncio.gather(sending, leaving, return_exceptions=True)
            await _close(values)
    for result in results:
        if isinstance(result, Exception) and not isinstance(result, (OSError, WebSocketDisconnect)):
            raise result


async def _send_all(socket: WebSocket, values: AsyncIterator[object]) -> None:
    async for value in values:
        await socket.send_text(wire.encode(value).decode())
    await socket.close()


async def _left(socket: WebSocket) -> None:
    while (await socket.receive())["type"] != "websocket.disconnect":
        pass


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _close(values: AsyncIterator[object]) -> None:
    close = getattr(values, "aclose", None)
    if close is not None:
        await close()


async def streamed(pieces: AsyncGenerator[bytes, None]) -> Response:
    """Bytes as they come. What fails before the first of them is a problem; later the answer breaks off."""
    first = await anext(pieces, b"")

    async def all_of_it() -> AsyncIterator[bytes]:
        async with aclosing(pieces):
            yield first
            async for piece in pieces:
                yield piece

    return StreamingResponse(all_of_it(), media_type=BYTES, headers={"Cache-Control": "no-store"})
