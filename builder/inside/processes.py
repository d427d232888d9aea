"""Runs the steps of a build as plain processes: the container around them is what ends them all."""

import asyncio
import contextlib
import os
import resource
import signal
from asyncio.subprocess import DEVNULL
from pathlib import Path

from builder.base import BuilderUnavailable
from builder.steps import Step
from builder.transcript import Sink

_CHUNK = 16 * 1024
_MARKS = (Path("/.dockerenv"), Path("/run/.containerenv"))
"""One of them is in every container."""


class Processes:
    """Implements Runner. A step's user and most of its limits are the container's."""

    def __init__(self) -> None:
        if not any(each.exists() for each in _MARKS):
            # What ends a step ends all processes of the user: nowhere else may that be done.
            raise BuilderUnavailable("Steps run like this in a container only.")

    async def run(self, step: Step, sink: Sink) -> int:
        # A pipe of our own: asyncio's would be waited for as long as somebody in the background holds it.
        reader, writer = os.pipe()
        reading = asyncio.ensure_future(_drain(reader, sink))
        try:
            try:
                process = await asyncio.create_subprocess_exec(
                    *step.argv,
                    env=dict(step.env),
                    cwd=step.cwd,
                    stdin=DEVNULL,
                    stdout=writer,
                    stderr=DEVNULL if step.quiet else writer,
                    start_new_session=True,
                    preexec_fn=lambda: _limit_files(step.limits.get("FSIZE")),
                )
            except OSError as error:
                raise BuilderUnavailable(f"{step.argv[0]} could not be started: {error.strerror}") from error
            finally:
                os.close(writer)
            async with asyncio.timeout(step.timeout):
                status = await process.wait()
        finally:
            _end_all()
            await reading
        return status


async def _drain(descriptor: int, sink: Sink) -> None:
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=_CHUNK)
    protocol = asyncio.StreamReaderProtocol(reader)
    transport, _ = await loop.connect_read_pipe(lambda: protocol, os.fdopen(descriptor, "rb", 0))
    try:
        while data := await reader.read(_CHUNK):
            sink.feed(data)
    finally:
        transport.close()


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
