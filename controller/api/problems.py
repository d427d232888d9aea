"""Whatever goes wrong leaves the API as problem+json: our errors, off input, wrong paths, our own faults."""

import logging
import secrets
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError, WebSocketRequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocket, WebSocketState

from controller import wire
from controller.api.methods import Methods
from controller.errors import (
    Conflict,
    InternalFault,
    InvalidInput,
    MooringError,
    Refused,
    Unauthenticated,
    Unavailable,
)
from controller.problem import MEDIA_TYPE, Problem, problem_of
from controller.problem import problem as make_problem
from controller.store.base import StoreConflict, StoreError, TooLarge

log = logging.getLogger(__name__)


def install(app: FastAPI) -> None:
    """Make `app` answer every error as a problem."""
    handlers: Mapping[type[Exception], Any] = {  # they serve requests and websockets, which has no type
        MooringError: _on_error,
        StoreError: _on_error,
        RequestValidationError: _on_validation_error,
        WebSocketRequestValidationError: _on_validation_error,
        HTTPException: _on_http_exception,
    }
    for kind, handler in handlers.items():
        app.add_exception_handler(kind, handler)
    app.add_middleware(Faults)


class Faults:
    """Answers what nobody caught. (A handler for Exception would have it raised and logged once more.)"""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        begun = False

        async def noted(message: Message) -> None:
            nonlocal begun
            begun = begun or message["type"] == "http.response.start"
            await send(message)

        try:
            await self._app(scope, receive, noted)
        except Exception as error:
            fault = told(error)
            if begun or scope["type"] != "http":
                raise
            await answer(fault)(scope, receive, send)


def answer(problem: Problem, headers: Mapping[str, str] | None = None) -> Response:
    extra = {"WWW-Authenticate": "Bearer"} if problem.code == Unauthenticated.code else {}
    return Response(
        wire.encode(problem),
        status_code=problem.status,
        media_type=MEDIA_TYPE,
        headers={**extra, **(headers or {})},
    )


def told(error: Exception) -> Problem:
    """The problem for any error. What we did not foresee is logged, and said to be our fault."""
    if isinstance(error, StoreConflict):
        error = Conflict("Somebody else changed the same at the same moment: look at it, and try again.")
    elif isinstance(error, TooLarge):
        error = Refused(str(error))
    elif isinstance(error, StoreError):
        error = Unavailable(f"The store does not answer; look before you ask again, it may be done: {error}")
    if isinstance(error, MooringError) and not isinstance(error, InternalFault):
        return problem_of(error)
    number = secrets.token_hex(4)
    log.error("fault number=%s", number, exc_info=error)
    return problem_of(
        InternalFault(f"This is a fault of the server, not of yours. Its log tells more under {number}.")
    )


async def _on_error(connection: HTTPConnection, error: Exception) -> Response | None:
    return await _tell(connection, told(error))


async def _tell(connection: HTTPConnection, problem: Problem) -> Response | None:
    """The response to send; a websocket is told, and closed, here."""
    if not isinstance(connection, WebSocket):
        return answer(problem)
    if connection.application_state is WebSocketState.CONNECTING:
        await connection.send_denial_response(answer(problem))
    elif connection.application_state is WebSocketState.CONNECTED:
        await connection.send_text(wire.encode({"problem": problem}).decode())
        await connection.close(1008 if problem.status < 500 else 1011)
    return None


async def _on_validation_error(connection: HTTPConnection, error: Exception) -> Response | None:
    assert isinstance(error, RequestValidationError | WebSocketRequestValidationError)
    return await _tell(connection, problem_of(_off_input(error)))


def _off_input(error: RequestValidationError | WebSocketRequestValidationError) -> InvalidInput:
    first = error.errors()[0]
    field = _field(first["loc"])
    if first["type"] == "json_invalid":
        return InvalidInput("body", "The request's body is no valid JSON.")
    return InvalidInput(field, f"{field}: {first['msg']}.")


def _field(location: Sequence[str | int]) -> str:
    """`body.env.GREETING` without the part that says where in the request it stood."""
    return ".".join(map(str, location[1:])) or str(location[0])


async def _on_http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == 400:
        return answer(
            problem_of(InvalidInput("body", "The request's body can't be read: send JSON in UTF-8."))
        )
    code, detail = {
        404: ("not-found", "There is nothing at this path: see /docs for what there is."),
        405: ("method-not-allowed", "This path does not take that method: see /docs."),
    }.get(error.status_code, ("error", str(error.detail)))
    headers = dict(error.headers or {})
    if error.status_code == 405:
        # The framework names those of the first route at the path only.
        methods: Methods = request.app.state.methods
        headers["Allow"] = ", ".join(sorted(methods.at(request.scope["path"])))
    return answer(make_problem(error.status_code, code, detail), headers)
