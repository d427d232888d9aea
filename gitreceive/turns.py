"""Pushes to one service take turns, in the order they came."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime

from builder.types import BuildOutput
from controller.names import Address


@dataclass(eq=False)
class _Turn:
    what: str
    since: datetime
    first: asyncio.Event = field(default_factory=asyncio.Event)


class Turns:
    """A queue for each service. A turn belongs to a living task and ends with it: there is no lock to be left."""

    def __init__(self) -> None:
        self._queues: dict[Address, list[_Turn]] = {}

    @asynccontextmanager
    async def take(self, address: Address, what: str, out: BuildOutput) -> AsyncIterator[None]:
        """Wait until nobody is before us. `what` tells others who they wait for ("alice's push of 1a2b3c4")."""
        turn = _Turn(what, datetime.now(UTC))
        queue = self._queues.setdefault(address, [])
        queue.append(turn)
        try:
            if queue[0] is not turn:
                out.step(_waiting(queue))
                await turn.first.wait()
            yield
        finally:
            queue.remove(turn)
            if queue:
                queue[0].first.set()
            else:
                self._queues.pop(address, None)


def _waiting(queue: list[_Turn]) -> str:
    running = queue[0]
    others = f", {len(queue) - 2} more before you" if len(queue) > 2 else ""
    return f"Waiting for {running.what}, under way since {running.since:%H:%M:%S} UTC{others}"
