"""The files of the web page, as they are, for everybody: what they show is asked of the API with the reader's token.

There is no cookie and no session, so nothing that another page makes a browser send is from a reader of this one.
"""

import hashlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from importlib import resources

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

FILES: Mapping[str, str] = {
    "/": "index.html",
    "/web/page.css": "page.css",
    "/web/page.js": "page.js",
    "/web/icon.svg": "icon.svg",
}
"""Path to the name of the file."""
MEDIA: Mapping[str, str] = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}
POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        # A panel is put into its frame as text, which takes no leave; no frame goes anywhere from there.
        "frame-src 'none'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
"""What the page may do. The frames of panels, which have their content from it, inherit all of that."""
HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    # Asked about each time, so that after an upgrade nobody has one file of before and another of after it.
    "Cache-Control": "no-cache",
}


@dataclass(frozen=True)
class File:
    """One of them, in memory."""

    content: bytes
    media: str

    @property
    def tag(self) -> str:
        """Another one as soon as the content is another one."""
        return f'"{hashlib.sha256(self.content).hexdigest()[:32]}"'


def read_file(name: str) -> File:
    content = (resources.files("controller.web") / "static" / name).read_bytes()
    return File(content, MEDIA[name.rpartition(".")[2]])


def routes() -> APIRouter:
    router = APIRouter()
    for path, name in FILES.items():
        router.add_route(path, _serving(read_file(name)), methods=["GET"], include_in_schema=False)
    return router


def _serving(file: File) -> Callable[[Request], Awaitable[Response]]:
    headers = {**HEADERS, "ETag": file.tag}

    async def serve(request: Request) -> Response:
        if file.tag in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=headers)
        return Response(file.content, media_type=file.media, headers=headers)

    return serve
