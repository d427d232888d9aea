"""Finds out whether instances can do their work: probes new ones until they pass."""

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

import httpx

from controller.reconcile.desired import Key
from controller.types import HealthCheck, Instance, InstanceState

PROBE_TIMEOUT = 5.0
"""Seconds that one probe may take."""
FIRST_PAUSE, LONGEST_PAUSE = 0.01, 0.5
"""Seconds between probes: short at first, as most apps listen within a moment; then doubling."""


class Prober(Protocol):
    async def __call__(self, instance: Instance, check: HealthCheck) -> str | None:
        """Ask once. None: it is healthy; else what is wrong, in words."""


async def probe(instance: Instance, check: HealthCheck) -> str | None:
    """An HTTP request where a path is given, else a TCP connect, else some time of staying up."""
    if instance.port is None:
        await asyncio.sleep(check.settle)
        return None  # a crash meanwhile ends this probe: see HealthWatch.update
    host = instance.address or "127.0.0.1"
    if check.path is None:
        return await _connect(host, instance.port)
    return await _get(f"http://{host}:{instance.port}{check.path}")


async def _connect(host: str, port: int) -> str | None:
    try:
        async with asyncio.timeout(PROBE_TIMEOUT):
            _, writer = await asyncio.open_connection(host, port)
    except TimeoutError:
        return f"no answer on port {port} within {PROBE_TIMEOUT:g} s"
    except OSError:
        return f"nothing listens on port {port}"
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return None


async def _get(url: str) -> str | None:
    try:
        async with httpx.AsyncClient(timeout=PROBE_TIMEOUT, trust_env=False) as client:
            response = await client.get(url, headers={"User-Agent": "mooring-health"})
    except httpx.TimeoutException:
        return f"GET {url} was not answered within {PROBE_TIMEOUT:g} s"
    except httpx.HTTPError as error:
        return f"GET {url} failed: {error or type(error).__name__}"
    return None if 200 <= response.status_code < 400 else f"GET {url} answered {response.status_code}"


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
        pause = FIRST_PAUSE
        while (said := await self._prober(instance, check)) is not None:
            watched.said = said
            await asyncio.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE)
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
