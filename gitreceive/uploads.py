"""Archives that arrive in pieces: where a line breaks, what has come stays, and the next piece goes on from there."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

from controller.config import Settings
from controller.deliveries import UploadState
from controller.errors import Conflict, NotFound
from controller.names import Address
from gitreceive.arrivals import Arrivals
from gitreceive.download import TooLarge, check_room

IDLE = 900.0
"""Seconds without a byte after which an upload is given up."""


@dataclass(eq=False, kw_only=True)
class Upload:
    """One that is under way."""

    id: str
    user: str
    address: Address
    file: Path
    size: int = 0
    turn: int = 0
    """Of the request that goes on with it; one that hangs on a dead line writes no more once there is another."""
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    end: asyncio.TimerHandle | None = None

    @property
    def state(self) -> UploadState:
        return UploadState(id=self.id, offset=self.size)


class Uploads:
    def __init__(self, arrivals: Arrivals, settings: Settings, *, idle: float = IDLE) -> None:
        self._arrivals = arrivals
        self._settings = settings
        self._idle = idle
        self._open = dict[str, Upload]()
        self._ending = set[asyncio.Task[None]]()

    async def begin(self, user: str, address: Address) -> Upload:
        """Raises Throttled, Refused."""
        check_room(self._settings)
        folder = await self._arrivals.open(user)
        upload = Upload(id=secrets.token_hex(12), user=user, address=address, file=folder / "archive")
        await asyncio.to_thread(upload.file.touch, 0o600)
        self._open[upload.id] = upload
        self._keep_alive(upload)
        return upload

    def get(self, user: str, address: Address, name: str) -> Upload:
        """Raises NotFound, also for what is somebody else's."""
        upload = self._open.get(name)
        if upload is None or (upload.user, upload.address) != (user, address):
            raise NotFound(
                f"There is no such upload, or not any more: it is kept for {self._idle / 60:.0f} minutes."
            )
        return upload

    async def append(self, upload: Upload, offset: int, pieces: AsyncIterator[bytes]) -> UploadState:
        """Write these from `offset` on. What raises in between leaves what has come.

        Raises Conflict where so much has not come, or more, and where another request goes on with it; TooLarge.
        """
        upload.turn += 1
        turn = upload.turn
        async with upload.lock:
            if offset != upload.size:
                raise Conflict(f"{upload.size} bytes have arrived, and this goes on from {offset}.")
        async for piece in pieces:
            async with upload.lock:
                if upload.turn != turn:
                    raise Conflict("Another request goes on with this upload.")
                if upload.size + len(piece) > self._settings.push_limit:
                    raise TooLarge(self._settings.push_limit)
                await asyncio.to_thread(_append, upload.file, upload.size, piece)
                upload.size += len(piece)
            self._keep_alive(upload)
        return upload.state

    def take(self, upload: Upload) -> Path:
        """The file of one that has arrived; the folder that it is in is the caller's to close."""
        self._forget(upload)
        return upload.file

    async def drop(self, upload: Upload) -> None:
        if self._forget(upload):
            await self._arrivals.close(upload.user, upload.file.parent)

    async def close(self) -> None:
        """The server stops."""
        for upload in list(self._open.values()):
            await self.drop(upload)
        await asyncio.gather(*self._ending)

    def _forget(self, upload: Upload) -> bool:
        upload.turn += 1
        if upload.end is not None:
            upload.end.cancel()
        return self._open.pop(upload.id, None) is not None

    def _keep_alive(self, upload: Upload) -> None:
        if upload.id not in self._open:
            return
        if upload.end is not None:
            upload.end.cancel()
        upload.end = asyncio.get_running_loop().call_later(self._idle, self._give_up, upload)

    def _give_up(self, upload: Upload) -> None:
        task = asyncio.ensure_future(self.drop(upload))
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)


def _append(file: Path, size: int, piece: bytes) -> None:
    """Behind the first `size` bytes: a write that was broken off may have left more."""
    with file.open("r+b") as opened:
        opened.seek(size)
        opened.write(piece)
        opened.truncate()
