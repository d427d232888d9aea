"""How many at once: in all, and of one user, so that nobody keeps the others waiting alone."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager


class Places:
    """A bounded number of places. A place belongs to a living task and ends with it."""

    def __init__(self, total: int, of_one: int) -> None:
        self._places = asyncio.Semaphore(total)
        self._of_one = of_one
        self._users: dict[str, asyncio.Semaphore] = {}
        """Of users that came at least once: as many as there are users at most."""

    @asynccontextmanager
    async def take(self, user: str, say: Callable[[str], None]) -> AsyncIterator[None]:
        """Wait for a place; `say` is told why, where it has to."""
        own = self._users.setdefault(user, asyncio.Semaphore(self._of_one))
        if own.locked():
            say(f"{user} has {self._of_one} of them under way, which is as many as one user may")
        elif self._places.locked():
            say("the server is busy with as many as it takes")
        async with own, self._places:
            yield
