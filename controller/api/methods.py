"""Which methods there are at a path, over all of its routes."""

import re
from collections.abc import Iterable, Sequence

from fastapi import APIRouter
from fastapi.routing import APIRoute


class Methods:
    def __init__(self, routers: Iterable[APIRouter]) -> None:
        self._routes: Sequence[tuple[re.Pattern[str], frozenset[str]]] = [
            (route.path_regex, frozenset(route.methods or ()))
            for router in routers
            for route in router.routes
            if isinstance(route, APIRoute)
        ]

    def at(self, path: str) -> frozenset[str]:
        """Empty where there is nothing."""
        return frozenset().union(*(methods for regex, methods in self._routes if regex.match(path)))
