"""The pages that describe the API. Their script comes from elsewhere, so they are kept apart from the web page, which
has its reader's token: a sandbox gives them an origin of their own, from which only the description can be read."""

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

PAGES = frozenset({"/docs", "/docs/oauth2-redirect", "/redoc"})
DESCRIPTION = "/openapi.json"
SANDBOX = "sandbox allow-scripts allow-forms allow-popups"


class Apart:
    """Adds to their answers what keeps them apart."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope.get("path", "")
        if scope["type"] != "http" or (path not in PAGES and path != DESCRIPTION):
            await self._app(scope, receive, send)
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                if path == DESCRIPTION:
                    headers["Access-Control-Allow-Origin"] = "*"  # it is for everybody, and needs no token
                else:
                    headers["Content-Security-Policy"] = SANDBOX
                    headers["Referrer-Policy"] = "no-referrer"
            await send(message)

        await self._app(scope, receive, with_headers)
