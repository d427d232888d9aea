"""Folder trees that somebody else wrote: walked, handed over and sealed without following a link.

The owner of such a tree may still run (an instance has the user id of its builds), so every step
goes through the file descriptor of the directory and a single name: a name that is swapped for a
link in between leads nowhere but to that link.
"""

import contextlib
import os
import shutil
import stat
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from builder.base import BuildFailed
from builder.ties import Ties

MAX_DEPTH = 100
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class Node:
    """One thing in a tree. `parent` is an open directory, valid until the walk goes on."""

    path: str
    """From the tree's root, without a leading slash; bytes that are no UTF-8 as surrogate escapes."""
    name: str
    parent: int
    info: os.stat_result

    @property
    def is_directory(self) -> bool:
        return stat.S_ISDIR(self.info.st_mode)

    @property
    def is_file(self) -> bool:
        return stat.S_ISREG(self.info.st_mode)

    @property
    def is_link(self) -> bool:
        return stat.S_ISLNK(self.info.st_mode)


def walk(root: Path) -> Iterator[Node]:
    """Everything below `root`, each directory before what is in it, sorted by name; but for what vanishes meanwhile.

    Raises BuildFailed for a tree that is nested too deep.
    """
    folder = os.open(root, _DIRECTORY)
    try:
        yield from _walk(folder, "", 1)
    finally:
        os.close(folder)


def _walk(folder: int, prefix: str, depth: int) -> Iterator[Node]:
    if depth > MAX_DEPTH:
        raise BuildFailed(f"Folders are nested more than {MAX_DEPTH} deep, beginning at {shown(prefix)}.")
    for name in sorted(os.listdir(folder), key=os.fsencode):
        try:
            info = os.stat(name, dir_fd=folder, follow_symlinks=False)
        except FileNotFoundError:
            continue
        node = Node(prefix + name, name, folder, info)
        yield node
        if node.is_directory:
            try:
                inner = os.open(name, _DIRECTORY, dir_fd=folder)
            except FileNotFoundError:
                continue
            try:
                yield from _walk(inner, f"{node.path}/", depth + 1)
            finally:
                os.close(inner)


def hand_over(root: Path, uid: int) -> None:
    """Make `uid` (user and group) the owner of the tree."""
    for node in walk(root):
        os.chown(node.name, uid, uid, dir_fd=node.parent, follow_symlinks=False)
    os.chown(root, uid, uid, follow_symlinks=False)


def seal(root: Path, uid: int | None) -> None:
    """Make the tree one that `uid` may read and execute, and nobody but us may change or see.

    None: it runs as the server's own user, for whom only the outermost folder is closed. Devices,
    sockets and pipes are removed, set-user-id bits dropped, files with names outside of the tree get
    content of their own. Times become now: two deploys must never show a browser different content
    under the same size and time.
    """
    for _ in sealed(root, uid):
        pass


def sealed(root: Path, uid: int | None) -> Iterator[Node]:
    """`walk` that seals on its way: a folder before a look into it, a file before it is given out."""
    top = os.open(root, _DIRECTORY)
    try:
        if uid is not None:
            os.fchown(top, 0, uid)
        os.fchmod(top, 0o700 if uid is None else 0o750)
        ties = Ties(top)
        for node in walk(root):
            if _seal_any(node, uid, ties):
                yield node
    finally:
        os.close(top)


def _seal_any(node: Node, uid: int | None, ties: Ties) -> bool:
    """False when it was removed."""
    if node.is_link:
        return True
    if not (node.is_directory or node.is_file):
        os.unlink(node.name, dir_fd=node.parent)
        return False
    if uid is None:
        os.chmod(node.name, node.info.st_mode | stat.S_IRUSR, dir_fd=node.parent)
    if node.is_file and node.info.st_nlink > 1:
        ties.cut(node.path, node.name, node.parent, node.info)
    _seal_one(node, uid)
    return True


def _seal_one(node: Node, uid: int | None) -> None:
    # O_PATH can't be chmod'ed; a plain descriptor makes sure that we change what we looked at.
    wanted = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    opened = os.open(node.name, wanted, dir_fd=node.parent)
    try:
        if uid is not None:
            os.fchown(opened, 0, uid)
        os.fchmod(opened, _sealed_mode(node, uid))
        os.utime(opened)
    finally:
        os.close(opened)


def _sealed_mode(node: Node, uid: int | None) -> int:
    executable = node.is_directory or node.info.st_mode & 0o111
    if uid is None:
        return 0o755 if executable else 0o644
    return 0o750 if executable else 0o640


def remove_tree(root: Path) -> None:
    """Remove it, whatever it is and whether or not it is there."""
    if root.is_symlink() or root.is_file():
        root.unlink(missing_ok=True)
        return
    with contextlib.suppress(RecursionError):
        shutil.rmtree(root, ignore_errors=True)
    if root.exists():
        # Too deep for Python, or a folder that its owner made unreadable for itself.
        subprocess.run(
            ["chmod", "-R", "u+rwx", "--", str(root)], check=False, capture_output=True, timeout=60
        )
        subprocess.run(["rm", "-rf", "--", str(root)], check=False, capture_output=True, timeout=600)


def read_small(root: Path, name: str, limit: int) -> bytes | None:
    """The content of a regular file right below `root`; None when there is none.

    Reads at most `limit` + 1 bytes, so a longer result than `limit` means: too long.
    """
    try:
        opened = os.open(root / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    if not stat.S_ISREG(os.fstat(opened).st_mode):
        os.close(opened)
        return None
    with os.fdopen(opened, "rb") as file:
        return file.read(limit + 1)


def open_folder(path: Path, mode: int = 0o711) -> Path:
    """Make sure that this folder exists with this mode; 0711: others may pass through, not list."""
    path.mkdir(parents=True, exist_ok=True)
    if stat.S_IMODE(path.stat().st_mode) != mode:
        path.chmod(mode)
    return path


def shown(path: str) -> str:
    """A path as it may stand in a message, whatever its bytes."""
    return ascii(path if len(path) <= 80 else path[:77] + "...")


def megabytes(size: float) -> str:
    """`1.2M`, as it stands in build logs."""
    for unit in ("B", "K", "M"):
        if size < 1000:
            return f"{size:.0f}{unit}" if unit == "B" or size >= 100 else f"{size:.1f}{unit}"
        size /= 1024
    return f"{size:.1f}G"
