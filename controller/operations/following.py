"""Answers without an end of their own: they end with the right to them."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import TypeVar

CHECK = 2.0
"""Seconds between two looks at whether the asker still may, while nothing comes."""

T = TypeVar("T")


async def while_allowed(items: AsyncIterator[T], check: Callable[[], object]) -> AsyncGenerator[T, None]:
    """The items for as long as `check` raises nothing: it is called before each, and in silence every other second.

    What it raises (the token expired, the right was taken away) ends it.
    """
    upcoming = asyncio.ensure_future(anext(items, None))
    try:
        while True:
            await asyncio.wait({upcoming}, timeout=CHECK)
            check()
            if not upcoming.done():
                continue
            item = upcoming.result()
            if item is None:
                return
            yield item
            upcoming = asyncio.ensure_future(anext(items, None))
    finally:
        upcoming.cancel()
        await asyncio.wait({upcoming})
        if isinstance(items, AsyncGenerator):
            await items.aclose()
