"""What a one-off prints, from its first line to its last."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from datetime import datetime

from controller.backends.base import SupportsLogs
from controller.state import State
from controller.types import LogLine, LogSource, Run

POLL = 0.2
"""Seconds between two looks at whether it is over."""
ALL = 10_000
"""Lines that are told of what it has printed before anybody looked."""


async def run_output(
    state: State, backend: SupportsLogs, run: Run, *, lines: int = ALL, follow: bool
) -> AsyncGenerator[LogLine, None]:
    """The last `lines` lines; with `follow` also those to come, until the run is over and all was told.

    Only what the process itself prints. Raises BackendError.
    """
    last: datetime | None = None
    if follow and not _is_over(state, run):
        async for line in _until_over(state, backend, run, lines):
            last = line.time
            if line.source is LogSource.APP:
                yield line
        lines = ALL
    # Whatever was on its way while we looked away is in the file once the run's end has been noted.
    async for line in _logs(backend, run, lines=lines, follow=False):
        if line.source is LogSource.APP and (last is None or line.time > last):
            yield line


async def _until_over(
    state: State, backend: SupportsLogs, run: Run, lines: int
) -> AsyncGenerator[LogLine, None]:
    async with aclosing(_logs(backend, run, lines=lines, follow=True)) as found:
        upcoming = asyncio.ensure_future(anext(found, None))
        try:
            while True:
                await asyncio.wait({upcoming}, timeout=POLL)
                if upcoming.done():
                    line = upcoming.result()
                    if line is None:
                        return
                    yield line
                    upcoming = asyncio.ensure_future(anext(found, None))
                elif _is_over(state, run):
                    return
        finally:
            upcoming.cancel()
            await asyncio.wait({upcoming})


async def _logs(
    backend: SupportsLogs, run: Run, *, lines: int, follow: bool
) -> AsyncGenerator[LogLine, None]:
    found = backend.logs(
        deployment=run.deployment, service=run.service, instance=run.id, lines=lines, follow=follow
    )
    try:
        async for line in found:
            yield line
    finally:
        if isinstance(found, AsyncGenerator):
            await found.aclose()


def _is_over(state: State, run: Run) -> bool:
    now = state.run(run.id)
    return now is None or now.status.over
