"""One delivery of source over HTTP: it is told as it goes, and ends with its reader until the point of no return."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import suppress
from typing import Any

from builder.base import BuilderUnavailable, BuildFailed
from controller.deliveries import DeliveryStep, Mark
from controller.errors import MooringError, Refused, Unavailable
from gitreceive.progress import harmless
from gitreceive.push import PushRefused
from gitreceive.quarantine import PackRefused

log = logging.getLogger(__name__)

MAX_WAITING = 5_000
"""Lines that are kept for a reader who does not take them."""


class Delivery:
    """Prints like `Progress`, for a reader who takes line by line."""

    def __init__(self) -> None:
        self._lines: asyncio.Queue[DeliveryStep] = asyncio.Queue()
        self._left_out = 0
        self.finishing = False

    def step(self, text: str) -> None:
        self._say(Mark.STEP, text)

    def section(self, text: str) -> None:
        self._say(Mark.SECTION, text)

    def line(self, text: str) -> None:
        self._say(Mark.LINE, text)

    def warn(self, text: str) -> None:
        for each in text.splitlines() or [""]:
            self._say(Mark.WARNING, each)

    def finish(self) -> None:
        """From here on it is done to its end, with or without its reader."""
        self.finishing = True

    async def next(self) -> DeliveryStep:
        return await self._lines.get()

    def left(self) -> DeliveryStep | None:
        """What was said and not taken; None where nothing is left."""
        return None if self._lines.empty() else self._lines.get_nowait()

    def _say(self, mark: Mark, text: str) -> None:
        if self._lines.qsize() >= MAX_WAITING:
            self._left_out += 1
            return
        if self._left_out:
            text, self._left_out = f"({self._left_out} lines were left out here) {text}", 0
        self._lines.put_nowait(DeliveryStep(mark=mark, text=harmless(text)))


class Deliveries:
    """Those that are under way."""

    def __init__(self) -> None:
        self._running: set[asyncio.Task[DeliveryStep]] = set()

    async def told(
        self, work: Callable[[Delivery], Coroutine[Any, Any, DeliveryStep]]
    ) -> AsyncGenerator[DeliveryStep, None]:
        """Do it and yield what it says, and in the end what it gives; raises what it raises, in our words.

        Closing the generator ends the work and waits for that, unless it is past `finish`.
        """
        delivery = Delivery()
        task = asyncio.create_task(_in_words(work(delivery), delivery))
        self._running.add(task)
        task.add_done_callback(self._forget)
        try:
            while not task.done():
                said = asyncio.ensure_future(delivery.next())
                await asyncio.wait({task, said}, return_when=asyncio.FIRST_COMPLETED)
                if said.done():
                    yield said.result()
                else:
                    said.cancel()
            while (step := delivery.left()) is not None:
                yield step
            yield task.result()
        finally:
            if not task.done() and not delivery.finishing:
                await _end(task)

    async def close(self) -> None:
        """The server stops: end them all, whatever they are at."""
        for task in list(self._running):
            await _end(task)

    def _forget(self, task: asyncio.Task[DeliveryStep]) -> None:
        self._running.discard(task)
        if not task.cancelled():
            task.exception()  # its reader has it, or has gone


async def _in_words(work: Coroutine[Any, Any, DeliveryStep], delivery: Delivery) -> DeliveryStep:
    try:
        return await work
    except PushRefused as error:
        for line in error.log_lines:
            delivery.line(line)
        raise Refused(str(error)) from error
    except (BuildFailed, PackRefused) as error:
        raise Refused(str(error)) from error
    except BuilderUnavailable as error:
        log.warning("delivery failed error=%s", error)
        raise Unavailable(f"The server could not do it, through no fault of yours: {error}") from error


async def _end(task: asyncio.Task[DeliveryStep]) -> None:
    task.cancel()
    with suppress(MooringError):
        await asyncio.wait({task})
