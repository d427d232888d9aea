"""Whom an image runs as: its USER, looked up in its own files the way an engine does. Nothing here performs."""

import base64
import io
import json
import re
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from controller.backends.owners import Owner

PASSWD, GROUP = "/etc/passwd", "/etc/group"
LARGEST_ID = 2**31 - 1
STAT_HEADER = "x-docker-container-path-stat"
_NUMBER = re.compile(r"[+-]?[0-9]{1,20}", re.ASCII)
_KINDS = sum(1 << bit for bit in (31, 27, 26, 25, 24, 21, 19))
"""Bits of Go's FileMode that say that something is no plain file."""
_LINK = 1 << 27


class UnknownUser(Exception):
    """The image names somebody whom it does not have. The message says whom, as the end of a sentence."""


def is_root(user: str) -> bool:
    return user.partition(":")[0] in ("", "0", "root")


def files_needed(user: str) -> tuple[str, ...]:
    """The files that tell whom that means: none where it says both as numbers."""
    name, _, group = user.partition(":")
    found = []
    if not (_NUMBER.fullmatch(name) and group):
        found.append(PASSWD)
    if group and not _NUMBER.fullmatch(group):
        found.append(GROUP)
    return tuple(found)


def owner_of(user: str, files: Mapping[str, str]) -> Owner:
    """`files`: the texts of those that are needed. The first line of a name or number counts. A number needs none, and
    has group 0 then. Raises UnknownUser."""
    name, _, group = user.partition(":")
    uid, gid = _user(name, files.get(PASSWD, ""))
    if group:
        gid = _group(group, files.get(GROUP, ""))
    return Owner(_valid(uid), _valid(gid))


def _user(name: str, passwd: str) -> tuple[int, int]:
    number = int(name) if _NUMBER.fullmatch(name) else None
    for fields in _lines(passwd):
        if not _NUMBER.fullmatch(fields[2]):
            continue
        uid = int(fields[2])
        if (uid == number) if number is not None else (fields[0] == name):
            return uid, int(fields[3]) if _NUMBER.fullmatch(fields[3]) else 0
    if number is None:
        raise UnknownUser(f"its {PASSWD} has no user {name[:60]!a}")
    return number, 0


def _group(name: str, groups: str) -> int:
    if _NUMBER.fullmatch(name):
        return int(name)
    for fields in _lines(groups):
        if fields[0] == name and _NUMBER.fullmatch(fields[2]):
            return int(fields[2])
    raise UnknownUser(f"its {GROUP} has no group {name[:60]!a}")


def _lines(text: str) -> Iterator[list[str]]:
    """The fields of each line, and empty ones for those that a short line lacks."""
    for line in text.split("\n"):
        yield [*line.strip().split(":"), "", "", ""]


def _valid(number: int) -> int:
    if not 0 <= number <= LARGEST_ID:
        raise UnknownUser(f"{number} is no number of a user or group")
    return number


# What an engine answers that is asked for a file


@dataclass(frozen=True, kw_only=True)
class Told:
    """Of a path in a container."""

    size: int
    is_file: bool
    link: str = ""
    """Where a link leads, to its very end; empty: it is none."""


def told(head: Mapping[str, str]) -> Told:
    """Raises ValueError where it does not say."""
    try:
        said = json.loads(base64.b64decode(head.get(STAT_HEADER, ""), validate=True))
        mode, link = int(said["mode"]), str(said.get("linkTarget") or "")
        return Told(size=int(said["size"]), is_file=not mode & _KINDS, link=link if mode & _LINK else "")
    except (LookupError, TypeError) as error:
        raise ValueError("it says nothing of the file") from error


def text_of(tar: bytes) -> str:
    """Of the one file in it. Raises ValueError."""
    try:
        with tarfile.open(fileobj=io.BytesIO(tar), mode="r:") as archive:
            member = archive.next()
            content = archive.extractfile(member) if member is not None and member.isreg() else None
            if content is None:
                raise ValueError("it has no file")
            return content.read().decode(errors="replace")
    except tarfile.TarError as error:
        raise ValueError("it is no tar") from error
