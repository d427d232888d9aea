"""The body of a request that is larger than what is held in memory."""

import asyncio
from collections.abc import AsyncIterator

from fastapi import Request

from controller.api.limits import BODY_TIMEOUT

DRAIN_TIME = 10.0
"""Seconds that we read on from a client that we refused: one that can write to the end sees why."""


async def arriving(request: Request) -> AsyncIterator[bytes]:
    """What comes of it, as long as something does. Raises TimeoutError, ClientDisconnect."""
    stream = request.stream()
    while True:
        async with asyncio.timeout(BODY_TIMEOUT):
            chunk = await anext(stream, None)
        if chunk is None:
            return
        if chunk:
            yield chunk


async def drained(request: Request) -> None:
    """Read on for a moment from a client that was refused: one that can write to the end sees why."""
    try:
        async with asyncio.timeout(DRAIN_TIME):
            while (await request.receive()).get("more_body"):
                pass
    except TimeoutError:
        return
