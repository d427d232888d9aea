"""Who asks: nothing is reached without a token, but for what `OPEN` lists. Routes get an `Asker`."""

import logging
import math
from typing import Annotated

from fastapi import Depends
from starlette.datastructures import Headers
from starlette.requests import HTTPConnection
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocket

from controller.api.limits import FailedLogins
from controller.api.problems import answer, told
from controller.errors import MooringError, Throttled, Unauthenticated
from controller.operations.access import Actor
from controller.operations.credentials import CredentialOperations
from controller.web.files import FILES

log = logging.getLogger(__name__)

OPEN = frozenset({"/v1/health", "/openapi.json", "/docs", "/docs/oauth2-redirect", "/redoc", *FILES})
"""The only paths that take everybody."""
SECURITY_SCHEME = {
    "type": "http",
    "scheme": "bearer",
    "description": "A token as `moor tokens:create` prints it.",
}


class Gate:
    """In front of every route: one that forgets to ask who comes is closed nonetheless.

    It answers before the body is read.
    """

    def __init__(self, app: ASGIApp, credentials: CredentialOperations, failures: FailedLogins) -> None:
        self._app = app
        self._credentials = credentials
        self._failures = failures

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in ("http", "websocket") and scope["path"] not in OPEN:
            try:
                scope["asker"] = self._let_in(scope)
            except MooringError as error:
                await refuse(answer(told(error)), scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _let_in(self, scope: Scope) -> Actor:
        """Raises Unauthenticated, Throttled."""
        scheme, _, secret = Headers(scope=scope).get("authorization", "").partition(" ")
        given = secret.strip() if scheme.lower() == "bearer" else ""
        try:
            return self._credentials.authenticate(given or None)
        except Unauthenticated as error:
            address = scope["client"][0] if scope.get("client") else "an unknown address"
            wait = self._failures.add(address)
            if wait is not None:
                raise Throttled(
                    f"Too many requests without a valid token came from {address}: "
                    f"try again in {math.ceil(wait)} s."
                ) from error
            log.warning("login failed address=%s", address)
            raise


async def refuse(response: Response, scope: Scope, receive: Receive, send: Send) -> None:
    """Answer so, also where a websocket was asked for."""
    if scope["type"] == "websocket":
        await WebSocket(scope, receive, send).send_denial_response(response)
    else:
        await response(scope, receive, send)


async def _asker(connection: HTTPConnection) -> Actor:
    asker: Actor = connection.scope["asker"]
    return asker


Asker = Annotated[Actor, Depends(_asker)]
"""For routes and websockets alike."""
