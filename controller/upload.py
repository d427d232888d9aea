"""Sending a file over a line that breaks: each time it goes on from what has arrived."""

import asyncio
from collections.abc import AsyncIterator
from typing import IO, TYPE_CHECKING

from controller.errors import Conflict, NotFound, Unavailable
from controller.names import Address

if TYPE_CHECKING:
    from controller.client import Client

PIECE = 8 * 1024**2
"""Bytes of one request."""
CHUNK = 64 * 1024
ATTEMPTS = 8
"""Times in a row that nothing at all arrives before it is given up."""
LONGEST_PAUSE = 15.0
"""Seconds between two attempts, doubling from one up to that."""


async def send_file(client: "Client", address: Address, file: IO[bytes], *, pause: float = 1.0) -> str:
    """The id of the upload with all of the file in it. Raises Unavailable where the line does not hold, and what a
    server refuses."""
    upload, at, failures = (await client.begin_upload(address)).id, 0, 0
    while piece := await asyncio.to_thread(_read, file, at, PIECE):
        try:
            at = (await client.append_upload(address, upload, at, _chunks(piece))).offset
        except (Unavailable, Conflict) as error:
            failures += 1
            if failures > ATTEMPTS:
                raise Unavailable(
                    f"{error} {at / 1024**2:.1f} MiB have arrived, and then nothing more: send it again when the "
                    "line is better."
                ) from error
        else:
            failures = 0
            continue
        await asyncio.sleep(min(pause * 2 ** (failures - 1), LONGEST_PAUSE))
        try:
            arrived = (await client.upload_state(address, upload)).offset
        except NotFound:  # the server was started anew
            upload, arrived = (await client.begin_upload(address)).id, 0
        except Unavailable:
            continue
        failures = 0 if arrived > at else failures
        at = arrived
    return upload


async def _chunks(piece: bytes) -> AsyncIterator[bytes]:
    """In parts that a slow line takes before its time is up."""
    for start in range(0, len(piece), CHUNK):
        yield piece[start : start + CHUNK]


def _read(file: IO[bytes], at: int, size: int) -> bytes:
    file.seek(at)
    return file.read(size)
