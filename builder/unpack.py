"""Writes a tree from an archive that nobody vouches for: the one safe unpacker."""

import errno
import os
import stat
import tarfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, Protocol, Self, cast

from builder.base import BuildFailed
from builder.threads import Check
from builder.tree import MAX_DEPTH, megabytes, shown

MAX_NAME = 1024**2
"""Bytes of a header that is no file."""
_CHUNK = 256 * 1024
_NAMING = frozenset(
    {
        *(tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE),
        *(tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK),
    }
)
_OURS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.EMFILE, errno.ENFILE})
"""Faults of our disk or our process: never the pusher's."""


class TreeWriter:
    """Fills a new folder. Everything that could lead out of it raises BuildFailed.

    The folder belongs to the writer alone, so the set of directories it made itself is the whole
    truth about which paths are directories: a file below a link is refused because no link is in
    that set.
    """

    def __init__(self, root: Path, *, max_files: int, max_bytes: int, links_inside: bool) -> None:
        """`links_inside` False keeps symbolic links wherever they point: nobody here follows them."""
        root.mkdir(mode=0o700)
        self._root = str(root)
        self._directories = {""}
        self._links: list[str] = []
        self._links_inside = links_inside
        self._max_files = max_files
        self._max_bytes = max_bytes
        self._files = 0
        self._bytes = 0

    @property
    def is_empty(self) -> bool:
        return self._files == 0

    @property
    def files(self) -> int:
        """That were made so far, folders and links among them."""
        return self._files

    @property
    def size(self) -> int:
        """Bytes of all files so far."""
        return self._bytes

    def directory(self, path: str) -> None:
        path = self._checked(path.rstrip("/"))
        if path and path not in self._directories:
            self._make_parents(path)
            self._create(path, lambda full: Path(full).mkdir(0o755))
            self._directories.add(path)

    def file(self, path: str, *, executable: bool, chunks: Iterable[bytes]) -> None:
        path = self._checked(path)
        self._make_parents(path)
        descriptor = self._create(
            path,
            lambda full: os.open(
                full,
                os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC,
                0o755 if executable else 0o644,
            ),
        )
        try:
            for chunk in chunks:
                self._bytes += len(chunk)
                if self._bytes > self._max_bytes:
                    raise BuildFailed(f"The files are larger than {megabytes(self._max_bytes)} in all.")
                write_all(descriptor, chunk)
        finally:
            os.close(descriptor)

    def link(self, path: str, target: str) -> None:
        path = self._checked(path)
        if self._links_inside and target.startswith("/"):
            raise BuildFailed(
                f"The symbolic link {shown(path)} points to the absolute path {shown(target)}; "
                "make it a relative one that stays inside the app."
            )
        self._make_parents(path)
        self._create(path, lambda full: Path(full).symlink_to(target))
        self._links.append(path)

    def copy(self, path: str, origin: str) -> None:
        """A file with the content of one that is there: what an archive calls a hard link."""
        parent, _, name = self._checked(origin).rpartition("/")
        if parent not in self._directories or not name:
            raise BuildFailed(
                f"The hard link {shown(path)} is to {shown(origin)}, which is no file of the app."
            )
        try:
            opened = os.open(
                f"{self._root}/{origin}", os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            )
        except OSError as error:
            raise BuildFailed(
                f"The hard link {shown(path)} is to {shown(origin)}, which is no file."
            ) from error
        try:
            mode = os.fstat(opened).st_mode
            if not stat.S_ISREG(mode):
                raise BuildFailed(f"The hard link {shown(path)} is to {shown(origin)}, which is no file.")
            pieces = iter(lambda: os.read(opened, _CHUNK), b"")
            self.file(path, executable=bool(mode & 0o100), chunks=pieces)
        finally:
            os.close(opened)

    def finish(self, *, top: str = "") -> None:
        """Check what can be known only when everything is there: where chains of links lead.

        `top`: the folder of the tree that they may not lead out of.
        """
        if not self._links_inside:
            return
        root = os.path.realpath(os.path.join(self._root, top))  # noqa: PTH118
        for path in self._links:
            end = os.path.realpath(os.path.join(self._root, path))  # noqa: PTH118
            if end != root and not end.startswith(f"{root}/"):
                raise BuildFailed(
                    f"The symbolic link {shown(path)} leads out of the app; make it point to something inside."
                )

    def _checked(self, path: str) -> str:
        parts = path.split("/")
        if path and any(part in {"", ".", ".."} or "\0" in part for part in parts):
            raise BuildFailed(f"The path {shown(path)} is not one that stays inside the app.")
        if len(parts) > MAX_DEPTH:
            raise BuildFailed(f"Folders are nested more than {MAX_DEPTH} deep: {shown(path)}.")
        return path

    def _make_parents(self, path: str) -> None:
        parent = path.rpartition("/")[0]
        if parent not in self._directories:
            self.directory(parent)

    def _create(self, path: str, make: Callable[[str], int | None]) -> int:
        self._files += 1
        if self._files > self._max_files:
            raise BuildFailed(f"The app has more than {self._max_files} files.")
        try:
            return make(f"{self._root}/{path}") or 0
        except FileExistsError as error:
            raise BuildFailed(f"The path {shown(path)} is there twice.") from error
        except NotADirectoryError as error:
            raise BuildFailed(f"The path {shown(path)} leads through a file.") from error
        except OSError as error:
            if error.errno in _OURS:
                raise
            raise BuildFailed(f"The path {shown(path)} can't be made: {error.strerror}.") from error


class Readable(Protocol):
    """A stream that can't seek."""

    def read(self, size: int = -1, /) -> bytes: ...


def unpack_tar(
    stream: Readable,
    writer: TreeWriter,
    check: Check,
    *,
    path_of: Callable[[str], str] = str,
    hard_links: bool = False,
    made: Callable[[tarfile.TarInfo, str], None] | None = None,
) -> None:
    """Unpack an uncompressed tar. Only files, folders and symbolic links; `path_of` makes paths of their names.
    `hard_links`: they are taken too, as copies. `made` is told of each file and folder that is there by now.

    Raises BuildFailed for anything else in it, tarfile.TarError when it is damaged.
    """
    with tarfile.open(
        fileobj=cast(IO[bytes], stream),
        mode="r|",
        encoding="utf-8",
        errors="surrogateescape",
        bufsize=_CHUNK,
        tarinfo=_Member,
    ) as archive:
        for member in archive:
            check()
            archive.members = []  # type: ignore[attr-defined]  # else it remembers every member
            path = path_of(member.name)
            if member.issym():
                writer.link(path, member.linkname)
                continue
            if member.isdir():
                writer.directory(path)
            elif member.isreg() and not member.issparse():
                content = archive.extractfile(member)
                assert content is not None
                writer.file(path, executable=bool(member.mode & 0o100), chunks=chunks_of(content, check))
            elif hard_links and member.islnk():
                writer.copy(path, path_of(member.linkname))
            else:
                raise neither(member.name)
            if made is not None:
                made(member, path)
    writer.finish()


class _Member(tarfile.TarInfo):
    """One that can't make us read gigabytes into memory: a long name is a header with a size of its own."""

    def _proc_member(self, archive: tarfile.TarFile) -> Self:
        if self.type in _NAMING and self.size > MAX_NAME:
            raise BuildFailed(f"A name in the tar is longer than {megabytes(MAX_NAME)}.")
        return super()._proc_member(archive)  # type: ignore[misc,no-any-return]


def neither(name: str) -> BuildFailed:
    """The refusal of what is of no kind that we take: devices, pipes, hard links, files with holes."""
    return BuildFailed(f"{shown(name)} is neither a file nor a folder nor a symbolic link.")


def chunks_of(content: Readable, check: Check) -> Iterator[bytes]:
    while chunk := content.read(_CHUNK):
        check()
        yield chunk


def write_all(descriptor: int, data: bytes) -> None:
    """A write may take less than it was given."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
