"""Connections to the API: what uvicorn leaves without a bound. The rest of a request is bounded by `limits`."""

import asyncio
from http import HTTPStatus
from typing import ClassVar

from uvicorn.protocols.http.h11_impl import H11Protocol

from controller import wire
from controller.errors import InvalidInput, Unavailable
from controller.problem import MEDIA_TYPE, Problem, problem, problem_of


class Connection(H11Protocol):
    """uvicorn's, with three bounds: a request's head has to arrive, a reader has to read on, and room is limited.

    Where there is no room for a new connection, the one that has been idle for longest gives way: whoever holds
    connections open and asks nothing keeps nobody out.
    """

    head_timeout: ClassVar[float] = 15.0
    """Seconds from the connection, or from the last answer, until a request's head has to be there."""
    write_timeout: ClassVar[float] = 60.0
    """Seconds that a client may leave unread what it was sent."""
    most: ClassVar[int] = 500

    _idle_since = 0.0
    _waiting_for_head: asyncio.TimerHandle | None = None
    _waiting_for_reader: asyncio.TimerHandle | None = None

    @property
    def idle(self) -> bool:
        """Whether no request is at work on it."""
        return self.cycle is None or self.cycle.response_complete

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._wait_for_head()
        if len(self.connections) > self.most:
            self._make_room()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        self.resume_writing()
        super().connection_lost(exc)

    def handle_events(self) -> None:
        super().handle_events()
        if not self.idle:
            self._stop_waiting()

    def handle_websocket_upgrade(self, event: object) -> None:
        self._stop_waiting()
        super().handle_websocket_upgrade(event)  # type: ignore[arg-type]

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.idle and not self.transport.is_closing():
            self._wait_for_head()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._waiting_for_reader = self.loop.call_later(self.write_timeout, self.transport.abort)

    def resume_writing(self) -> None:
        if self._waiting_for_reader is not None:
            self._waiting_for_reader.cancel()
            self._waiting_for_reader = None
        super().resume_writing()

    def send_400_response(self, msg: str) -> None:
        self._refuse(problem(400, InvalidInput.code, "This is no HTTP request, or its head is too large."))

    def _wait_for_head(self) -> None:
        self._stop_waiting()
        self._idle_since = self.loop.time()
        self._waiting_for_head = self.loop.call_later(self.head_timeout, self.transport.abort)

    def _stop_waiting(self) -> None:
        if self._waiting_for_head is not None:
            self._waiting_for_head.cancel()
            self._waiting_for_head = None

    def _make_room(self) -> None:
        others = [
            each
            for each in self.connections
            if isinstance(each, Connection) and each.idle and each is not self
        ]
        if others:
            min(others, key=lambda each: each._idle_since).transport.abort()
        else:
            self._refuse(
                problem_of(
                    Unavailable("The server has as many connections as it takes: try again in a moment.")
                )
            )

    def _refuse(self, why: Problem) -> None:
        """Answer so, whatever is asked, and close."""
        body = wire.encode(why)
        head = (
            f"HTTP/1.1 {why.status} {HTTPStatus(why.status).phrase}\r\ncontent-type: {MEDIA_TYPE}\r\n"
            f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        self.transport.close()
