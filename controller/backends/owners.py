"""Whose a folder is, and how all in it that was somebody's becomes somebody else's."""

import contextlib
import json
import os
import stat
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path

Check = Callable[[], None]
"""Called between pieces of long work; raises once nobody wants it any more."""
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True)
class Owner:
    uid: int
    gid: int


@dataclass(frozen=True)
class Former:
    """Whose what is given over may be: of others nothing changes."""

    uids: frozenset[int] = frozenset()
    gids: frozenset[int] = frozenset()

    @classmethod
    def of(cls, *owners: Owner) -> "Former":
        return cls(frozenset(each.uid for each in owners), frozenset(each.gid for each in owners))

    def __or__(self, other: "Former") -> "Former":
        return Former(self.uids | other.uids, self.gids | other.gids)

    def given(self, uid: int, gid: int, owner: Owner) -> Owner | None:
        """Whose something of these is to be; None: as it is. A group that was shared with others stays."""
        if uid not in self.uids:
            return None
        wanted = Owner(owner.uid, owner.gid if gid in self.gids else gid)
        return None if wanted == Owner(uid, gid) else wanted


def give_over(folder: Path, owner: Owner, note: Path, check: Check, *, also: Collection[Owner] = ()) -> None:
    """The folder, and all in it that was its owner's or of one of `also`. Links are given themselves, and not followed.

    While it lasts the folder is root's, and the file `note` tells whose things in it may be: whoever comes after one
    that was broken off goes on, or gives them to somebody else again, and forgets nothing. Raises OSError.
    """
    top = os.open(folder, _DIRECTORY)
    try:
        info = os.fstat(top)
        former = _noted(note) | Former.of(Owner(info.st_uid, info.st_gid), *also)
        _write_note(note, former | Former.of(owner))
        os.fchown(top, 0, 0)
        for entry in _below(top):
            check()
            entry.give(former, owner)
        os.fchown(top, owner.uid, owner.gid)
    finally:
        os.close(top)
    note.unlink(missing_ok=True)


@dataclass(frozen=True, slots=True)
class _Entry:
    name: str
    parent: int
    """An open folder, until the next one is asked for."""
    info: os.stat_result

    def give(self, former: Former, owner: Owner) -> None:
        wanted = former.given(self.info.st_uid, self.info.st_gid, owner)
        if wanted is not None:
            with contextlib.suppress(FileNotFoundError):
                os.chown(self.name, wanted.uid, wanted.gid, dir_fd=self.parent, follow_symlinks=False)


@dataclass(slots=True)
class _Level:
    identity: tuple[int, int]
    folders: list[str] = field(default_factory=list)
    """Those in it that are still to be looked into."""


def _below(top: int) -> Iterator[_Entry]:
    """All of it, however deep: one folder is open at a time. Raises OSError where one is moved meanwhile."""
    here = os.dup(top)
    try:
        levels = [_Level(_identity(here))]
        yield from _in_one(here, levels[-1])
        while levels:
            if levels[-1].folders:
                try:
                    inner = os.open(levels[-1].folders.pop(), _DIRECTORY, dir_fd=here)
                except (FileNotFoundError, NotADirectoryError):
                    continue
                here = _instead(here, inner)
                levels.append(_Level(_identity(here)))
                yield from _in_one(here, levels[-1])
                continue
            levels.pop()
            if levels:
                here = _instead(here, os.open("..", _DIRECTORY, dir_fd=here))
                if _identity(here) != levels[-1].identity:
                    raise OSError("a folder in it was moved meanwhile")
    finally:
        os.close(here)


def _in_one(folder: int, level: _Level) -> Iterator[_Entry]:
    for name in os.listdir(folder):
        try:
            info = os.stat(name, dir_fd=folder, follow_symlinks=False)
        except FileNotFoundError:
            continue
        if stat.S_ISDIR(info.st_mode):
            level.folders.append(name)
        yield _Entry(name, folder, info)


def _instead(before: int, opened: int) -> int:
    os.close(before)
    return opened


def _identity(folder: int) -> tuple[int, int]:
    info = os.fstat(folder)
    return info.st_dev, info.st_ino


def _noted(note: Path) -> Former:
    """By what was broken off, if anything was."""
    try:
        said = json.loads(note.read_text())
        return Former(frozenset(map(int, said["uids"])), frozenset(map(int, said["gids"])))
    except (FileNotFoundError, ValueError, LookupError, TypeError):
        return Former()


def _write_note(note: Path, former: Former) -> None:
    """Whole, also after a power cut."""
    new = note.with_name(f"{note.name}.new")
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "w") as file:
        file.write(json.dumps({"uids": sorted(former.uids), "gids": sorted(former.gids)}))
        file.flush()
        os.fsync(file.fileno())
    new.replace(note)
