"""The canonical archive of a tree: the same content gives the same bytes, on every machine.

A tar with names sorted by bytes within each folder, owner 0, time 0, modes 0755 or 0644. Whatever
is neither file, folder nor symbolic link is left out.
"""

import os
import tarfile
from collections.abc import Iterator
from pathlib import Path

from builder.threads import Check
from builder.tree import Node, walk

_CHUNK = 1024 * 1024
_BLOCK = tarfile.BLOCKSIZE


def canonical_tar(root: Path, check: Check) -> Iterator[bytes]:
    """The archive in pieces, read in one pass. `check` is called between pieces."""
    for node in walk(root):
        check()
        if node.is_directory:
            yield _header(node, tarfile.DIRTYPE, 0o755)
        elif node.is_link:
            yield _header(node, tarfile.SYMTYPE, 0o777, target=os.readlink(node.name, dir_fd=node.parent))
        elif node.is_file:
            yield from _file(node, check)
    yield bytes(2 * _BLOCK)


def _file(node: Node, check: Check) -> Iterator[bytes]:
    opened = os.open(
        node.name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=node.parent
    )
    try:
        size = os.fstat(opened).st_size
        yield _header(node, tarfile.REGTYPE, 0o755 if node.info.st_mode & 0o111 else 0o644, size=size)
        left = size
        while left:
            check()
            data = os.read(opened, min(left, _CHUNK))
            if not data:
                raise OSError(f"{node.path!a} became shorter while it was read")
            left -= len(data)
            yield data
        if size % _BLOCK:
            yield bytes(_BLOCK - size % _BLOCK)
    finally:
        os.close(opened)


def _header(node: Node, kind: bytes, mode: int, *, size: int = 0, target: str = "") -> bytes:
    member = tarfile.TarInfo(node.path)
    member.type, member.mode, member.size, member.linkname = kind, mode, size, target
    return member.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")
