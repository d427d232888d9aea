"""Which names changed since when, so that whoever looks every second is told only what is new."""

import secrets
from collections.abc import Sequence

LIMIT = 20_000
"""Names that are remembered; whoever was away for longer is told everything."""


class ChangeLog:
    """A cursor says up to where somebody knows everything; it means nothing to any other log.

    A name counts as changed whether it came, changed or went: whoever is told looks for himself.
    """

    def __init__(self, limit: int = LIMIT) -> None:
        self._epoch = secrets.token_hex(4)
        self._limit = limit
        self._last = 0
        self._floor = 0
        """What changed up to here is no longer remembered one by one."""
        self._changed: dict[str, int] = {}
        """Name to the number of its last change, in the order of these numbers."""

    @property
    def cursor(self) -> str:
        """Up to now."""
        return f"{self._epoch}-{self._last}"

    def note(self, name: str) -> None:
        """It changed."""
        self._last += 1
        self._changed.pop(name, None)
        self._changed[name] = self._last
        while len(self._changed) > self._limit:
            oldest = next(iter(self._changed))
            self._floor = self._changed.pop(oldest)

    def since(self, cursor: str) -> Sequence[str] | None:
        """Names that changed after that, newest first; None where that can't be told."""
        epoch, _, number = cursor.partition("-")
        if epoch != self._epoch or not number.isdecimal() or not self._floor <= int(number) <= self._last:
            return None
        found: list[str] = []
        for name, changed in reversed(self._changed.items()):
            if changed <= int(number):
                break
            found.append(name)
        return found
