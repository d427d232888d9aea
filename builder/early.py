"""Build containers that are started before their source is there: one takes longer to start than a small pack to come.
Somebody was let in to push, or has pushed a moment ago."""

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from builder.container import Container
from builder.types import Expected

KEPT_FOR = 10.0
"""Seconds that one waits for a push that was let in; then it goes."""
MOST = 2
"""That wait at a time: each holds some 10 MiB."""
PAUSE = 3.0
"""Seconds after a build until another one is started: what was built is to start first."""


@dataclass(frozen=True)
class Ready:
    """A container, and what it was made with."""

    container: Container
    image: str
    uid: int | None
    cache: tuple[int, int] | None
    """Which folder it has as its cache."""

    def fits(self, image: str, uid: int | None, cache: Path) -> bool:
        """Whether one made now would be the same: a cache that was purged since is another."""
        known = identity(cache)
        return known is not None and (self.image, self.uid, self.cache) == (image, uid, known)


@dataclass(frozen=True)
class Early:
    """One that waits for its source, or is on its way there."""

    name: str
    ready: "asyncio.Future[Ready]"
    expiry: asyncio.TimerHandle
    lingers: bool
    """Nobody is known to push."""


class EarlyContainers:
    """At most one for each service. Used from one event loop."""

    def __init__(
        self,
        start: Callable[[str, Expected], Awaitable[Ready]],
        remove: Callable[[str], Awaitable[None]],
        *,
        kept_for: float = KEPT_FOR,
        kept_after: float = 0.0,
        pause: float = PAUSE,
    ) -> None:
        """`start`: a container of this name; `remove`: what there is of it. `kept_for`, `kept_after`: seconds that
        one waits for a push that was let in, and after a build for the next push."""
        self._start = start
        self._remove = remove
        self._kept_for = kept_for
        self._kept_after = kept_after
        self._pause = pause
        self._waiting: dict[tuple[str, str], Early] = {}
        self._planned: dict[tuple[str, str], asyncio.TimerHandle] = {}
        self._leaving = set[asyncio.Task[None]]()

    def expect(self, expected: Expected) -> None:
        """A push was let in: have one for it. Nothing happens where enough others wait for theirs."""
        self._begin(expected, self._kept_for, lingers=False)

    def linger(self, expected: Expected) -> None:
        """It was built: who pushes once soon pushes again. These make room for those of pushes."""
        if self._kept_after > 0:
            key = (expected.deployment, expected.service)
            self._unplan(key)
            self._planned[key] = asyncio.get_running_loop().call_later(
                self._pause, self._begin_planned, key, expected
            )

    def _begin_planned(self, key: tuple[str, str], expected: Expected) -> None:
        del self._planned[key]
        self._begin(expected, self._kept_after, lingers=True)

    def _begin(self, expected: Expected, seconds: float, *, lingers: bool) -> None:
        key = (expected.deployment, expected.service)
        if key in self._waiting or not self._has_room():
            return
        name = f"early-{secrets.token_hex(6)}"
        expiry = asyncio.get_running_loop().call_later(seconds, self._drop, key)
        ready = asyncio.ensure_future(self._start(name, expected))
        self._waiting[key] = Early(name, ready, expiry, lingers)

    def _has_room(self) -> bool:
        if len(self._waiting) < MOST:
            return True
        oldest = next((key for key, each in self._waiting.items() if each.lingers), None)
        if oldest is not None:
            self._drop(oldest)
        return oldest is not None

    def _unplan(self, key: tuple[str, str]) -> None:
        if planned := self._planned.pop(key, None):
            planned.cancel()

    def take(self, deployment: str, service: str) -> Early | None:
        """The one that waits for that service: from now on the caller's, who removes it."""
        self._unplan((deployment, service))
        early = self._waiting.pop((deployment, service), None)
        if early is not None:
            early.expiry.cancel()
        return early

    async def close(self) -> None:
        """All that wait go."""
        for key in list(self._planned):
            self._unplan(key)
        for key in list(self._waiting):
            self._drop(key)
        await asyncio.gather(*self._leaving)

    def _drop(self, key: tuple[str, str]) -> None:
        early = self._waiting.pop(key)
        early.expiry.cancel()
        leaving = asyncio.create_task(self._leave(early))
        self._leaving.add(leaving)
        leaving.add_done_callback(self._leaving.discard)

    async def _leave(self, early: Early) -> None:
        # One that is still being made must not come up after it was taken away.
        await asyncio.wait({early.ready})
        early.ready.exception()
        await self._remove(early.name)


def identity(folder: Path) -> tuple[int, int] | None:
    """Tells a folder from one that was made in its place; None: there is none."""
    try:
        found = folder.stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino
