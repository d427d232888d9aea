"""Where blocking work leaves the event loop, and how it is stopped and waited for."""

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

from builder.base import BuildFailed

T = TypeVar("T")

Check = Callable[[], None]
"""Called by long blocking work between its pieces; raises Stopped once nobody wants the result."""


class Stopped(Exception):
    """The task that waited for this work was cancelled."""


async def run_blocking(work: Callable[[Check], T]) -> T:
    """Run `work(check)` in a thread and return what it returns.

    A cancelled caller waits until the thread has ended: its files may be removed right afterwards.
    """
    stop = threading.Event()

    def check() -> None:
        if stop.is_set():
            raise Stopped

    task = asyncio.create_task(asyncio.to_thread(work, check))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        stop.set()
        await completed(asyncio.wait([task]))
        if not task.cancelled():
            task.exception()
        raise


async def completed(work: Awaitable[T]) -> T:
    """Wait for `work` to its end, however often the waiting task is cancelled; the cancel follows afterwards."""
    task = asyncio.ensure_future(work)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError as error:
            if task.cancelled():
                raise
            cancelled = error
        except Exception:
            break
    if cancelled is not None:
        task.exception()
        raise cancelled
    return task.result()


@asynccontextmanager
async def time_limit(seconds: float) -> AsyncIterator[None]:
    """Of a whole build: what is in the block is cancelled then. Raises BuildFailed."""
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError as error:
        raise BuildFailed(
            f"The build took longer than {seconds:.0f} seconds, the limit of this server (build_timeout), "
            "and was ended."
        ) from error
