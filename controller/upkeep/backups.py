"""Starts the backups that are due by their schedules. What is due follows from the records alone, so that a server
that was down, or is killed in the middle, makes up for it by one turn.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime

from controller.errors import Conflict
from controller.schedules import is_due
from controller.state import State

log = logging.getLogger(__name__)

AT_ONCE = 2
"""Backups by schedules that run at the same time; others wait until one of these has ended."""

BackUp = Callable[[str, str], Awaitable[None]]
"""A turn of the schedule of that resource (deployment, name). Raises Conflict where it can't be its turn now."""


class ScheduledBackups:
    def __init__(self, state: State, back_up: BackUp, *, clock: Callable[[], datetime]) -> None:
        self._state = state
        self._back_up = back_up
        self._clock = clock
        self._running: dict[tuple[str, str], asyncio.Task[None]] = {}

    async def look(self) -> None:
        """Start what is due now, those first that have waited longest. Never a resource beside itself."""
        for key in self._due():
            if len(self._running) >= AT_ONCE:
                return
            self._running[key] = asyncio.create_task(self._turn(key), name=f"backup of {'/'.join(key)}")

    def problems(self) -> Sequence[str]:
        """Whose last turn failed. Why is told where everybody who sees it may see the deployment."""
        return [
            f"The last backup of {each.deployment}'s {each.name} by its schedule failed: "
            f"`resources:info -a {each.deployment} {each.name}` tells why."
            for each in self._state.resources()
            if each.backup is not None and each.backup.failure
        ]

    async def idle(self) -> None:
        """Wait until none runs."""
        while self._running:
            await asyncio.wait(list(self._running.values()))

    async def close(self) -> None:
        """End what runs, of which nothing stays; it is still due at the next start."""
        running = list(self._running.values())
        for each in running:
            each.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    def _due(self) -> Sequence[tuple[str, str]]:
        now = self._clock()
        waiting = [
            (each.backup.since, (each.deployment, each.name))
            for each in self._state.resources()
            if each.backup is not None and is_due(each.backup.schedule, each.backup.since, now)
        ]
        return [key for _, key in sorted(waiting) if key not in self._running]

    async def _turn(self, key: tuple[str, str]) -> None:
        try:
            await self._back_up(*key)
        except Conflict:
            log.info("backup waits deployment=%s resource=%s", *key)
        except Exception:  # whatever it is: it stays due, and others go on
            log.exception("backup by schedule failed deployment=%s resource=%s", *key)
        finally:
            del self._running[key]
