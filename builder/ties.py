"""Files of a tree that have another name, perhaps outside of it: each gets content of its own."""

import os
import secrets

_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_WRITE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_CHUNK = 16 * 1024**2


class Ties:
    """Of one tree. A build may link a file of its cache into the app, as package managers do to save time: what is
    done to the app's file, its owner and its mode, must not be done to the one in the cache.

    Names that were one file stay one, so that no tree gets larger than its content.
    """

    def __init__(self, root: int) -> None:
        """`root`: the open folder; folders on the way to what was cut before are closed to the tree's owner."""
        self._root = root
        self._cut: dict[tuple[int, int], str] = {}

    def cut(self, path: str, name: str, folder: int, info: os.stat_result) -> None:
        """`path` from the root, and the same as a `name` in an open `folder`. Holes stay holes."""
        known = self._cut.get((info.st_dev, info.st_ino))
        fresh = f".{secrets.token_hex(8)}"
        if known is None:
            _copy(name, fresh, folder)
            self._cut[info.st_dev, info.st_ino] = path
        else:
            os.link(known, fresh, src_dir_fd=self._root, dst_dir_fd=folder, follow_symlinks=False)
        os.rename(fresh, name, src_dir_fd=folder, dst_dir_fd=folder)


def _copy(name: str, fresh: str, folder: int) -> None:
    origin = os.open(name, _READ, dir_fd=folder)
    try:
        info = os.fstat(origin)
        target = os.open(fresh, _WRITE, info.st_mode & 0o777 | 0o600, dir_fd=folder)
        try:
            os.ftruncate(target, info.st_size)
            place = _next_data(origin, 0)
            while place is not None:
                end = os.lseek(origin, place, os.SEEK_HOLE)
                while place < end:
                    data = os.pread(origin, min(_CHUNK, end - place), place)
                    if not data:
                        return
                    place += os.pwrite(target, data, place)
                place = _next_data(origin, end)
        finally:
            os.close(target)
    finally:
        os.close(origin)


def _next_data(file: int, place: int) -> int | None:
    try:
        return os.lseek(file, place, os.SEEK_DATA)
    except OSError:  # nothing but a hole is left
        return None
