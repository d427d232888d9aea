"""Waiting in line: pushes to one service take turns, and only so many builds run at once over all services."""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime

from controller.names import Address


@dataclass(eq=False)
class Turn:
    """One place in a line."""

    what: str
    """What others wait for while it is ahead of them ("alice's push of 1a2b3c4")."""
    since: datetime
    ahead: Sequence["Turn"] = ()
    """Those that were before it when it came; none where its turn had come at once."""
    _come: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def has_come(self) -> bool:
        return self._come.is_set()

    def call(self) -> None:
        self._come.set()

    async def wait(self) -> None:
        """Until its turn has come."""
        await self._come.wait()


class Line:
    """Lets so many in at once, the others in the order they came.

    A place belongs to the block of a living task and ends with it: there is no lock to be left.
    """

    def __init__(self, places: int = 1) -> None:
        self.places = places
        self._turns: list[Turn] = []

    @property
    def is_empty(self) -> bool:
        return not self._turns

    @contextmanager
    def join(self, what: str) -> Iterator[Turn]:
        """Stand in line for the length of the block. The turn has not come before its `wait` is over."""
        turn = Turn(what, datetime.now(UTC), tuple(self._turns) if len(self._turns) >= self.places else ())
        self._turns.append(turn)
        self._call()
        try:
            yield turn
        finally:
            self._turns.remove(turn)
            self._call()

    def _call(self) -> None:
        for each in self._turns[: self.places]:
            each.call()


class Turns:
    """A line for each service."""

    def __init__(self) -> None:
        self._lines: dict[Address, Line] = {}

    @contextmanager
    def join(self, address: Address, what: str) -> Iterator[Turn]:
        """As `Line.join`, behind the others of that service."""
        line = self._lines.setdefault(address, Line())
        try:
            with line.join(what) as turn:
                yield turn
        finally:
            if line.is_empty:
                self._lines.pop(address, None)


def behind_others(turn: Turn) -> str:
    """What a push waits for in its service's line."""
    first = turn.ahead[0]
    return f"Waiting for {first.what}, under way since {first.since:%H:%M:%S} UTC{_more(len(turn.ahead) - 1)}"


def for_a_place(turn: Turn, places: int) -> str:
    """What a build waits for; whose the others are is not everybody's to know."""
    builds = f"{places} other builds" if places > 1 else "another build"
    at_once = "as many as this server runs at once"
    return f"Waiting for {builds} to end, {at_once}{_more(len(turn.ahead) - places)}"


def _more(count: int) -> str:
    return f", {count} more before you" if count > 0 else ""
