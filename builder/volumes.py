"""What is in a volume, as one stream: packed while it may be in use, unpacked into a folder that is nobody's yet.

A tar in zstd. Times and modes are kept, but for set-user-id bits; owners are not: what is restored belongs to whom the
folder belongs. Sockets, pipes and devices are left out, and refused where an archive has some.
"""

import gzip
import io
import os
import stat
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, cast

import zstandard

from builder.archive import MAX_WINDOW
from builder.base import BuildFailed
from builder.pack import BLOCK, blocks_of
from builder.threads import Check
from builder.tree import Node, walk
from builder.unpack import TreeWriter, unpack_tar
from controller.upkeep.storage import BadArchive

MOST_FILES = 100_000_000
_UNIT = tarfile.BLOCKSIZE
_END = bytes(2 * _UNIT)
_ZSTD, _GZIP = b"\x28\xb5\x2f\xfd", b"\x1f\x8b"


def packed(folder: Path, check: Check) -> Iterator[bytes]:
    """The stream in pieces. What vanishes meanwhile is left out; what grows is cut where it ended at first."""
    compressing = zstandard.ZstdCompressor(level=3).compressobj()
    for block in blocks_of(_tar(folder, check)):
        if piece := compressing.compress(block):
            yield piece
    yield compressing.flush()


def unpack(
    stream: io.BufferedReader, target: Path, owner: tuple[int, int] | None, check: Check, *, most: int
) -> None:
    """Into the new folder `target`; a tar in zstd or gzip, or a plain one. `owner`: user and group of all of it; None:
    the server's own. `most`: bytes that may come out. Raises BadArchive, OSError."""
    writer = TreeWriter(target, max_files=MOST_FILES, max_bytes=most, links_inside=False)
    try:
        plain = _Plain(stream)
        _unpack(plain, target, writer, check)
        plain.check_whole(check)
    except BuildFailed as error:
        raise BadArchive(str(error)) from error
    except (tarfile.TarError, zstandard.ZstdError, zlib.error, EOFError, gzip.BadGzipFile) as error:
        raise BadArchive("The archive is damaged, or no tar (plain, in gzip or zstd).") from error
    if owner is not None:
        for node in walk(target):
            os.chown(node.name, *owner, dir_fd=node.parent, follow_symlinks=False)
        os.chown(target, *owner, follow_symlinks=False)


# Packing


def _tar(folder: Path, check: Check) -> Iterator[bytes]:
    first = dict[tuple[int, int], str]()
    """Where a file of several names was met first."""
    for node in walk(folder):
        check()
        if node.is_file:
            yield from _file(node, first, check)
        elif node.is_directory:
            yield _header(node, node.info, tarfile.DIRTYPE)
        elif node.is_link:
            try:
                target = os.readlink(node.name, dir_fd=node.parent)
            except OSError:
                continue
            yield _header(node, node.info, tarfile.SYMTYPE, target=target)
    yield _END


def _file(node: Node, first: dict[tuple[int, int], str], check: Check) -> Iterator[bytes]:
    try:
        opened = os.open(
            node.name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=node.parent
        )
    except FileNotFoundError:
        return
    try:
        info = os.fstat(opened)
        if not stat.S_ISREG(info.st_mode):
            return
        if info.st_nlink > 1:
            origin = first.setdefault((info.st_dev, info.st_ino), node.path)
            if origin != node.path:
                yield _header(node, info, tarfile.LNKTYPE, target=origin)
                return
        yield _header(node, info, tarfile.REGTYPE, size=info.st_size)
        left = info.st_size
        while left:
            check()
            data = os.read(opened, min(left, BLOCK)) or bytes(min(left, BLOCK))  # it became shorter
            left -= len(data)
            yield data
        if info.st_size % _UNIT:
            yield bytes(_UNIT - info.st_size % _UNIT)
    finally:
        os.close(opened)


def _header(node: Node, info: os.stat_result, kind: bytes, *, size: int = 0, target: str = "") -> bytes:
    member = tarfile.TarInfo(node.path)
    member.type, member.size, member.linkname = kind, size, target
    member.mode, member.mtime = info.st_mode & 0o777, int(info.st_mtime)
    member.uid, member.gid = info.st_uid, info.st_gid
    return member.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")


# Unpacking


def _unpack(plain: "_Plain", target: Path, writer: TreeWriter, check: Check) -> None:
    folders = list[tuple[tarfile.TarInfo, str]]()

    def made(member: tarfile.TarInfo, path: str) -> None:
        if member.isdir():
            folders.append((member, path))
        else:
            _dated(target / path, member)

    unpack_tar(plain, writer, check, path_of=_path, hard_links=True, made=made)
    # What is in them is there by now, and changes their times no more.
    for member, path in reversed(folders):
        if path:
            _dated(target / path, member)


def _dated(path: Path, member: tarfile.TarInfo) -> None:
    """The folder is ours alone, and `member` no link: nothing else than what was just made has that path."""
    path.chmod(member.mode & 0o777)
    os.utime(path, (member.mtime, member.mtime))


def _path(name: str) -> str:
    """As others write it too: `./a`, and `.` for the top."""
    while name.startswith("./"):
        name = name[2:]
    return "" if name == "." else name


class _Plain:
    """What comes out of a stream, whichever way it was compressed."""

    def __init__(self, stream: io.BufferedReader) -> None:
        first = stream.peek(4)[:4]
        self._source: IO[bytes]
        if first == _ZSTD:
            decompressor = zstandard.ZstdDecompressor(max_window_size=MAX_WINDOW)
            self._source = cast(IO[bytes], decompressor.stream_reader(stream, read_across_frames=True))
        elif first[:2] == _GZIP:
            self._source = cast(IO[bytes], gzip.GzipFile(fileobj=stream))
        else:
            self._source = stream
        self._stream = stream
        self._tail = b""

    def read(self, size: int = -1, /) -> bytes:
        data = self._source.read(size)
        self._tail = (self._tail + data)[-len(_END) :]
        return data

    def check_whole(self, check: Check) -> None:
        """Read on to the end. Raises BadArchive where that of a tar is missing: streams break off without a word."""
        while self.read(BLOCK):
            check()
        if self._tail != _END:
            raise BadArchive("The archive breaks off: not all of it has come.")
        while self._stream.read(BLOCK):
            check()
