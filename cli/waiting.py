"""The start of a server whose store does not answer yet: at the boot of a machine it may come up later than we."""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeVar

from starlette.types import ASGIApp, Receive, Scope, Send

from controller.api.problems import answer
from controller.errors import Unavailable
from controller.problem import problem_of
from controller.store.base import StoreUnavailable

log = logging.getLogger(__name__)

RETRY = 1.0
"""Seconds between attempts."""

Opened = TypeVar("Opened")
Serving = Callable[[ASGIApp], contextlib.AbstractAsyncContextManager[object]]
"""Answers requests with that app while the block runs."""


class Stopped(Exception):
    """Somebody asked the server to stop before it had started."""


async def once_it_answers(
    open_store: Callable[[], Awaitable[Opened]],
    *,
    patience: float,
    stopped: asyncio.Event,
    serving: Serving,
) -> Opened:
    """What `open_store` returns, tried again for `patience` seconds while its store does not answer.

    Requests are answered meanwhile with what is waited for. Raises Stopped once `stopped` is set, and
    StoreUnavailable where waiting did not help, or can't.
    """
    try:
        return await open_store()
    except StoreUnavailable as error:
        if not error.retryable or patience <= 0:
            raise
        log.warning(
            "waiting for the store for %g s; instances and proxy go on as they are: %s", patience, error
        )
        first = error
    end = time.monotonic() + patience
    async with _told(serving, first):
        while True:
            await _pause(stopped)
            try:
                opened = await open_store()
            except StoreUnavailable as error:
                if not error.retryable:
                    raise
                if time.monotonic() >= end:
                    raise StoreUnavailable(
                        f"{error} It was waited for {patience:g} s (setting store_patience); instances and proxy "
                        "go on as they are."
                    ) from error
            else:
                log.info("the store answers")
                return opened


@contextlib.asynccontextmanager
async def _told(serving: Serving, error: StoreUnavailable) -> AsyncIterator[None]:
    sentence = f"The server starts, and waits for its store, which does not answer: {error}"

    async def not_yet(scope: Scope, receive: Receive, send: Send) -> None:
        await answer(problem_of(Unavailable(sentence)))(scope, receive, send)

    async with serving(not_yet):
        yield


async def _pause(stopped: asyncio.Event) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(RETRY):
            await stopped.wait()
            raise Stopped
