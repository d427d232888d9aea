"""Which methods there are at a path, over all of its routes, and which of them take an upload."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from fastapi import APIRouter
from fastapi.routing import APIRoute
from starlette.routing import Route
from starlette.types import Scope

BYTES = "application/octet-stream"
UPLOAD: Mapping[str, Any] = {
    "requestBody": {"content": {BYTES: {"schema": {"type": "string", "format": "binary"}}}}
}
"""The `openapi_extra` of a route that reads its body as a stream of bytes, and bounds size and time of it itself."""


class Methods:
    def __init__(self, routers: Iterable[APIRouter]) -> None:
        routes = [route for router in routers for route in router.routes if isinstance(route, Route)]
        self._routes: Sequence[tuple[re.Pattern[str], frozenset[str], bool]] = [
            (route.path_regex, frozenset(route.methods or ()), _takes_bytes(route)) for route in routes
        ]

    def at(self, path: str) -> frozenset[str]:
        """Empty where there is nothing."""
        return frozenset().union(*(methods for regex, methods, _ in self._routes if regex.match(path)))

    def is_upload(self, scope: Scope) -> bool:
        """Whether the request is for a route with `UPLOAD`."""
        method, path = scope.get("method"), scope.get("path", "")
        return any(upload and method in of and regex.match(path) for regex, of, upload in self._routes)


def _takes_bytes(route: Route) -> bool:
    extra = route.openapi_extra if isinstance(route, APIRoute) else None
    return BYTES in (extra or {}).get("requestBody", {}).get("content", {})
