"""Commands that somebody is attached to: a container of their own, or a process beside an instance in its.

The streams are the engine's own; nothing of them is kept by it. What ends the command differs.
"""

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncGenerator, Callable
from typing import Any, Protocol

from controller.backends.docker.seen import describe_exit
from controller.backends.docker.watch import Watch
from controller.backends.docker.wire import Frames, Wire, ask, open_wire
from controller.backends.keeper.processes import MARKER, Census, Family, send
from controller.engine import Engine, EngineError, NotThere

PIECE = 32 * 1024
"""Bytes of output read at once, and read ahead; the engine keeps some more before the command waits."""
ASKED_EVERY = 1.0
"""Seconds between two questions whether a command in a container has ended, where no event told it."""
GONE_TIMEOUT = 20.0
"""Seconds after SIGKILL in which all of it must be gone."""
OUTCOME_TIMEOUT = 5.0
"""Seconds in which an engine tells how a command ended that it has no streams of any more."""
_CTRL_D = b"\x04"

Outcome = tuple[int | None, str]
LOST: Outcome = (None, "the container engine does not tell how it ended")


class There(Protocol):
    """Where a command runs, and what can be done to it there. Raises EngineError."""

    async def outcome(self) -> Outcome:
        """Once it has ended by itself, and all that it began."""

    async def signal(self, number: int) -> None: ...

    async def resize(self, columns: int, rows: int) -> None: ...

    async def end(self, grace: float, ended: asyncio.Task[Outcome], let_go: Callable[[], None]) -> None:
        """Returns when nothing of it is left. `let_go` ends its input, once it has been told to end."""


class AttachedCommand:
    """Implements Attached."""

    def __init__(self, wire: Wire, there: There, *, terminal: bool) -> None:
        self._wire = wire
        self._there = there
        self._terminal = terminal
        self._ended = asyncio.create_task(there.outcome())
        self._size: tuple[int, int] | None = None
        self._sizing: asyncio.Task[None] | None = None
        self._over = False

    async def output(self) -> AsyncGenerator[tuple[int, bytes], None]:
        frames = Frames()
        with contextlib.suppress(OSError):
            while data := await self._wire.reader.read(PIECE):
                if self._terminal:
                    yield 1, data
                    continue
                for stream, piece in frames.feed(data):
                    yield stream, piece

    async def write(self, data: bytes) -> None:
        with contextlib.suppress(OSError):
            if not self._wire.writer.is_closing():
                self._wire.writer.write(data)
                await self._wire.writer.drain()

    async def close_input(self) -> None:
        if self._terminal:
            await self.write(_CTRL_D)
        else:
            with contextlib.suppress(OSError):
                self._wire.writer.write_eof()

    def resize(self, columns: int, rows: int) -> None:
        if self._terminal and not self._over:
            self._size = (min(max(columns, 1), 9999), min(max(rows, 1), 9999))
            if self._sizing is None or self._sizing.done():
                self._sizing = asyncio.create_task(self._resize())

    async def signal(self, number: int) -> None:
        with contextlib.suppress(EngineError):
            await self._there.signal(number)

    async def wait(self) -> Outcome:
        try:
            return await asyncio.shield(self._ended)
        except EngineError:
            return LOST

    async def end(self, *, grace: float = 3.0) -> None:
        self._over = True
        try:
            with contextlib.suppress(EngineError):
                await self._there.end(grace, self._ended, self._let_go)
        finally:
            self._wire.close()
            if self._sizing is not None:
                self._sizing.cancel()
        if not self._ended.done():
            await asyncio.wait([self._ended], timeout=OUTCOME_TIMEOUT)
            self._ended.cancel()

    def _let_go(self) -> None:
        with contextlib.suppress(OSError):
            self._wire.writer.write_eof()

    async def _resize(self) -> None:
        while self._size is not None:
            (columns, rows), self._size = self._size, None
            with contextlib.suppress(EngineError):
                await self._there.resize(columns, rows)


class OwnContainer:
    """Implements There: a container that is there for the command alone, and goes with it."""

    def __init__(self, engine: Engine, container: str, exit_wire: Wire, *, gone: Callable[[], None]) -> None:
        """`exit_wire`: what the engine answers when it ends. `gone` is called once it has."""
        assert engine.socket is not None
        self._engine = engine
        self._socket = engine.socket
        self._container = container
        self._exit = exit_wire
        self._gone = gone

    async def outcome(self) -> Outcome:
        try:
            code = int((await self._exit.json())["StatusCode"])
        except (EngineError, LookupError, TypeError):
            return LOST
        finally:
            self._exit.close()
            self._gone()
        return code, describe_exit(code)

    async def signal(self, number: int) -> None:
        await ask(self._socket, "POST", f"/containers/{self._container}/kill", {"signal": number})

    async def resize(self, columns: int, rows: int) -> None:
        size = {"h": rows, "w": columns}
        await ask(self._socket, "POST", f"/containers/{self._container}/resize", size)

    async def end(self, grace: float, ended: asyncio.Task[Outcome], let_go: Callable[[], None]) -> None:
        if grace > 0 and not ended.done():
            for each in (signal.SIGHUP, signal.SIGTERM):
                with contextlib.suppress(EngineError):
                    await self.signal(each)
            let_go()
            await asyncio.wait([ended], timeout=grace)
        if not ended.done():
            await remove_container(self._socket, self._container)
            await asyncio.wait([ended], timeout=GONE_TIMEOUT)


class InContainer:
    """Implements There: a process in the container of an instance, with all that it begins.

    An engine has no way to signal it. What belongs to it is told by a marker in its environment.
    """

    def __init__(self, engine: Engine, watch: Watch, exec_id: str, container: str, marker: str) -> None:
        assert engine.socket is not None
        self._engine = engine
        self._socket = engine.socket
        self._watch = watch
        self._exec = exec_id
        self._container = container
        self._marker = marker

    async def outcome(self) -> Outcome:
        code: int | None = None
        try:
            while code is None:
                code = await self._watch.end_of_exec(self._exec, within=ASKED_EVERY)
                if code is None and not (state := await self._inspect())["Running"]:
                    code = state["ExitCode"]
                    break
        except NotThere:
            return None, "its instance is gone"
        finally:
            self._watch.forget_exec(self._exec)
        await self._send(signal.SIGKILL)
        return (code, describe_exit(code)) if code is not None else LOST

    async def signal(self, number: int) -> None:
        await self._send(number)

    async def resize(self, columns: int, rows: int) -> None:
        await ask(self._socket, "POST", f"/exec/{self._exec}/resize", {"h": rows, "w": columns})

    async def end(self, grace: float, ended: asyncio.Task[Outcome], let_go: Callable[[], None]) -> None:
        if grace > 0 and not ended.done():
            for each in (signal.SIGHUP, signal.SIGTERM, signal.SIGCONT):
                await self._send(each)
            # A shell that reads it would take the end of it for the end of what it was given.
            let_go()
            await asyncio.wait([ended], timeout=grace)
        async with asyncio.timeout(GONE_TIMEOUT):
            while await self._send(signal.SIGKILL) and (self._sees_members() or not ended.done()):
                await asyncio.wait([ended], timeout=0.05)
                await asyncio.sleep(0.01)  # on a busy machine what was killed takes a moment to go

    async def _inspect(self) -> Any:
        return await self._engine.call(lambda client: client.exec_inspect(self._exec))

    @staticmethod
    def _sees_members() -> bool:
        """Whether it can be told that nothing is left."""
        return os.geteuid() == 0

    async def _send(self, number: int) -> bool:
        """Whether there was anybody to take it, as far as can be told."""
        if self._sees_members():
            return bool(await asyncio.to_thread(self._signal_members, number))
        await self._engine.call(lambda client: self._signal_from_inside(client, number))
        return True

    def _signal_members(self, number: int) -> set[int]:
        members = Family(self._marker).members(Census.take())
        send(signal.Signals(number), members)
        return members

    def _signal_from_inside(self, client: Any, number: int) -> None:
        command = ["/bin/sh", "-c", SIGNALLER, f"{MARKER}={self._marker}", str(int(number))]
        client.exec_start(client.exec_create(self._container, command)["Id"])  # until it is done


SIGNALLER = (
    "for each in /proc/[0-9]*; do "
    """if tr '\\0' '\\n' <"$each/environ" 2>/dev/null | grep -qxF "$0"; then kill -"$1" "${each#/proc/}"; fi; """
    "done 2>/dev/null"
)
"""For a server that may not signal the processes of containers itself."""


async def remove_container(socket: str, container: str) -> None:
    """Kill it if it runs, and take it away with what it wrote. Returns when it is gone. Raises EngineError."""
    try:
        async with asyncio.timeout(GONE_TIMEOUT):
            while True:
                with contextlib.suppress(NotThere):
                    wire = None
                    try:
                        wire = await open_wire(
                            socket, "DELETE", f"/containers/{container}", {"force": 1, "v": 1}
                        )
                    except EngineError as error:
                        if "already in progress" not in str(error):
                            raise
                        await asyncio.sleep(0.05)
                        continue
                    finally:
                        if wire is not None:
                            wire.close()
                return
    except TimeoutError as error:
        raise EngineError(f"Container {container[:12]} does not go away, not even by SIGKILL.") from error
