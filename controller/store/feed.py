"""The newest transactions in memory and the watchers that wait for the next: shared by the drivers.

A watcher has no queue of its own, only its position; one that falls behind what is kept here reads
the driver's log, or is told Compacted. So slow watchers cost no memory, and idle ones no work.
"""

from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import dataclass

import msgspec

from controller.bell import Bell
from controller.store.base import Change


@dataclass(frozen=True)
class Transaction:
    """What one commit changed: key and JSON text, None for a deletion. Revisions leave no gaps."""

    revision: int
    changes: tuple[tuple[str, str | None], ...]


class Feed:
    """Everything above `start` is in memory. Used from the event loop only."""

    def __init__(self, revision: int, *, keep: int) -> None:
        self.revision = revision
        self.start = revision
        self._keep = keep
        self._recent = deque[Transaction]()
        self._bell = Bell()

    def append(self, transaction: Transaction) -> None:
        """Take the newest transaction in and wake the watchers."""
        if transaction.revision != self.revision + 1:
            self.jump(transaction.revision - 1)
        self._recent.append(transaction)
        self.revision = transaction.revision
        if len(self._recent) > self._keep:
            self._recent.popleft()
            self.start += 1
        self._bell.ring()

    def jump(self, revision: int) -> None:
        """Go on from `revision`; what lies before is in the log only."""
        self._recent.clear()
        self.revision = self.start = revision
        self._bell.ring()

    def forget(self, before: int) -> None:
        """Drop transactions below revision `before`."""
        while self._recent and self._recent[0].revision < before:
            self._recent.popleft()
        self.start = max(self.start, min(before - 1, self.revision))

    def close(self) -> None:
        """End all watches."""
        self._bell.close()

    async def watch(
        self, prefix: str, after: int, read_log: Callable[[int], Awaitable[Sequence[Transaction]]]
    ) -> AsyncGenerator[Change, None]:
        """Changes below `prefix`; `read_log` gives some transactions after a revision that is not in memory."""
        while not self._bell.closed:
            if after < self.start:
                transactions = await read_log(after)
            else:
                transactions = self._since(after)
            for transaction in transactions:
                for key, text in transaction.changes:
                    if key.startswith(prefix):
                        value = None if text is None else msgspec.json.decode(text)
                        yield Change(key, value, transaction.revision)
                after = transaction.revision
            if after >= self.revision and not self._bell.closed:
                await self._bell.wait()

    def _since(self, after: int) -> Sequence[Transaction]:
        # From the right, because watchers are nearly always close to the end.
        return [self._recent[-index] for index in range(self.revision - after, 0, -1)]
