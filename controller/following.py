"""Iterators that follow the state. They keep what they need between two calls, so that waiting for
the next item may be cancelled (a time limit, a keep-alive) and taken up again."""

import asyncio
from collections import deque
from collections.abc import Set as AbstractSet
from datetime import UTC, datetime
from typing import Self

from controller.bell import Bell
from controller.mirror import Mirror
from controller.types import Event


class Changes:
    """What was touched since the last look: see `State.changes`."""

    def __init__(self) -> None:
        self._touched: set[tuple[str, str]] = set()
        self._woken = asyncio.Event()
        self._closed = False

    def add(self, touched: AbstractSet[tuple[str, str]]) -> None:
        if touched:
            self._touched |= touched
            self._woken.set()

    def close(self) -> None:
        self._closed = True
        self._woken.set()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> frozenset[tuple[str, str]]:
        await self._woken.wait()
        if self._closed:
            raise StopAsyncIteration
        return self.take()

    def take(self) -> frozenset[tuple[str, str]]:
        """What there is now, without waiting."""
        touched = frozenset(self._touched)
        self._touched.clear()
        if not self._closed:
            self._woken.clear()
        return touched


TRIMMED = "journal.trimmed"
"""Kind of the event that stands for those that are no longer kept. It is in no journal itself."""


def trimmed(mirror: Mirror, after: int) -> Event:
    """What is told in place of the events behind `after` that are gone."""
    last = mirror.trimmed_events
    oldest = next(mirror.later_events(), None)
    return Event(
        revision=last,
        time=oldest.time if oldest else datetime.now(UTC),
        kind=TRIMMED,
        text=f"events {after + 1} to {last} are no longer kept: what happened then is not told here",
        data={"first": after + 1, "last": last},
    )


class Events:
    """The journal as it grows: see `State.follow_events`."""

    def __init__(
        self, mirror: Mirror, bell: Bell, deployment: str | None, service: str | None, after: int
    ) -> None:
        self._mirror = mirror
        self._bell = bell
        self._deployment = deployment
        self._service = service
        self._after = after
        self._ready = deque[Event]()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        while not self._ready:
            if self._bell.closed:
                raise StopAsyncIteration
            if self._mirror.last_event <= self._after:
                await self._bell.wait()
                continue
            if self._after < self._mirror.trimmed_events:
                self._ready.append(trimmed(self._mirror, self._after))
            self._ready.extend(self._mirror.events(self._deployment, self._service, after=self._after))
            self._after = self._mirror.last_event
        return self._ready.popleft()
