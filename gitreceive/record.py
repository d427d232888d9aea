"""The record of one build: what it prints is kept, how it ended is written down, whatever happens."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Any, TypeVar

from builder.base import BuilderUnavailable, BuildFailed
from builder.types import BuildOutput
from controller.client import Client
from controller.errors import MooringError
from controller.names import Address
from controller.types import Artifact, Build, BuildStatus
from gitreceive.progress import harmless
from gitreceive.turns import Turn

log = logging.getLogger(__name__)

T = TypeVar("T")

FLUSH_INTERVAL = 0.5
"""Seconds between two writes of the log."""
WATCH_INTERVAL = 1.0
"""Seconds between two signs of life, which tell whether somebody asked for the build's end, too."""
CLOSE_TIMEOUT = 10.0
"""Seconds that writing down its end may take."""


class BuildCanceled(Exception):
    """Somebody asked for the build's end, or ended it."""


class Refusal(Exception):
    """What is refused before it is built, with a sentence for people."""


class BuildRecord:
    """A build's record, opened by the first thing there is to tell; a `BuildOutput` for pusher and log."""

    def __init__(
        self, client: Client, address: Address, commit: str | None, reason: str, out: BuildOutput
    ) -> None:
        self._client = client
        self._address = address
        self._commit = commit
        self._reason = reason
        self._out = out
        self._lines: list[str] = []
        self._phase: str | None = None
        self._told = ""
        """The phase that the record has."""
        self._build: Build | None = None
        self._ended = False

    @property
    def id(self) -> str:
        """Of one that was opened."""
        assert self._build is not None
        return self._build.id

    async def wait(self, turn: Turn, why: Callable[[], str]) -> None:
        """Wait for the turn as a queued build. Raises BuildCanceled when somebody asks for its end."""
        if turn.has_come:
            return
        reason = why()
        self._out.step(reason)
        if self._build is None:
            await self._open(reason)
        else:
            await self._client.touch_build(self.id, status=BuildStatus.QUEUED, doing=reason)
        await self._unless_ended(turn.wait())

    async def run(self, work: Callable[[], Coroutine[Any, Any, Artifact]]) -> Artifact:
        """Run the build and write down how it ended. Raises BuildCanceled when somebody asks for its end."""
        if self._build is None:
            await self._open("")
        else:
            await self._client.touch_build(self.id, status=BuildStatus.RUNNING, doing="")
        flushing = asyncio.create_task(self._keep_flushing())
        try:
            artifact = await self._unless_ended(work())
        finally:
            await _end(flushing)
        await asyncio.shield(self.close(BuildStatus.SUCCEEDED, artifact=artifact))
        return artifact

    async def close(self, status: BuildStatus, reason: str = "", *, artifact: Artifact | None = None) -> None:
        """Complete the log and write down the end; nothing where it was never opened, or has ended already."""
        if self._build is None or self._ended:
            return
        self._ended = True
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT):
                await self._flush()
                await self._client.close_build(self.id, status, error=reason, artifact=artifact)
        except (MooringError, TimeoutError) as error:
            # Nothing is heard of it any more, and so it is marked as abandoned before long.
            log.warning("build record not closed build=%s status=%s error=%s", self.id, status, error)

    def step(self, text: str) -> None:
        self._phase = text
        self._out.step(text)
        self._lines.append(f"-----> {harmless(text)}")

    def line(self, text: str) -> None:
        self._out.line(text)
        self._lines.append(f"       {harmless(text)}".rstrip())

    def warn(self, text: str) -> None:
        self._out.warn(text)
        self._lines += [f" !     {harmless(each)}" for each in text.splitlines()]

    async def _open(self, waits_for: str) -> None:
        # Shielded: one that was opened is closed in any case.
        opening = asyncio.ensure_future(
            self._client.open_build(
                self._address, commit=self._commit, reason=self._reason, waits_for=waits_for
            )
        )
        try:
            self._build = await asyncio.shield(opening)
        except asyncio.CancelledError:
            await asyncio.wait({opening})
            if not opening.exception():
                self._build = opening.result()
            raise

    async def _unless_ended(self, work: Coroutine[Any, Any, T]) -> T:
        """Run this; end it and raise BuildCanceled when somebody ends the build, or asks for that."""
        task = asyncio.create_task(work)
        watch = asyncio.create_task(self._ended_by_others())
        try:
            await asyncio.wait({task, watch}, return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                raise BuildCanceled(watch.result())
            return task.result()
        finally:
            await _end(watch)
            await _end(task)

    async def _ended_by_others(self) -> str:
        """Give signs of life, until the answer says that the build shall end: why, in a sentence."""
        while True:
            await asyncio.sleep(WATCH_INTERVAL)
            phase = self._phase
            with suppress(MooringError):
                build = await self._client.touch_build(self.id, doing=phase if phase != self._told else None)
                self._told = phase or self._told
                if build.cancel_requested_by:
                    return f"{build.cancel_requested_by} cancelled the build."
                if not build.status.under_way:
                    return f"The build was ended: {build.error or build.status}."

    async def _flush(self) -> None:
        """Write what is there to the log. A log that can't be written doesn't stop the build."""
        lines, self._lines = self._lines, []
        if lines:
            try:
                await self._client.append_build_log(self.id, lines)
            except MooringError as error:
                log.warning("build log not written build=%s lines=%d error=%s", self.id, len(lines), error)

    async def _keep_flushing(self) -> None:
        while True:
            await asyncio.sleep(FLUSH_INTERVAL)
            await self._flush()


@asynccontextmanager
async def build_record(
    client: Client, address: Address, *, commit: str | None, reason: str, out: BuildOutput
) -> AsyncIterator[BuildRecord]:
    """A record to wait and to build with; when the block is left its end is written down, whatever it was."""
    record = BuildRecord(client, address, commit, reason, out)
    status, why = BuildStatus.FAILED, ""
    try:
        yield record
        status, why = BuildStatus.CANCELED, "There was nothing to build any more."
    except BuildCanceled as error:
        status, why = BuildStatus.CANCELED, str(error)
        raise
    except asyncio.CancelledError:
        status, why = BuildStatus.CANCELED, "The client went away, or the server stopped."
        raise
    except (BuildFailed, BuilderUnavailable, MooringError, Refusal) as error:
        why = str(error)
        raise
    except Exception as error:
        why = f"An error of the server's own: {type(error).__name__}."
        raise
    finally:
        await asyncio.shield(record.close(status, why))


async def _end(task: asyncio.Task[Any]) -> None:
    task.cancel()
    await asyncio.wait({task})
    if not task.cancelled():
        task.exception()  # taken note of, so that asyncio doesn't complain; the caller has its result
