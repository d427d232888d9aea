"""Runs the steps of a build under a warden: own user, clean environment, limits, no leftovers."""

import asyncio
import contextlib
import os
import sys
from collections.abc import Mapping
from typing import Self

import msgspec

from builder import warden
from builder.base import BuilderUnavailable
from builder.steps import Step
from builder.threads import completed
from builder.transcript import Sink

_END_SECONDS = 30.0
"""Longer than the warden itself takes to give up on a process that the kernel holds."""
_CHUNK = 16 * 1024
"""Small: a piece full of empty lines must not hold the event loop."""
_PIPE = 64 * 1024


class Sandbox:
    """One warden. `run` one step after the other; `close` ends whatever runs, with all its descendants.

    A server that dies by any means closes the pipe that the warden listens to, which has the same effect.
    """

    def __init__(self, process: asyncio.subprocess.Process, output: int) -> None:
        self._process = process
        self._output = output
        self.groups: tuple[str, ...] = ()
        """Files of control groups that each step enters."""

    @classmethod
    async def open(cls) -> Self:
        """Start the warden. Raises BuilderUnavailable."""
        reader, writer = os.pipe()
        os.set_blocking(reader, False)
        try:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-I", "-S", warden.__file__, str(writer)),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
                pass_fds=[writer],
                env={"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "PYTHONSAFEPATH": "1"},
                cwd="/",
                start_new_session=True,
            )
        except BaseException as error:
            os.close(reader)
            if isinstance(error, OSError):
                raise BuilderUnavailable(f"No process could be started: {error.strerror}.") from error
            raise
        finally:
            os.close(writer)
        return cls(process, reader)

    async def run(self, step: Step, sink: Sink) -> int:
        """Run it to its end; its exit status, negative for a signal. All it printed is in `sink` then.

        Raises BuilderUnavailable when it can't be started, TimeoutError when the step's own time is up. The
        caller closes the sandbox then, and when the time of the whole build has passed.
        """
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None and stdout is not None
        loop = asyncio.get_running_loop()
        loop.add_reader(self._output, self._pump, sink)
        try:
            stdin.write(msgspec.json.encode({**_fields(step), "groups": self.groups}) + b"\n")
            await stdin.drain()
            async with asyncio.timeout(step.timeout):
                answer = await stdout.readline()
        except TimeoutError:  # which is an OSError too
            raise
        except OSError as error:
            raise BuilderUnavailable("The process that watches the build has gone.") from error
        finally:
            if self._output >= 0:
                loop.remove_reader(self._output)
            # What a pipe holds and no more: after a cancel the step still writes.
            for _ in range(_PIPE // _CHUNK):
                if not self._pump(sink):
                    break
        if not answer:
            raise BuilderUnavailable("The process that watches the build has gone.")
        result = msgspec.json.decode(answer, type=dict[str, int | str])
        if "error" in result:
            raise BuilderUnavailable(f"{step.argv[0]} could not be started: {result['error']}")
        return int(result["status"])

    def _pump(self, sink: Sink) -> bool:
        """Move one piece of output; False when there is none now."""
        if self._output < 0:
            return False
        try:
            data = os.read(self._output, _CHUNK)
        except BlockingIOError:
            return False
        if data:
            sink.feed(data)
        else:  # The warden has gone; a reader that is always ready would spin.
            asyncio.get_running_loop().remove_reader(self._output)
        return bool(data)

    def members(self) -> set[int]:
        """Process ids of all that runs of its steps. Blocking."""
        return warden.descendants(self._process.pid)

    async def close(self) -> None:
        """Returns when nothing of the build runs any more."""
        await completed(self._close())

    async def _close(self) -> None:
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            async with asyncio.timeout(_END_SECONDS):
                await self._process.wait()
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()
        if self._output >= 0:
            asyncio.get_running_loop().remove_reader(self._output)
            os.close(self._output)
            self._output = -1


def _fields(step: Step) -> Mapping[str, object]:
    return {
        "argv": step.argv,
        "env": step.env,
        "cwd": str(step.cwd),
        "uid": step.uid,
        "quiet": step.quiet,
        "limits": step.limits,
    }
