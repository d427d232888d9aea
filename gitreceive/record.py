"""The record of one build: what it prints is kept, how it ended is written down, whatever happens."""

import asyncio
import logging
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Any, TypeVar

from builder.base import BuilderUnavailable, BuildFailed
from builder.types import BuildOutput
from controller.client import Client
from controller.errors import MooringError
from controller.names import Address
from controller.types import Artifact, Build, BuildStatus
from gitreceive.progress import harmless

log = logging.getLogger(__name__)

T = TypeVar("T")

FLUSH_INTERVAL = 0.5
"""Seconds between two writes of the log."""
WATCH_INTERVAL = 1.0
"""Seconds between two looks at whether somebody asked for the build's end."""
CLOSE_TIMEOUT = 10.0
"""Seconds that writing down its end may take."""


class BuildCanceled(Exception):
    """Somebody asked for the build's end."""


class BuildRecord:
    """An open build record; a `BuildOutput` that prints for the pusher and for the log."""

    def __init__(self, client: Client, build: Build, out: BuildOutput) -> None:
        self.id = build.id
        self.artifact: Artifact | None = None
        self._client = client
        self._out = out
        self._lines: list[str] = []

    def step(self, text: str) -> None:
        self._out.step(text)
        self._lines.append(f"-----> {harmless(text)}")

    def line(self, text: str) -> None:
        self._out.line(text)
        self._lines.append(f"       {harmless(text)}".rstrip())

    def warn(self, text: str) -> None:
        self._out.warn(text)
        self._lines += [f" !     {harmless(each)}" for each in text.splitlines()]

    async def unless_canceled(self, work: Coroutine[Any, Any, T]) -> T:
        """Run this; end it and raise BuildCanceled when somebody asks for the build's end."""
        task = asyncio.create_task(work)
        watch = asyncio.create_task(self._cancel_requested())
        try:
            await asyncio.wait({task, watch}, return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                raise BuildCanceled(f"{watch.result()} cancelled the build.")
            return task.result()
        finally:
            await _end(watch)
            await _end(task)

    async def flush(self) -> None:
        """Write what is there to the log. A log that can't be written doesn't stop the build."""
        lines, self._lines = self._lines, []
        if lines:
            try:
                await self._client.append_build_log(self.id, lines)
            except MooringError as error:
                log.warning("build log not written build=%s lines=%d error=%s", self.id, len(lines), error)

    async def keep_flushing(self) -> None:
        while True:
            await asyncio.sleep(FLUSH_INTERVAL)
            await self.flush()

    async def _cancel_requested(self) -> str:
        while True:
            await asyncio.sleep(WATCH_INTERVAL)
            with suppress(MooringError):
                build = await self._client.build(self.id)
                if build.cancel_requested_by:
                    return build.cancel_requested_by


@asynccontextmanager
async def build_record(
    client: Client, address: Address, *, commit: str, out: BuildOutput
) -> AsyncIterator[BuildRecord]:
    """Open a record; when the block is left its log is complete and its end is written down."""
    record = BuildRecord(client, await client.open_build(address, commit=commit), out)
    flushing = asyncio.create_task(record.keep_flushing())
    status, reason = BuildStatus.FAILED, ""
    try:
        yield record
        status = BuildStatus.SUCCEEDED
    except (BuildFailed, BuilderUnavailable, MooringError) as error:
        reason = str(error)
        raise
    except BuildCanceled as error:
        status, reason = BuildStatus.CANCELED, str(error)
        raise
    except asyncio.CancelledError:
        status, reason = BuildStatus.CANCELED, "The client went away, or the server stopped."
        raise
    except Exception as error:
        reason = f"An error of the server's own: {type(error).__name__}."
        raise
    finally:
        await _end(flushing)
        await asyncio.shield(_close(client, record, status, reason))


async def _close(client: Client, record: BuildRecord, status: BuildStatus, reason: str) -> None:
    try:
        async with asyncio.timeout(CLOSE_TIMEOUT):
            await record.flush()
            await client.close_build(record.id, status, error=reason, artifact=record.artifact)
    except (MooringError, TimeoutError) as error:
        # The server's next start finds it open and marks it as abandoned.
        log.warning("build record not closed build=%s status=%s error=%s", record.id, status, error)


async def _end(task: asyncio.Task[Any]) -> None:
    task.cancel()
    await asyncio.wait({task})
    if not task.cancelled():
        task.exception()  # taken note of, so that asyncio doesn't complain; the caller has its result
