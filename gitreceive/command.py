"""What a client asks for on its exec line: a push, a fetch, an admin command, or nothing (help)."""

import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from controller.errors import InvalidInput, Refused
from controller.names import DEFAULT_SERVICE, Address, check_name


class ByteReader(Protocol):
    """Input of an admin command; reading at the end gives nothing."""

    async def read(self, n: int = -1, /) -> bytes: ...


class SessionReader(ByteReader, Protocol):
    """The same of a session that may have a terminal."""

    def tell(
        self,
        *,
        resized: Callable[[int, int], None] | None,
        signalled: Callable[[str], None] | None,
    ) -> None:
        """Call these when the client's terminal has another size, and when it sends a signal (its name)."""


class ByteWriter(Protocol):
    """Output of an admin command. Writing to a client that has gone is harmless."""

    def write(self, data: bytes, /) -> None: ...
    async def drain(self) -> None: ...


@dataclass(frozen=True, kw_only=True)
class CommandRequest:
    """One admin command, as it came over SSH."""

    argv: Sequence[str]
    """The words as they came, a leading `--` and `--quiet` included."""
    user: str
    fingerprint: str
    """Of the key that the user came with."""
    stdin: SessionReader
    stdout: ByteWriter
    stderr: ByteWriter
    terminal: tuple[int, int] | None = None
    """Columns and rows of the client's terminal; None when it asked for none."""
    terminal_kind: str = ""
    """Its TERM."""


class GitService(StrEnum):
    PUSH = "git-receive-pack"
    FETCH = "git-upload-pack"


@dataclass(frozen=True)
class GitRequest:
    """A git client wants to push to, or fetch from, this service's repository."""

    service: GitService
    address: Address


@dataclass(frozen=True)
class LargeFilesRequest:
    """git-lfs wants to send or to have large files of this service's repository."""

    address: Address
    uploads: bool


@dataclass(frozen=True)
class AdminRequest:
    """Any other words."""

    argv: tuple[str, ...]


@dataclass(frozen=True)
class HelpRequest:
    """A login without a command."""


Request = GitRequest | LargeFilesRequest | AdminRequest | HelpRequest

_LARGE_FILES = "git-lfs-transfer"
_REFUSED_SERVICES = {"git-upload-archive", "scp", "rsync", "sftp-server"}


def parse_command(line: str | None) -> Request:
    """Read an exec line. Raises InvalidInput or Refused with a sentence for the person."""
    if line is None or not line.strip():
        return HelpRequest()
    try:
        words = shlex.split(line)
    except ValueError as error:
        raise InvalidInput("command", f"The command can't be read: {error}.") from error
    if words[:1] == ["git"] and len(words) > 1:
        words = [f"git-{words[1]}", *words[2:]]
    if words and words[0] in set(GitService):
        if len(words) != 2:
            raise InvalidInput("repository", "Name one repository, such as myapp.git.")
        return GitRequest(GitService(words[0]), parse_repository(words[1]))
    if words and words[0] == _LARGE_FILES:
        if len(words) != 3 or words[2] not in ("upload", "download"):
            raise InvalidInput("operation", "Name a repository, such as myapp.git, and upload or download.")
        return LargeFilesRequest(parse_repository(words[1]), uploads=words[2] == "upload")
    if words and words[0] == "git-lfs-authenticate":
        raise Refused(
            "Large files go over SSH itself here, which takes Git LFS 3.0 or newer on your side: update git-lfs, and "
            "push again."
        )
    if words and words[0] in _REFUSED_SERVICES:
        raise Refused(f"{words[0]} is not offered here: push and fetch with git, or send an admin command.")
    return AdminRequest(tuple(words))


def parse_repository(path: str) -> Address:
    """Read `foo.git`, `/foo.git` or `foo/website.git` (`.git` may be left out); raises InvalidInput."""
    name = path.removeprefix("/").removesuffix("/").removesuffix(".git")
    deployment, slash, service = name.partition("/")
    return Address(
        check_name(deployment, "app name"),
        check_name(service, "service name") if slash else DEFAULT_SERVICE,
    )
