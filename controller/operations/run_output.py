"""What a one-off prints, from its first line to its last."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace
from datetime import datetime, timedelta

from controller.backends.base import SupportsLogs
from controller.logs.query import LogQuery, LogStream, read
from controller.state import State
from controller.types import LogLine, LogSource, Run

POLL = 0.2
"""Seconds between two looks at whether it is over."""


async def run_output(
    state: State, backend: SupportsLogs, run: Run, *, lines: int | None = None, follow: bool
) -> AsyncGenerator[LogLine, None]:
    """The last `lines` lines (None: all); with `follow` also those to come, until the run is over and all was told.

    Only what the process itself prints. Raises BackendError.
    """
    query = LogQuery(
        deployment=run.deployment,
        service=run.service,
        sources=frozenset({LogSource.APP}),
        instance=run.id,
        lines=lines,
    )
    if follow and not _is_over(state, run):
        last: datetime | None = None
        async with aclosing(_until_over(state, backend.logs(query), run)) as found:
            async for line in found:
                last = line.time
                yield line
        # What was on its way when we looked away is in the file, as the run's end has been noted.
        since = None if last is None else last + timedelta(microseconds=1)
        query = replace(query, lines=None, since=since)
    async with aclosing(read(backend.logs(query))) as rest:
        async for line in rest:
            yield line


async def _until_over(state: State, stream: LogStream, run: Run) -> AsyncGenerator[LogLine, None]:
    async with aclosing(read(stream, follow=True)) as found:
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


def _is_over(state: State, run: Run) -> bool:
    now = state.run(run.id)
    return now is None or now.status.over
