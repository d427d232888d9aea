"""A source archive that somebody sends: told by its content, and unpacked within limits of every kind.

tar (also compressed by gzip or zstd) and zip. What the one safe unpacker of `builder.unpack` refuses is
refused here too; beside that an archive may be a bomb, or damaged in any way, which git's own are not.
"""

import io
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import zstandard

from builder.base import BuildFailed
from builder.source import MAX_BYTES, MAX_FILES
from builder.threads import Check
from builder.tree import megabytes, shown
from builder.unpack import TreeWriter, chunks_of, neither, unpack_tar

MAX_NAMES = 16 * 1024**2
"""Bytes of a zip's directory."""
MAX_TARGET = 4096
"""Of a symbolic link."""
RATIO, RATIO_FROM = 200, 64 * 1024**2
"""An archive that unpacks to more than this many times its size is a bomb, once that is more than so many bytes."""
_CHUNK = 256 * 1024
MAX_WINDOW = 128 * 1024**2
"""Bytes of memory that a zstd frame may ask for: as `zstd -T0 --long` makes them."""
_GZIP = 31
_KINDS = "tar, tar.gz, tar.zst and zip"
_CLUTTER = "__MACOSX"


@dataclass
class Scale:
    """Weighs what comes out of an archive."""

    packed: int
    """Bytes of the archive."""
    most: int
    """Bytes that may come out of it."""
    taken: int = 0

    def add(self, size: int) -> None:
        """Raises BuildFailed when it is too much."""
        self.taken += size
        if self.taken > self.most:
            raise BuildFailed(
                f"The archive holds more than {megabytes(self.most)}, the limit of this server."
            )
        if self.taken > max(RATIO_FROM, self.packed * RATIO):
            raise BuildFailed(
                f"The archive unpacks to more than {RATIO} times its size: it looks like a bomb. If it is none, "
                "push the source with git."
            )


def unpack_archive(
    archive: Path,
    destination: Path,
    check: Check,
    *,
    max_files: int = MAX_FILES,
    max_bytes: int = MAX_BYTES,
) -> Path:
    """Unpack into the new folder `destination`; the folder with the source. Blocks.

    That is `destination` itself, or the only folder in it where there is nothing else: archives are often made
    so. Raises BuildFailed for what can't be read and for what is refused; what was written so far stays.
    """
    scale = Scale(archive.stat().st_size, max_bytes)
    writer = TreeWriter(destination, max_files=max_files, max_bytes=max_bytes, links_inside=True)
    with archive.open("rb") as file, _damage_in_words():
        unpack = _zip if _is_zip(file) else _tar
        unpack(file, writer, scale, check)
    if writer.is_empty:
        raise BuildFailed("The archive is empty.")
    root = _only_folder(destination)
    writer.finish(top=root.name if root != destination else "")
    return root


def _only_folder(destination: Path) -> Path:
    entries = list(destination.iterdir())
    only = entries[0]
    return only if len(entries) == 1 and only.is_dir() and not only.is_symlink() else destination


@contextmanager
def _damage_in_words() -> Iterator[None]:
    try:
        yield
    except (
        *(tarfile.TarError, zipfile.BadZipFile, zipfile.LargeZipFile, zlib.error, zstandard.ZstdError),
        *(EOFError, ValueError, NotImplementedError, OverflowError, struct.error),
    ) as error:
        raise BuildFailed(f"The archive is damaged or cut short: {error}.") from error


def _is_zip(file: IO[bytes]) -> bool:
    head = file.read(4)
    file.seek(0)
    return head in (b"PK\x03\x04", b"PK\x05\x06")


# tar


def _tar(file: IO[bytes], writer: TreeWriter, scale: Scale, check: Check) -> None:
    unpack_tar(_Weighed(_plain(file), scale, check), writer, check, path_of=_plain_path)


def _plain(file: IO[bytes]) -> Iterator[bytes]:
    """The tar without its compression."""
    head = file.read(512)
    file.seek(0)
    if head.startswith(b"\x1f\x8b"):
        return _gunzipped(file)
    if head.startswith(b"\x28\xb5\x2f\xfd"):
        expander = zstandard.ZstdDecompressor(max_window_size=MAX_WINDOW)
        reader = expander.stream_reader(file, read_across_frames=True)
        return iter(lambda: reader.read(_CHUNK), b"")
    if not _looks_like_tar(head):
        raise BuildFailed(f"This is no archive that is taken here: {_KINDS} are.")
    return iter(lambda: file.read(_CHUNK), b"")


def _looks_like_tar(head: bytes) -> bool:
    """By the sum in its first header: the oldest form has no other mark. An empty one begins with its end."""
    if len(head) == tarfile.BLOCKSIZE and not head.strip(b"\0"):
        return True
    try:
        tarfile.TarInfo.frombuf(head, "utf-8", "surrogateescape")
    except tarfile.TarError:
        return False
    return True


def _gunzipped(file: IO[bytes]) -> Iterator[bytes]:
    expander = zlib.decompressobj(wbits=_GZIP)
    data = b""
    while data := data or file.read(_CHUNK):
        if expander.eof:  # another one behind it, or padding
            data = data.lstrip(b"\0")
            if not data:
                continue
            expander = zlib.decompressobj(wbits=_GZIP)
        yield expander.decompress(data, _CHUNK)
        data = expander.unconsumed_tail or expander.unused_data
    if not expander.eof:
        raise EOFError("it ends in the middle")


class _Weighed:
    """Chunks as a stream to read from, each weighed."""

    def __init__(self, chunks: Iterator[bytes], scale: Scale, check: Check) -> None:
        self._chunks = chunks
        self._scale = scale
        self._check = check
        self._left = memoryview(b"")

    def read(self, size: int = -1, /) -> bytes:
        while not self._left:
            self._check()
            chunk = next(self._chunks, None)
            if chunk is None:
                return b""
            self._scale.add(len(chunk))
            self._left = memoryview(chunk)
        taken, self._left = bytes(self._left[:size]), self._left[size:]
        return taken


# zip


def _zip(file: IO[bytes], writer: TreeWriter, scale: Scale, check: Check) -> None:
    with zipfile.ZipFile(_Sober(file)) as archive:
        for entry in archive.infolist():
            check()
            path = _entry_path(entry)
            if path == _CLUTTER or path.startswith(f"{_CLUTTER}/"):
                continue
            if entry.flag_bits & 1:
                raise BuildFailed("The archive is encrypted: send one without a password.")
            if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise BuildFailed(
                    f"{shown(path)} is compressed in a way that is not taken here: use deflate."
                )
            _take_entry(archive, entry, path, writer, _expanding(scale, check))


def _take_entry(
    archive: zipfile.ZipFile,
    entry: zipfile.ZipInfo,
    path: str,
    writer: TreeWriter,
    weighed: Callable[[IO[bytes]], Iterable[bytes]],
) -> None:
    mode = entry.external_attr >> 16 if entry.create_system == 3 else 0
    if entry.is_dir() or stat.S_ISDIR(mode):
        if path:
            writer.directory(path)
        return
    with archive.open(entry) as content:
        if stat.S_ISLNK(mode):
            target = content.read(MAX_TARGET + 1)
            if len(target) > MAX_TARGET or b"\0" in target:
                raise BuildFailed(f"The symbolic link {shown(path)} has a target that is none.")
            writer.link(path, target.decode("utf-8", "surrogateescape"))
        elif stat.S_IFMT(mode) in (0, stat.S_IFREG):
            writer.file(path, executable=bool(mode & 0o100), chunks=weighed(content))
        else:
            raise neither(path)


def _entry_path(entry: zipfile.ZipInfo) -> str:
    name = entry.filename
    if entry.create_system == 0 and "/" not in name:  # made by a program that writes its own system's paths
        name = name.replace("\\", "/")
    return _plain_path(name)


def _expanding(scale: Scale, check: Check) -> Callable[[IO[bytes]], Iterable[bytes]]:
    def weighed(content: IO[bytes]) -> Iterable[bytes]:
        for chunk in chunks_of(content, check):
            scale.add(len(chunk))
            yield chunk

    return weighed


class _Sober(io.RawIOBase):
    """A file of which nobody reads much at once: a zip's directory is read whole, however large it says it is."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def read(self, size: int = -1) -> bytes:
        if size > MAX_NAMES:
            raise BuildFailed("The archive's own directory is too large.")
        found = self._file.read(MAX_NAMES + 1 if size is None or size < 0 else size)
        if len(found) > MAX_NAMES:
            raise BuildFailed("The archive's own directory is too large.")
        return found


# Both


def _plain_path(name: str) -> str:
    """`./a/b/` as `a/b`: what programs write that pack a folder from within."""
    parts = name.rstrip("/").split("/") if name.strip("/") else name.split("/")[:1]
    return "/".join(part for at, part in enumerate(parts) if part != "." and (part or at == 0))
