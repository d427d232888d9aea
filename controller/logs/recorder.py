"""Writes what the router tells of requests to the logs of their services, bounded in rate and size."""

import asyncio
import contextlib
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from controller.backends.keeper.output import Output, stamp
from controller.formation import UNNAMED, due_processes
from controller.logs.access import text_of
from controller.logs.files import in_thread
from controller.state import State
from router.access import AccessBatch, AccessLine
from router.base import RouterError, SupportsAccessLogs

log = logging.getLogger(__name__)

ROUTER_LOG = "router.log"
"""File with the requests of a service, in its log folder. No instance is named so."""
PAUSE, SHORT_PAUSE = 0.2, 0.03
"""Seconds between two looks: a request is in its log so much later. The short one follows a look that found many."""
MANY = 500
RATE = 5000
"""Requests written in a second, of all services. Of more each service has an equal share, and the rest is counted."""
BURST = 10_000
"""Requests written at once after a quiet time, such as a restart of the server."""
TELL = 5.0
"""Seconds in which requests that were left out are counted before their number is written."""

Wanted = Callable[[str, str], bool | None]
"""Whether the service (deployment, name) should have instances that take requests; None: there is none."""


@dataclass
class _LeftOut:
    """Requests that are in no log, by pool, since `since`."""

    counts: Counter[str]
    since: float

    def due(self, now: float) -> Mapping[str, int]:
        """What is to be told now; it is forgotten."""
        if not self.counts or now < self.since + TELL:
            return {}
        told, self.counts, self.since = self.counts, Counter(), now
        return told


class AccessRecorder:
    """Runs beside the reconcile loop; what fails is said in the server's log and tried again."""

    def __init__(self, router: SupportsAccessLogs, folder: Path, wanted: Wanted) -> None:
        """`folder`: that of all logs, `<deployment>/<service>/`."""
        self._router = router
        self._folder = folder
        self._wanted = wanted
        self._left_out = _LeftOut(Counter(), 0.0)
        self._failing = False
        self._room = float(BURST)
        self._looked_at = time.monotonic()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            seen = 0
            try:
                seen = await self.turn()
                self._failing = False
            except (RouterError, OSError) as error:
                if not self._failing:
                    log.warning("router logs can't be written cause=%s", error)
                self._failing = True
            except Exception:  # whatever it is, the requests after these are worth another try
                log.exception("router logs have a fault of their own")
            await asyncio.sleep(SHORT_PAUSE if seen > MANY else PAUSE)

    async def turn(self) -> int:
        """Write what there is now; the number of requests that it was told of."""
        now = time.monotonic()
        self._room = min(BURST, self._room + (now - self._looked_at) * RATE)
        self._looked_at = now
        batch = await self._router.take_access(most=int(self._room))
        self._room -= len(batch.lines)
        if batch.lost:
            log.warning("router logs: requests lost count=%d cause=nobody read them in time", batch.lost)
        self._left_out.counts.update(batch.skipped)
        left_out = self._left_out.due(now)
        if batch.lines or left_out:
            wanted = {name: self._wanted(*_service(name)) for name in {*map(_pool, batch.lines), *left_out}}
            await in_thread(lambda: self._write(batch, left_out, wanted))
        return len(batch.lines) + sum(batch.skipped.values())

    def _write(
        self, batch: AccessBatch, left_out: Mapping[str, int], wanted: Mapping[str, bool | None]
    ) -> None:
        blobs: dict[str, list[bytes]] = {name: [] for name, each in wanted.items() if each is not None}
        for line in batch.lines:
            if (lines := blobs.get(line.pool)) is not None:
                lines.append(_written(line, wanted=bool(wanted[line.pool])))
        now = time.time()
        for name, lines in blobs.items():
            if count := left_out.get(name):
                lines.append(_note(now, f"{count} requests are not in this log: too many came at once"))
            if lines and batch.lost:
                lines.append(
                    _note(
                        now, f"{batch.lost} requests of all apps are in no log: the server was away or busy"
                    )
                )
        for name, lines in blobs.items():
            self._append(name, lines)

    def _append(self, name: str, lines: Iterable[bytes]) -> None:
        deployment, service = _service(name)
        out = Output(self._folder / deployment / service / ROUTER_LOG)
        # Opened anew each time: a service may have been destroyed, and made again, since.
        with contextlib.closing(out):
            out.append(b"".join(lines))


def requests_wanted(state: State, deployment: str, name: str) -> bool | None:
    """Whether the service should have instances that take requests; None: there is no such service."""
    service = state.service(deployment, name)
    if service is None:
        return None
    version = state.version(deployment, name, service.current or service.target or 0)
    due = due_processes(service, version) if version else {}
    return any(due.get(kind, 0) for kind in ("web", UNNAMED))


def _pool(line: AccessLine) -> str:
    return line.pool


def _service(pool: str) -> tuple[str, str]:
    deployment, _, service = pool.partition("/")
    return deployment, service


def _written(line: AccessLine, *, wanted: bool) -> bytes:
    text = f"{line.target or '-'} {text_of(line, wanted=wanted)}\n"
    return stamp(line.ended_at) + b" router " + text.encode(errors="replace")


def _note(now: float, text: str) -> bytes:
    return stamp(now) + f' router - at=warning desc="{text}"\n'.encode()
