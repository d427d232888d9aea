"""Where archives that people send lie until they are built: so many, and no more."""

import asyncio
import secrets
import shutil
from collections import Counter
from pathlib import Path

from controller.config import Settings
from controller.errors import Throttled
from gitreceive.push import SOURCE_SUFFIX

MAX_ARCHIVES, MAX_ARCHIVES_OF_ONE = 24, 8
"""Archives on the disk at once, in all and of one user."""


class Arrivals:
    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._arriving = Counter[str]()

    async def open(self, user: str) -> Path:
        """A folder for one archive, until `close`.

        Raises Throttled: each archive may be as large as a push, and lies on the disk until it is built.
        """
        if self._arriving[user] >= MAX_ARCHIVES_OF_ONE:
            raise Throttled(
                f"{MAX_ARCHIVES_OF_ONE} archives of {user} are on their way already: try again later."
            )
        if self._arriving.total() >= MAX_ARCHIVES:
            raise Throttled("As many archives as this server takes are on their way: try again in a moment.")
        self._arriving[user] += 1
        builds = self._settings.folders.builds
        folder = builds / f"archive-{secrets.token_hex(6)}{SOURCE_SUFFIX}"
        try:
            await asyncio.to_thread(builds.mkdir, mode=0o711, parents=True, exist_ok=True)
            await asyncio.to_thread(folder.mkdir, mode=0o700)
        except BaseException:
            await self.close(user, folder)
            raise
        return folder

    async def close(self, user: str, folder: Path) -> None:
        """The folder goes, and the place is free."""
        await asyncio.shield(asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True))
        self._arriving[user] -= 1
        self._arriving += Counter()  # forget those who have none
