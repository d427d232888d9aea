"""`Idempotency-Key`: a request that is sent twice is carried out once."""

import logging
from typing import Any

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from controller.api.methods import Methods
from controller.api.problems import answer, told
from controller.api.streams import MEDIA_TYPE, SSE
from controller.errors import MooringError
from controller.operations.receipts import MAX_ANSWER, Answer, Receipts, Request
from controller.store.base import StoreError

log = logging.getLogger(__name__)

HEADER = "Idempotency-Key"
REPLAYED = "Idempotency-Replayed"
METHODS = frozenset({"POST", "PATCH"})
"""The others are harmless to repeat by their nature."""
PARAMETER: dict[str, Any] = {
    "name": HEADER,
    "in": "header",
    "required": False,
    "description": (
        "Made at random by the client, a UUID say. The same request with the same key, sent within 24 hours, is not "
        f"carried out again but answered as the first one was, with `{REPLAYED}: true`. Another request with that "
        "key is refused (`key-reused`). Errors are not kept."
    ),
    "schema": {"type": "string", "minLength": 16, "maxLength": 255, "pattern": "^[ -~]*$"},
    "example": "6f1b9f0e-52a5-4f4c-8f5e-0d6f2f3f9a77",
}


class Idempotency:
    """Behind the gate: it knows who asks."""

    def __init__(self, app: ASGIApp, receipts: Receipts, methods: Methods) -> None:
        self._app = app
        self._receipts = receipts
        self._methods = methods

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        key = None
        if scope["type"] == "http" and scope["method"] in METHODS & self._methods.at(scope["path"]):
            # An upload is too large to be compared with another one; what it does is harmless to repeat.
            upload = self._methods.is_upload(scope)
            key = None if upload else Headers(scope=scope).get(HEADER)
        if key is None:
            await self._app(scope, receive, send)
            return
        body = await _whole(receive)
        target = (scope["method"], scope["path"], scope["query_string"].decode("latin-1"))
        request = Request(scope["asker"], key, "\0".join(target).encode() + b"\0" + body)
        try:
            async with self._receipts.turn(request):
                found = self._receipts.find(request)
                if found is None:
                    await self._carry_out(request, scope, _replayed(body, receive), send)
                    return
        except MooringError as error:
            await answer(told(error))(scope, receive, send)
            return
        again = Response(
            found.body,
            status_code=found.status,
            media_type=found.media or None,
            headers={"Cache-Control": "no-store", REPLAYED: "true"},
        )
        await again(scope, receive, send)

    async def _carry_out(self, request: Request, scope: Scope, receive: Receive, send: Send) -> None:
        collected = _Collected(send)
        with self._receipts.noted(request):
            await self._app(scope, receive, collected.take)
        if (done := collected.answer()) is not None:
            try:
                await self._receipts.keep(request, done)
            except (StoreError, MooringError) as error:
                # It is done, and is told to be; only sending it once more won't get this answer.
                log.warning("answer not kept error=%r", str(error))
        await collected.release()


class _Collected:
    """An answer held back until it is whole. One that goes on is passed through, and not kept."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._held: list[Message] = []
        self._size = 0
        self._passing = False

    async def take(self, message: Message) -> None:
        if self._passing:
            await self._send(message)
            return
        self._held.append(message)
        self._size += len(message.get("body", b""))
        media = self._media()
        if self._size > 2 * MAX_ANSWER or media.startswith((MEDIA_TYPE, SSE)):
            await self.release()

    async def release(self) -> None:
        """Send what was held back, and from now on whatever comes."""
        self._passing = True
        held, self._held = self._held, []
        for each in held:
            await self._send(each)

    def answer(self) -> Answer | None:
        """The whole one of a request that succeeded; None where there is nothing to keep."""
        if not self._held or not 200 <= self._held[0]["status"] < 300:
            return None
        body = b"".join(each.get("body", b"") for each in self._held[1:])
        return Answer(self._held[0]["status"], self._media(), body)

    def _media(self) -> str:
        return Headers(raw=self._held[0].get("headers", [])).get("content-type", "")


async def _whole(receive: Receive) -> bytes:
    parts = []
    while (message := await receive())["type"] == "http.request":
        parts.append(message.get("body", b""))
        if not message.get("more_body", False):
            break
    return b"".join(parts)


def _replayed(body: bytes, receive: Receive) -> Receive:
    """`receive` as if nothing had been read."""
    first = [True]

    async def again() -> Message:
        if first:
            first.clear()
            return {"type": "http.request", "body": body, "more_body": False}
        return await receive()

    return again
