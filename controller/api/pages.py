"""Lists in pages: an answer is an array as ever, and its `Link` leads to the next one.

A cursor holds the sort key of the last item that was shown, so that what comes or goes meanwhile neither
repeats nor hides an item.
"""

import base64
import binascii
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Generic, TypeVar
from urllib.parse import urlencode

import msgspec
from fastapi import Depends, Query, Request
from starlette.responses import Response

from controller import wire
from controller.api.answers import respond
from controller.errors import InvalidInput

MAX = 1000
Key = tuple[str | int, ...]
T = TypeVar("T")

Limit = Annotated[int, Query(description="How many at most.", ge=1, le=MAX)]
Cursor = Annotated[
    str | None,
    Query(description="Where to go on: leave that to the `Link` of an answer.", max_length=1000),
]


@dataclass(frozen=True)
class Window:
    """What a request asks for of a list."""

    request: Request
    limit: int
    cursor: str | None

    def begin(self) -> Key | None:
        """The cursor's key; raises InvalidInput."""
        if self.cursor is None:
            return None
        try:
            found = wire.decode(list[str | int], base64.urlsafe_b64decode(self.cursor.encode()))
        except (binascii.Error, wire.WireError, ValueError) as error:
            raise no_cursor() from error
        return tuple(found)

    def respond(self, items: object, following: Key | None) -> Response:
        """`following`: the key to go on behind; None: that was all."""
        response = respond(items)
        if following is not None:
            cursor = base64.urlsafe_b64encode(msgspec.json.encode(following)).decode()
            query = [
                (name, value) for name, value in self.request.query_params.multi_items() if name != "cursor"
            ]
            path = self.request.url.path
            response.headers["Link"] = f'<{path}?{urlencode([*query, ("cursor", cursor)])}>; rel="next"'
        return response


async def _window(request: Request, limit: Limit = 100, cursor: Cursor = None) -> Window:
    return Window(request, limit, cursor)


InWindow = Annotated[Window, Depends(_window)]
"""For a route that lists: `?limit=&cursor=`."""


class Page(Generic[T]):
    """Which items of a list are in a window. `key` sorts them and is theirs alone."""

    def __init__(self, window: Window, key: Callable[[T], Key], *, newest_first: bool = False) -> None:
        self._window = window
        self._key = key
        self._descending = newest_first
        self._begin = window.begin()
        self._following: Key | None = None

    def take(self, items: Sequence[T]) -> Sequence[T]:
        """Those in the window, in order. Raises InvalidInput for a cursor of another list."""
        keyed: list[tuple[Any, T]] = sorted(
            ((self._key(each), each) for each in items), key=lambda each: each[0], reverse=self._descending
        )
        if self._begin is not None and keyed:
            begin: Any = self._begin
            if [type(each) for each in begin] != [type(each) for each in keyed[0][0]]:
                raise no_cursor()
            keyed = [each for each in keyed if (each[0] < begin if self._descending else each[0] > begin)]
        shown = keyed[: self._window.limit]
        self._following = shown[-1][0] if len(keyed) > len(shown) else None
        return [item for _, item in shown]

    def respond(self, items: object) -> Response:
        """The answer, once `take` has chosen; `items` is what is made of those."""
        return self._window.respond(items, self._following)


def paged(
    window: Window, items: Sequence[T], key: Callable[[T], Key], *, newest_first: bool = False
) -> Response:
    """The page of these items that the window asks for."""
    page = Page(window, key, newest_first=newest_first)
    return page.respond(page.take(items))


def no_cursor() -> InvalidInput:
    return InvalidInput("cursor", "This is no cursor of this list: follow the Link of an answer as it is.")
