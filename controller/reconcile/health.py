"""Finds out whether instances can do their work: probes new ones until they pass."""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from controller.reconcile.desired import Key
from controller.reconcile.probing import Prober
from controller.types import HealthCheck, Instance, InstanceState

FIRST_PAUSE, LONGEST_PAUSE = 0.01, 0.5
"""Seconds between probes: short at first, as most apps listen within a moment; then doubling."""
FIRST_COMMAND_PAUSE, LONGEST_COMMAND_PAUSE = 0.5, 4.0
"""The same where each probe begins a process."""


@dataclass(frozen=True)
class _Run:
    """One run of an instance: when it is started anew, what was known of its health is void."""

    instance: str
    started_at: datetime | None
    restarts: int


@dataclass
class _Watched:
    run: _Run
    task: asyncio.Task[None] | None
    since: datetime
    ready: bool = False
    said: str = ""


class HealthWatch:
    """Knows which running instances are ready, by one probing task for each that is not yet."""

    def __init__(self, prober: Prober, wake: Callable[[Key], None]) -> None:
        self._prober = prober
        self._wake = wake
        self._watched: dict[str, _Watched] = {}
        self._of_service: dict[Key, set[str]] = {}

    def update(
        self,
        key: Key,
        instances: Iterable[Instance],
        checks: Mapping[str, HealthCheck],
        adopted: frozenset[str],
    ) -> None:
        """Follow the latest observation of one service: forget what is gone, probe what is new.

        `checks` has the check of each instance by id. `adopted` are instances that the router already
        sends requests to: those passed their check before this controller was started.
        """
        present = set[str]()
        for each in instances:
            if each.state not in (InstanceState.STARTING, InstanceState.RUNNING) or each.id not in checks:
                continue
            present.add(each.id)
            run = _Run(each.id, each.started_at, each.restarts)
            known = self._watched.get(each.id)
            if known is not None and known.run == run:
                continue
            if known is not None and known.task is not None:
                known.task.cancel()
            watched = _Watched(run, None, datetime.now(UTC), ready=known is None and each.id in adopted)
            if not watched.ready:
                watched.task = asyncio.create_task(self._probe(key, each, checks[each.id], watched))
            self._watched[each.id] = watched
        before = self._of_service.pop(key, set())
        if present:
            self._of_service[key] = present
        for gone in before - present:
            forgotten = self._watched.pop(gone)
            if forgotten.task is not None:
                forgotten.task.cancel()

    async def _probe(self, key: Key, instance: Instance, check: HealthCheck, watched: _Watched) -> None:
        pause, longest = FIRST_PAUSE, LONGEST_PAUSE
        if check.command is not None:
            pause, longest = FIRST_COMMAND_PAUSE, LONGEST_COMMAND_PAUSE
        while (said := await self._prober(instance, check)) is not None:
            watched.said = said
            await asyncio.sleep(pause)
            pause = min(pause * 2, longest)
        watched.ready, watched.said, watched.task = True, "", None
        self._wake(key)

    def ready(self, instance: str) -> bool:
        return instance in self._watched and self._watched[instance].ready

    def said(self, instance: str) -> str:
        """What the last probe of an instance that is not ready said; empty before the first has ended."""
        return self._watched[instance].said if instance in self._watched else ""

    def since(self, instance: str) -> datetime | None:
        """When probing of that instance began; None when it is not watched."""
        return self._watched[instance].since if instance in self._watched else None

    async def close(self) -> None:
        """End all probes."""
        tasks = [each.task for each in self._watched.values() if each.task is not None]
        self._watched.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
