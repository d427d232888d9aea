"""Build containers that are started before their source is there: somebody was let in to push, and a container takes
longer to start than a small pack to come."""

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from builder.container import Container
from builder.types import Expected
from controller.engine import EngineError

log = logging.getLogger(__name__)

KEPT_FOR = 10.0
"""Seconds that one waits for its source; then it goes."""
MOST = 2
"""That wait at a time: each holds some 10 MiB."""


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
        return (self.image, self.uid, self.cache) == (image, uid, identity(cache))


@dataclass(frozen=True)
class Early:
    """One that waits for its source, or is on its way there."""

    name: str
    ready: "asyncio.Future[Ready]"
    expiry: asyncio.TimerHandle


class EarlyContainers:
    """At most one for each service. Used from one event loop."""

    def __init__(
        self,
        start: Callable[[str, Expected], Awaitable[Ready]],
        remove: Callable[[str], Awaitable[None]],
        *,
        kept_for: float = KEPT_FOR,
    ) -> None:
        """`start`: a container of this name; `remove`: what there is of it. `kept_for`: seconds."""
        self._start = start
        self._remove = remove
        self._kept_for = kept_for
        self._waiting: dict[tuple[str, str], Early] = {}
        self._leaving = set[asyncio.Task[None]]()

    def expect(self, expected: Expected) -> None:
        """Have one for it. Nothing happens where enough wait."""
        key = (expected.deployment, expected.service)
        if key in self._waiting or len(self._waiting) >= MOST:
            return
        name = f"early-{secrets.token_hex(6)}"
        expiry = asyncio.get_running_loop().call_later(self._kept_for, self._drop, key)
        ready = asyncio.ensure_future(self._start(name, expected))
        self._waiting[key] = Early(name, ready, expiry)

    def take(self, deployment: str, service: str) -> Early | None:
        """The one that waits for that service: from now on the caller's, who removes it."""
        early = self._waiting.pop((deployment, service), None)
        if early is not None:
            early.expiry.cancel()
        return early

    async def close(self) -> None:
        """All that wait go."""
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
        try:
            await self._remove(early.name)
        except EngineError as error:
            log.warning("build container not removed, the next start sweeps it: %s", error)


def identity(folder: Path) -> tuple[int, int] | None:
    """Tells a folder from one that was made in its place; None: there is none."""
    try:
        found = folder.stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino
