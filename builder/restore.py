"""Writes a canonical archive back as a sealed tree: what `pack` and `seal` made, and nothing else.

Whatever is not as `pack` writes it is taken for damage, so this reader is small. Its caller holds the
archive against its hash afterwards; until then nothing in it is believed. Each step goes through the
descriptor of a directory made here and a single name, so that no path leads anywhere else.
"""

import errno
import os
import re
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from builder.earlier import Earlier
from builder.threads import Check
from builder.tree import MAX_DEPTH, megabytes, shown

_UNIT = tarfile.BLOCKSIZE
_RECORD = re.compile(rb"(\d{1,6}) ([A-Za-z]+)=")
_MAX_NAMES = 64 * 1024
"""Bytes that the names of one member may take: the system's limit for one is 4,096."""
_PIECE = 1024 * 1024
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEVER_OURS = frozenset(
    {
        *(errno.EEXIST, errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP),
        *(errno.ENAMETOOLONG, errno.EINVAL),
    }
)
"""What the system says of names that no tree can have had; other faults are those of the disk."""
_PLAIN = frozenset({tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE})


class Damaged(Exception):
    """The archive is none of ours, or not as it was written."""


class TooMuch(Damaged):
    """It holds more than it may."""


@dataclass(frozen=True, slots=True)
class Member:
    """One thing in the archive; its content follows."""

    path: str
    kind: bytes
    size: int
    target: str
    executable: bool


def restore(
    blocks: Iterator[memoryview],
    root: Path,
    uid: int | None,
    check: Check,
    *,
    max_files: int,
    max_bytes: int,
    like: Path | None = None,
) -> None:
    """Write the new folder `root`, sealed as `seal` does. Raises Damaged, TooMuch.

    `like`: an earlier tree of the same service. Its files are taken where they are the same, unless all belong to the
    server's own user, whom apps run as then.
    `blocks`: the archive in pieces whose lengths are multiples of 512. They are taken to their end before
    the service can look into the folder, so they may raise there what speaks against all of them.
    """
    root.mkdir(mode=0o700)
    source = _Source(blocks)
    with _Tree(root, uid, like) as tree:
        files = size = 0
        while (member := _next(source)) is not None:
            check()
            files, size = files + 1, size + member.size
            if files > max_files:
                raise TooMuch(f"it holds more than {max_files} files")
            if size > max_bytes:
                raise TooMuch(f"it takes more than {megabytes(max_bytes)}")
            try:
                tree.add(member, source, check)
            except OSError as error:
                if error.errno not in _NEVER_OURS:
                    raise
                raise Damaged(f"{shown(member.path)} can't be made: {error.strerror}") from error
        source.expect_end()
        tree.finish()


class _Source:
    """Blocks, read by as many bytes as are wanted."""

    def __init__(self, blocks: Iterator[memoryview]) -> None:
        self._blocks = blocks
        self._block = memoryview(b"")

    def unit(self) -> bytes:
        """The next 512 bytes."""
        unit = bytes(self.some(_UNIT))
        if len(unit) < _UNIT:
            raise Damaged("it ends too early")
        return unit

    def some(self, most: int) -> memoryview:
        """At least one byte, at most this many."""
        if not self._block:
            try:
                self._block = next(self._blocks)
            except StopIteration:
                raise Damaged("it ends too early") from None
        piece, self._block = self._block[:most], self._block[most:]
        return piece

    def pieces(self, size: int) -> Iterator[memoryview]:
        """A member's content, and the filling after it taken away."""
        left = size
        while left:
            piece = self.some(left)
            left -= len(piece)
            yield piece
        if size % _UNIT:
            self.some(_UNIT - size % _UNIT)

    def expect_end(self) -> None:
        if self._block or any(self._blocks):
            raise Damaged("something follows its end")


class _Tree:
    """The folders that are open, from the root to the one that is being filled: members come in their order."""

    def __init__(self, root: Path, uid: int | None, like: Path | None) -> None:
        self._uid = uid
        self._earlier = _earlier(like, uid)
        self._folder_mode, self._program_mode, self._file_mode = (
            (0o755, 0o755, 0o644) if uid is None else (0o750, 0o750, 0o640)
        )
        self._open = [("", os.open(root, _DIRECTORY))]

    def __enter__(self) -> "_Tree":
        return self

    def __exit__(self, *_: object) -> None:
        for _path, folder in self._open:
            os.close(folder)
        if self._earlier is not None:
            self._earlier.close()

    def add(self, member: Member, source: _Source, check: Check) -> None:
        name = self._enter(member.path)
        folder = self._open[-1][1]
        if member.kind == tarfile.REGTYPE:
            mode = self._program_mode if member.executable else self._file_mode
            pieces = _checked(source.pieces(member.size), check)
            found = self._earlier.find(name, member.size, mode) if self._earlier else None
            if found is None:
                self._write(name, folder, mode, pieces)
            else:
                try:
                    self._write_or_link(name, folder, mode, pieces, found)
                finally:
                    os.close(found)
        elif member.kind == tarfile.SYMTYPE:
            if "\0" in member.target:
                raise Damaged(f"{shown(member.path)} points nowhere")
            os.symlink(member.target, name, dir_fd=folder)
        else:
            os.mkdir(name, 0o700, dir_fd=folder)
            inner = os.open(name, _DIRECTORY, dir_fd=folder)
            self._open.append((f"{member.path}/", inner))
            if self._earlier is not None:
                self._earlier.enter(name)
            if len(self._open) > MAX_DEPTH + 1:
                raise Damaged("its folders are nested too deep")
            self._seal(inner, self._folder_mode)

    def _write_or_link(
        self, name: str, folder: int, mode: int, pieces: Iterator[memoryview], found: int
    ) -> None:
        """As a file of the earlier tree where it is that to its end; what they share of it is read there else."""
        assert self._earlier is not None
        same = 0
        for piece in pieces:
            if os.pread(found, len(piece), same) != piece:
                self._write(name, folder, mode, chain(_read(found, same), [piece], pieces))
                return
            same += len(piece)
        if not self._earlier.link(name, folder):
            self._write(name, folder, mode, _read(found, same))

    def _write(self, name: str, folder: int, mode: int, pieces: Iterable[memoryview]) -> None:
        file = os.open(name, _CREATE, 0o600, dir_fd=folder)
        try:
            for piece in pieces:
                _write_all(file, piece)
            self._seal(file, mode)
        finally:
            os.close(file)

    def finish(self) -> None:
        """Open the tree to its service, now that it is whole."""
        self._seal(self._open[0][1], 0o700 if self._uid is None else 0o750)

    def _enter(self, path: str) -> str:
        """Go to the folder of a path; the name within it."""
        while not path.startswith(self._open[-1][0]):
            os.close(self._open.pop()[1])
            if self._earlier is not None:
                self._earlier.leave()
        name = path[len(self._open[-1][0]) :]
        if "/" in name or "\0" in name or name in {"", ".", ".."}:
            raise Damaged(f"{shown(path)} is not below the folder before it")
        return name

    def _seal(self, opened: int, mode: int) -> None:
        if self._uid is not None:
            os.fchown(opened, 0, self._uid)
        os.fchmod(opened, mode)


def _earlier(like: Path | None, uid: int | None) -> Earlier | None:
    if like is None or uid is None:
        return None
    try:
        return Earlier(like, uid)
    except OSError:  # it was taken away meanwhile
        return None


def _read(file: int, size: int) -> Iterator[memoryview]:
    """Its first `size` bytes."""
    place = 0
    while place < size:
        piece = os.pread(file, min(_PIECE, size - place), place)
        if not piece:
            raise OSError(errno.EIO, "a file became shorter while it was read")
        place += len(piece)
        yield memoryview(piece)


def _checked(pieces: Iterator[memoryview], check: Check) -> Iterator[memoryview]:
    for piece in pieces:
        check()
        yield piece


def _next(source: _Source) -> Member | None:
    """None at the archive's end."""
    unit = source.unit()
    if not any(unit):
        if any(source.unit()):
            raise Damaged("a header is empty")
        return None
    names: dict[bytes, bytes] = {}
    if unit[156:157] == tarfile.XHDTYPE:
        size = _number(unit[124:135], 8)
        if size > _MAX_NAMES:
            raise Damaged("a name is too long")
        names = _long_names(b"".join(source.pieces(size)))
        unit = source.unit()
    kind = unit[156:157]
    if kind not in _PLAIN:
        raise Damaged(f"a member is of the unknown kind {kind!a}")
    path = _text(names.get(b"path") or unit[:100].rstrip(b"\0"))
    long_size = names.get(b"size")
    return Member(
        path=path.removesuffix("/") if kind == tarfile.DIRTYPE else path,
        kind=kind,
        size=_number(unit[124:135], 8) if long_size is None else _number(long_size, 10),
        target=_text(names.get(b"linkpath") or unit[157:257].rstrip(b"\0")),
        executable=unit[104:105] == b"7",
    )


def _long_names(records: bytes) -> dict[bytes, bytes]:
    """`LENGTH NAME=VALUE` and a line's end, again and again; the length counts all of it."""
    found = {}
    place = 0
    while place < len(records):
        match = _RECORD.match(records, place)
        end = place + int(match[1]) if match else 0
        if match is None or end > len(records) or end <= match.end() or records[end - 1 : end] != b"\n":
            raise Damaged("a long name is cut off")
        found[match[2]] = records[match.end() : end - 1]
        place = end
    return found


def _number(digits: bytes, base: int) -> int:
    if not digits.isdigit():
        raise Damaged("a size is no number")
    try:
        return int(digits, base)
    except ValueError:
        raise Damaged("a size is no number") from None


def _text(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")


def _write_all(file: int, data: memoryview) -> None:
    while data:
        data = data[os.write(file, data) :]
