"""Runs the steps of a build as plain processes: the container around them is what ends them all."""

import asyncio
import contextlib
import os
import resource
import signal
from asyncio.subprocess import DEVNULL, PIPE, STDOUT

from builder.base import BuilderUnavailable
from builder.steps import Step
from builder.transcript import Sink

_CHUNK = 16 * 1024


class Processes:
    """Implements Runner. A step's user and most of its limits are the container's."""

    async def run(self, step: Step, sink: Sink) -> int:
        try:
            process = await asyncio.create_subprocess_exec(
                *step.argv,
                env=dict(step.env),
                cwd=step.cwd,
                stdin=DEVNULL,
                stdout=PIPE,
                stderr=DEVNULL if step.quiet else STDOUT,
                start_new_session=True,
                preexec_fn=lambda: _limit_files(step.limits.get("FSIZE")),
            )
        except OSError as error:
            raise BuilderUnavailable(f"{step.argv[0]} could not be started: {error.strerror}") from error
        try:
            async with asyncio.timeout(step.timeout):
                assert process.stdout is not None
                reading = asyncio.ensure_future(_drain(process.stdout, sink))
                status = await process.wait()
                _end_all()
                await reading
        finally:
            _end_all()
        return status


async def _drain(reader: asyncio.StreamReader, sink: Sink) -> None:
    while data := await reader.read(_CHUNK):
        sink.feed(data)


def _end_all() -> None:
    """Whatever a step left in the background ends with it, as on the host: in this container all is the build's
    but its init, which this does not reach, and ourselves."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(-1, signal.SIGKILL)


def _limit_files(size: int | None) -> None:
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    if size is not None:
        wanted = size if hard == resource.RLIM_INFINITY else min(size, hard)
        resource.setrlimit(resource.RLIMIT_FSIZE, (wanted, wanted))
