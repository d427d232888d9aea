"""The canonical archive of a tree: the same content gives the same bytes, on every machine.

A tar with names sorted by bytes within each folder, owner 0, time 0, modes 0755 or 0644. Whatever
is neither file, folder nor symbolic link is left out.
"""

import functools
import os
import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from builder.threads import Check
from builder.tree import Node, walk

BLOCK = 1024 * 1024
"""Bytes that are read, hashed and compressed at once."""
_UNIT = tarfile.BLOCKSIZE
_SHORT = 100
"""Bytes of a name or target that fit into a header as they are."""
_SMALL = 8**11 - 1
"""The largest size that a header can hold."""
_PADDING = bytes(_UNIT)


def canonical_tar(root: Path, check: Check) -> Iterator[bytes]:
    """The archive in pieces, read in one pass. `check` is called between pieces."""
    return tar_of(walk(root), check)


def tar_of(nodes: Iterable[Node], check: Check) -> Iterator[bytes]:
    """The archive of what a walk meets, in pieces of any size."""
    for node in nodes:
        check()
        if node.is_file:
            yield from _file(node, check)
        elif node.is_directory:
            yield header(node.path, tarfile.DIRTYPE, 0o755)
        elif node.is_link:
            yield header(node.path, tarfile.SYMTYPE, 0o777, target=os.readlink(node.name, dir_fd=node.parent))
    yield bytes(2 * _UNIT)


def blocks_of(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """The same bytes in fewer pieces, of about BLOCK each: a switch of threads costs more than a copy."""
    gathered: list[bytes] = []
    size = 0
    for piece in pieces:
        gathered.append(piece)
        size += len(piece)
        if size >= BLOCK:
            yield b"".join(gathered)
            gathered, size = [], 0
    yield b"".join(gathered)


def _file(node: Node, check: Check) -> Iterator[bytes]:
    opened = os.open(
        node.name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=node.parent
    )
    try:
        size = os.fstat(opened).st_size
        yield header(node.path, tarfile.REGTYPE, 0o755 if node.info.st_mode & 0o111 else 0o644, size=size)
        left = size
        while left:
            check()
            data = os.read(opened, min(left, BLOCK))
            if not data:
                raise OSError(f"{node.path!a} became shorter while it was read")
            left -= len(data)
            yield data
        if size % _UNIT:
            yield _PADDING[size % _UNIT :]
    finally:
        os.close(opened)


def header(path: str, kind: bytes, mode: int, *, size: int = 0, target: str = "") -> bytes:
    """What `tarfile` writes for such a member, byte by byte; mostly prepared, for there is one for each file."""
    name = f"{path}/" if kind == tarfile.DIRTYPE else path
    if len(name) > _SHORT or len(target) > _SHORT or size > _SMALL or not f"{name}{target}".isascii():
        return _tarfile_header(path, kind, mode, size, target)
    before_size, before_sum, after_sum, after_target, base = _prepared(kind, mode)
    named, sized, targeted = name.encode(), b"%011o" % size, target.encode()
    return b"".join(
        (
            named.ljust(_SHORT, b"\0"),
            *(before_size, sized, before_sum),
            b"%06o\0" % (base + sum(named) + sum(sized) + sum(targeted)),
            *(after_sum, targeted.ljust(_SHORT, b"\0"), after_target),
        )
    )


@functools.cache
def _prepared(kind: bytes, mode: int) -> tuple[bytes, bytes, bytes, bytes, int]:
    """What is the same in all headers of a kind, cut at what differs, and the sum of its bytes."""
    example = _tarfile_header("", kind, mode, 0, "")
    parts = example[100:124], example[135:148], example[155:157], example[257:]
    # The sum is taken as if its own field held spaces: the last of them is left in the third part.
    return *parts, sum(map(sum, parts)) + 7 * ord(" ")


def _tarfile_header(path: str, kind: bytes, mode: int, size: int, target: str) -> bytes:
    member = tarfile.TarInfo(path)
    member.type, member.mode, member.size, member.linkname = kind, mode, size, target
    return member.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")
