"""Running a driver's commands beside a resource's server, with their input and output as streams."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator

from controller.backends.base import Attached, BackendError, SupportsRun
from controller.resources.base import ResourceError

PIECE = 64 * 1024
LONGEST = 6 * 3600.0
"""Seconds that one command may take."""
KEPT, SHOWN = 4096, 300
"""Bytes of its errors that are kept, and characters that are shown of the last line."""


async def output_of(backend: SupportsRun, instance: str, command: str) -> AsyncGenerator[bytes, None]:
    """What the command prints. Ends well only where it does: else ResourceError at the end, or on the way."""
    attached = await _begun(backend, instance, command)
    said = b""
    try:
        async with asyncio.timeout(LONGEST):
            await attached.close_input()
            async for stream, data in attached.output():
                if stream == 1:
                    yield data
                else:
                    said = (said + data)[-KEPT:]
            await _check_end(attached, said)
    except TimeoutError as error:
        raise ResourceError(f"It was not done within {LONGEST / 3600:g} hours.") from error
    finally:
        await attached.end(grace=1.0)


async def feed(backend: SupportsRun, instance: str, command: str, pieces: AsyncIterator[bytes]) -> None:
    """Give all of that to the command. Raises ResourceError where it does not end well, and what `pieces` raises."""
    attached = await _begun(backend, instance, command)
    listening = asyncio.create_task(_said(attached))
    try:
        async with asyncio.timeout(LONGEST):
            async for piece in pieces:
                for at in range(0, len(piece), PIECE):
                    await attached.write(piece[at : at + PIECE])
            await attached.close_input()
            await _check_end(attached, await listening)
    except TimeoutError as error:
        raise ResourceError(f"It was not done within {LONGEST / 3600:g} hours.") from error
    finally:
        # What has not come to an end leaves everything as it was.
        await attached.end(grace=10.0)
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)


async def _begun(backend: SupportsRun, instance: str, command: str) -> Attached:
    try:
        return await backend.enter(instance, command, env={}, terminal=None)
    except BackendError as error:
        raise ResourceError(str(error), retryable=error.retryable) from error


async def _said(attached: Attached) -> bytes:
    said = b""
    async for _, data in attached.output():
        said = (said + data)[-KEPT:]
    return said


async def _check_end(attached: Attached, said: bytes) -> None:
    code, detail = await attached.wait()
    if code == 0:
        return
    lines = said.decode(errors="replace").split("\n")
    last = next((line.strip() for line in reversed(lines) if line.strip()), "")
    shown = "".join(each for each in last if each.isprintable())[:SHOWN]
    raise ResourceError(f"its command {detail}" + (f": {shown}" if shown else ""))
