"""Write down what instances print, into the files that logs are read from; they outlive containers.

One scribe for each container follows what the engine keeps of its output. It goes on where the file ends, so
that nothing is lost or there twice when the server is killed, and only one server writes at a time. What a
flood takes of us is bounded; what the engine has thrown away before it was read is lost.
"""

import asyncio
import contextlib
import fcntl
import logging
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from controller.backends.docker.lines import Lines, Mark, last_mark, last_note
from controller.backends.docker.seen import SAME_END
from controller.backends.docker.wire import Wire, open_wire
from controller.backends.keeper.output import Output, stamp
from controller.engine import EngineError, NotThere
from controller.logs.parts import lines_before, parts_of

log = logging.getLogger(__name__)

T = TypeVar("T")

PIECE = 64 * 1024
"""Bytes taken at once, and read ahead."""
RESTS = 3
"""A flood makes its reader rest so many times as long as it worked: all of them have a quarter of one core."""
REST_TIMEOUT = 10.0
"""Seconds in which the rest of what a stopped instance printed must have been read."""
AGAIN, LATER = 1.0, 15.0
"""Seconds after which an engine that went away is asked again: at first, and at most."""
PATIENCE = 2.0
"""Seconds that words about an instance wait for the end of its output."""


class Scribes:
    """All scribes of one server. `folder`: where to say that we are the one who writes."""

    def __init__(self, socket: str, folder: Path) -> None:
        self._socket = socket
        self._folder = folder
        self._scribes: dict[str, _Scribe] = {}
        """By container."""
        self._leaving = set[asyncio.Task[None]]()
        self._desk = _Desk()
        self._lock: int | None = None

    def take_over(self) -> bool:
        """Whether it is from now on that we write: nobody else does, or whoever did has gone."""
        if self._lock is not None:
            return False
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = os.open(self._folder / "scribes.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(lock)
            return False
        self._lock = lock
        return True

    def follow(self, container: str, file: Path) -> None:
        """It runs, or has run. Told again after each start."""
        if self._lock is None:
            return
        scribe = self._scribes.get(container)
        if scribe is None:
            scribe = self._scribes[container] = _Scribe(self._socket, container, file, self._desk)
        scribe.wake()

    def note(self, container: str, at: float, words: str) -> None:
        """What befell it; behind all that it printed until then. The same end is noted once."""
        if scribe := self._scribes.get(container):
            scribe.note(at, words)

    def say(self, container: str, at: float, words: str) -> None:
        """The same of something that is no end."""
        if scribe := self._scribes.get(container):
            scribe.say(at, words)

    async def finish(self, container: str) -> None:
        """It has ended for good, and will be removed: read its rest. Returns in bounded time."""
        if scribe := self._scribes.pop(container, None):
            await scribe.finish()

    def drop(self, container: str) -> None:
        """It is gone."""
        if scribe := self._scribes.pop(container, None):
            task = asyncio.create_task(scribe.finish())
            self._leaving.add(task)
            task.add_done_callback(self._leaving.discard)

    async def close(self) -> None:
        scribes, self._scribes = list(self._scribes.values()), {}
        await asyncio.gather(*(each.close() for each in scribes), *self._leaving, return_exceptions=True)
        self._desk.close()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


class _Desk:
    """Where scribes work: a thread, and the turns of those that have much to write."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="scribe")
        self._turn = asyncio.Lock()

    async def work(self, job: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, job)

    async def work_hard(self, job: Callable[[], T]) -> T:
        async with self._turn:
            began = time.monotonic()
            done = await self.work(job)
            await asyncio.sleep((time.monotonic() - began) * RESTS)
            return done

    def close(self) -> None:
        self._thread.shutdown(wait=False)


class _Scribe:
    def __init__(self, socket: str, container: str, file: Path, desk: _Desk) -> None:
        self._socket = socket
        self._container = container
        self._file = file
        self._output = Output(file)
        self._desk = desk
        self._mark: Mark | None = None
        """None: the file was not looked at yet."""
        self._notes: list[tuple[float, str]] = []
        """What is still to be written, with its time."""
        self._noted_at = 0.0
        """Time of the last end that was noted, by us or by the one before us."""
        self._hurried: asyncio.Task[None] | None = None
        self._due = asyncio.Event()
        self._last = False
        """No further start will come."""
        self._already_told = b""
        """Stamp of the last line of ours in the file as we found it: whoever was before us told what is older."""
        self._again = AGAIN
        self._task = asyncio.create_task(self._run(), name=f"scribe {file.stem}")

    def wake(self) -> None:
        self._due.set()

    def note(self, at: float, words: str) -> None:
        if at > self._noted_at + SAME_END:
            self._noted_at = at
            self.say(at, words)

    def say(self, at: float, words: str) -> None:
        self._notes.append((at, words))
        self.wake()
        # Mostly its output ends now, and the words come behind it. Where it goes on, they come all the same.
        asyncio.get_running_loop().call_later(PATIENCE, self._hurry)

    async def finish(self) -> None:
        self.leave()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(REST_TIMEOUT):
                await asyncio.shield(self._task)
        await self.close()

    def leave(self) -> None:
        self._last = True
        self.wake()

    async def close(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        try:
            await self._desk.work(self._look_at_file)
            while True:
                self._due.clear()
                last = self._last
                await self._follow()
                await self._write_notes()
                if last:
                    return
                await self._due.wait()
        except Exception:
            log.exception("log of an instance can't be kept file=%s", self._file)
        finally:
            self._output.close()

    def _look_at_file(self) -> None:
        for part in parts_of(self._file)[-1:]:
            if part.size > part.end:
                os.truncate(self._file, part.end)  # a line that whoever was before us did not finish
        self._mark = last_mark(_blocks(self._file))
        newest = next(_blocks(self._file), b"")
        if told := last_note([newest]):
            self._already_told = told

    async def _follow(self) -> None:
        """Until its output ends: its process has ended, or the engine has."""
        assert self._mark is not None
        lines = Lines(self._mark)
        query = {"stdout": 1, "stderr": 1, "timestamps": 1, "follow": 1, "since": self._mark.since}
        path = f"/containers/{self._container}/logs"
        try:
            wire = await open_wire(self._socket, "GET", path, query, limit=PIECE)
        except NotThere:
            self._last = True
            return
        except EngineError:
            await asyncio.sleep(self._again)
            self._again = min(self._again * 2, LATER)
            self.wake()
            return
        self._again = AGAIN
        try:
            await self._copy(wire, lines)
        finally:
            wire.close()

    async def _copy(self, wire: Wire, lines: Lines) -> None:
        def write(data: bytes) -> None:
            if found := lines.feed(data):
                self._output.append(found)
            self._mark = lines.mark

        with contextlib.suppress(OSError):
            while data := await wire.reader.read(PIECE):
                # Short pieces are what an app says now and then.
                work = self._desk.work if len(data) < PIECE // 4 else self._desk.work_hard
                await work(lambda: write(data))
        await self._desk.work(lambda: self._output.append(lines.finish()))
        self._mark = lines.mark

    def _hurry(self) -> None:
        if self._notes and self._mark is not None and not self._task.done():
            self._hurried = asyncio.create_task(self._write_notes())

    async def _write_notes(self) -> None:
        notes, self._notes = self._notes, []
        assert self._mark is not None
        for at, words in notes:
            if stamp(at - SAME_END) > self._already_told:
                # An engine reads the last output of a process after it has ended.
                moment = max(stamp(at), self._mark.stamp)
                line = b"%s system %s\n" % (moment, words.encode(errors="replace"))
                await self._desk.work(lambda: self._output.append(line))  # noqa: B023


def _blocks(file: Path) -> Iterator[bytes]:
    """Of a file and those that were moved aside, the last block first."""
    for part in reversed(parts_of(file)):
        yield from lines_before(part, 0, part.end)
