"""A wake-up call for any number of waiting tasks."""

import asyncio


class Bell:
    """Wakes everybody who waits; once closed nobody waits any more. Costs nothing to those who don't."""

    def __init__(self) -> None:
        self.closed = False
        self._rung = asyncio.Event()

    def ring(self) -> None:
        self._rung.set()
        if not self.closed:
            self._rung = asyncio.Event()

    def close(self) -> None:
        self.closed = True
        self.ring()

    async def wait(self) -> None:
        """Until the next ring after this call."""
        await self._rung.wait()
