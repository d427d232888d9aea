"""How much may be on its way: for two ends of a connection that tell each other what they have taken.

The connection itself is read at all times, so that signs of life pass also while somebody takes nothing.
"""

import asyncio

PIECE = 32 * 1024
"""Bytes in one message, at most."""
WINDOW = 256 * 1024
"""Bytes that may be sent and not yet told to be taken, in each direction."""


class Window:
    def __init__(self, size: int = WINDOW) -> None:
        self._room = size
        self._given = asyncio.Event()

    async def take(self, count: int) -> None:
        """Wait until there is any room, then use that much of it."""
        while self._room <= 0:
            self._given.clear()
            await self._given.wait()
        self._room -= count

    def give(self, count: int) -> None:
        """The other end has taken that much."""
        self._room += count
        self._given.set()
