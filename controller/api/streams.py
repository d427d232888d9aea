"""Answers that go on: one JSON value a line, as it happens."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from controller import wire
from controller.api.problems import told

MEDIA_TYPE = "application/x-ndjson"


class NdjsonStream(Response):
    """Sends each value as it comes, a blank line after `keep_alive` seconds of silence.

    Ends at once when the client goes away, also in the middle of a silence, so that nothing keeps
    following for nobody. An error after the first byte becomes a last line `{"problem": {…}}`.
    """

    media_type = MEDIA_TYPE

    def __init__(self, values: AsyncIterator[object], *, keep_alive: float) -> None:
        super().__init__()
        del self.headers["content-length"]
        self.headers["cache-control"] = "no-store"
        self.headers["x-accel-buffering"] = "no"  # a proxy in between must not collect lines
        self._values = values
        self._keep_alive = keep_alive

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
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
        async with aclosing(self._lines()) as lines:
            async for line in lines:
                await send({"type": "http.response.body", "body": line, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _lines(self) -> AsyncGenerator[bytes, None]:
        upcoming = asyncio.ensure_future(anext(self._values, None))
        try:
            while True:
                await asyncio.wait({upcoming}, timeout=self._keep_alive)
                if not upcoming.done():
                    yield b"\n"
                    continue
                try:
                    value = upcoming.result()
                except Exception as error:
                    yield wire.encode({"problem": told(error)}) + b"\n"
                    return
                if value is None:
                    return
                yield wire.encode(value) + b"\n"
                upcoming = asyncio.ensure_future(anext(self._values, None))
        finally:
            upcoming.cancel()
            await asyncio.wait({upcoming})
            close = getattr(self._values, "aclose", None)
            if close is not None:
                await close()


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
