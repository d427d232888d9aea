"""How many at once: in all, and of one user, so that nobody keeps the others waiting."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager


class Places:
    """A bounded number of places. A place belongs to a living task and ends with it.

    Nobody takes more than half of what is left to them: of 24 free places one user gets 12, the next one 6, and so
    on, so that it takes many users, not two, until a newcomer has to wait.
    """

    def __init__(self, total: int, of_one: int) -> None:
        self._free = total
        self._of_one = of_one
        self._held = Counter[str]()
        self._waiting: list[tuple[str, asyncio.Future[None]]] = []

    @asynccontextmanager
    async def take(self, user: str, say: Callable[[str], None]) -> AsyncIterator[None]:
        """Wait for a place; `say` is told why, where it has to."""
        if self._may_take(user):
            self._take(user)
        else:
            say(self._why(user))
            await self._wait(user)
        try:
            yield
        finally:
            self._give_back(user)

    def _may_take(self, user: str) -> bool:
        return self._held[user] < min(self._free, self._of_one)

    def _take(self, user: str) -> None:
        self._free -= 1
        self._held[user] += 1

    def _give_back(self, user: str) -> None:
        self._free += 1
        self._held[user] -= 1
        # Whoever has the fewest is next, of equals whoever came first; a place may be one too few for the first.
        for each, turn in sorted(self._waiting, key=lambda waiting: self._held[waiting[0]]):
            if self._may_take(each) and not turn.done():
                self._take(each)
                turn.set_result(None)

    async def _wait(self, user: str) -> None:
        turn = asyncio.get_running_loop().create_future()
        waiting = (user, turn)
        self._waiting.append(waiting)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():  # it was given, and nobody is there to have it
                self._give_back(user)
            raise
        finally:
            self._waiting.remove(waiting)

    def _why(self, user: str) -> str:
        if self._held[user] and self._free:
            return f"{user} has {self._held[user]} of them under way, which is as many as one user may now"
        return "the server is busy with as many as it takes"
