"""An earlier tree of the same service: files that did not change are its files, under one more name.

Most of an app is what it depends on, which stays the same over many versions: it takes its space once, and a new
version is there sooner. The trees belong to root, so no app can change a file that another version has too.
"""

import os
import stat
from pathlib import Path

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class Earlier:
    """Its folders that lie where we are in the new tree, from the root on. Gone at any moment, as trees are."""

    def __init__(self, root: Path, uid: int) -> None:
        """`uid`: of the service. Raises OSError where there is no such folder."""
        self._uid = uid
        self._open: list[int | None] = [os.open(root, _DIRECTORY)]

    def enter(self, name: str) -> None:
        folder = self._open[-1]
        try:
            self._open.append(None if folder is None else os.open(name, _DIRECTORY, dir_fd=folder))
        except OSError:
            self._open.append(None)

    def leave(self) -> None:
        folder = self._open.pop()
        if folder is not None:
            os.close(folder)

    def close(self) -> None:
        while self._open:
            self.leave()

    def find(self, name: str, size: int, mode: int) -> int | None:
        """The file of that name, open for reading, where it is sealed for the service and has this size and mode."""
        folder = self._open[-1]
        if folder is None:
            return None
        try:
            file = os.open(name, _FILE, dir_fd=folder)
        except OSError:
            return None
        info = os.fstat(file)
        if (info.st_uid, info.st_gid, info.st_size, info.st_mode) != (
            0,
            self._uid,
            size,
            stat.S_IFREG | mode,
        ):
            os.close(file)
            return None
        return file

    def link(self, name: str, target: int) -> bool:
        """Give it one more name, the same in the folder `target`. False where it is gone, or has too many."""
        folder = self._open[-1]
        assert folder is not None, "it was found there"
        try:
            os.link(name, name, src_dir_fd=folder, dst_dir_fd=target, follow_symlinks=False)
        except OSError:
            return False
        return True
