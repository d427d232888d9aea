"""Control groups of the kernel, one for each instance: how its limits are kept where there are any.

Version 2 of them is one tree for all controllers, version 1 one for each; a machine may have both, with
each controller in one of them. Ours lie at the top, in `mooring/<realm>/<instance id>`: whatever started
the keeper, a login or a service, may end before the instances do.
"""

import contextlib
import os
import signal
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from controller.backends.keeper.processes import send

CONTROLLERS = ("memory", "pids", "cpu")
PERIOD = 100_000
"""Microseconds over which the share of the processors is counted."""
TRIED_FOR = 5.0
"""Seconds for what is killed to be gone."""


@dataclass(frozen=True)
class Tree:
    """One hierarchy, and the folder in it that holds the groups of one keeper."""

    version: int
    folder: Path

    def limits(self, controller: str, amount: float | None) -> Iterator[tuple[str, str]]:
        """What is written into which file of a group. `amount` None: no limit."""
        unlimited = amount is None
        match self.version, controller:
            case _, "pids":
                yield "pids.max", "max" if unlimited else str(amount)
            case 2, "memory":
                yield "memory.max", "max" if unlimited else str(amount)
                yield "memory.swap.max", "max" if unlimited else "0"
                # The instance as a whole: what is left of one whose worker was killed may hang for ever.
                yield "memory.oom.group", "1"
            case 2, _:
                yield "cpu.max", f"max {PERIOD}" if amount is None else f"{_quota(amount)} {PERIOD}"
            case _, "memory":
                size = "-1" if unlimited else str(amount)
                yield "memory.limit_in_bytes", size
                yield "memory.memsw.limit_in_bytes", size
            case _:
                yield "cpu.cfs_period_us", str(PERIOD)
                yield "cpu.cfs_quota_us", "-1" if amount is None else str(_quota(amount))

    @property
    def kills(self) -> tuple[str, str]:
        """The file that counts what was killed for memory, and the word before the number."""
        return ("memory.events", "oom_kill ") if self.version == 2 else ("memory.oom_control", "oom_kill ")


def _quota(cores: float) -> int:
    return max(1000, round(cores * PERIOD))


OPTIONAL = ("memory.swap.max", "memory.oom.group", "memory.memsw.limit_in_bytes")
"""Files that a kernel may lack: without swap, or of an older release."""


@dataclass(frozen=True)
class Groups:
    """The groups of one keeper. Raises OSError."""

    trees: Mapping[str, Tree]
    """Controller to where it is; those that this machine does not let us use are missing."""

    @classmethod
    def find(cls, realm: str, mounts: str | None = None) -> "Groups":
        """What can be used here, tried out. `mounts`: the text of /proc/self/mounts."""
        text = Path("/proc/self/mounts").read_text() if mounts is None else mounts
        trees: dict[str, Tree] = {}
        for version, place, options in sorted(_hierarchies(text), key=lambda each: -each[0]):
            tree = Tree(version, place / "mooring" / realm)
            for controller in CONTROLLERS if version == 2 else options:
                if controller in CONTROLLERS and controller not in trees and _usable(tree, place, controller):
                    trees[controller] = tree
        return cls(trees)

    @property
    def folders(self) -> frozenset[Path]:
        return frozenset(tree.folder for tree in self.trees.values())

    def make(self, name: str, limits: Mapping[str, float | None]) -> list[str]:
        """Make sure of the group and its limits (controller to amount). Returns the files that take processes."""
        for controller, tree in self.trees.items():
            group = tree.folder / name
            group.mkdir(exist_ok=True)
            _set(group, list(tree.limits(controller, limits.get(controller))))
        return [str(folder / name / "cgroup.procs") for folder in sorted(self.folders)]

    def kills(self, name: str) -> int:
        """How many processes of it were killed for memory so far."""
        tree = self.trees.get("memory")
        if tree is None:
            return 0
        file, word = tree.kills
        with contextlib.suppress(OSError):
            for line in (tree.folder / name / file).read_text().splitlines():
                if line.startswith(word):
                    return int(line.removeprefix(word))
        return 0

    def members(self, name: str) -> set[int]:
        """Process ids, of those that have ended and were not reaped too."""
        found = set[int]()
        for folder in self.folders:
            with contextlib.suppress(OSError):
                found |= {int(each) for each in (folder / name / "cgroup.procs").read_text().split()}
        return found

    def remove(self, name: str) -> bool:
        """Whether nothing of it is left. What still has processes stays."""
        for folder in self.folders:
            with contextlib.suppress(FileNotFoundError):
                try:
                    (folder / name).rmdir()
                except OSError:
                    return False
        return True

    def sweep(self) -> None:
        """End what is in any group of ours, and remove all of them."""
        names = {each.name for folder in self.folders for each in _children(folder)}
        deadline = time.monotonic() + TRIED_FOR
        while (names := {each for each in names if not self.remove(each)}) and time.monotonic() < deadline:
            for each in names:
                send(signal.SIGKILL, self.members(each) - {os.getpid()})
            time.sleep(0.02)

    def close(self) -> None:
        """Remove our own folders once no instance has a group any more."""
        for folder in self.folders:
            for each in (folder, folder.parent):
                with contextlib.suppress(OSError):
                    each.rmdir()


def attached_groups(realm: str) -> str:
    """The realm of commands that somebody is attached to: a keeper that starts anew must not sweep them."""
    return f"{realm}-attached"


def _hierarchies(mounts: str) -> Iterator[tuple[int, Path, list[str]]]:
    for line in mounts.splitlines():
        _, place, kind, options, *_ = line.split(" ")
        if kind in ("cgroup", "cgroup2"):
            yield 2 if kind == "cgroup2" else 1, Path(place.replace("\\040", " ")), options.split(",")


def _usable(tree: Tree, top: Path, controller: str) -> bool:
    """Whether groups with that controller can be made there."""
    try:
        if tree.version == 2:
            if controller not in (top / "cgroup.controllers").read_text().split():
                return False
            tree.folder.mkdir(parents=True, exist_ok=True)
            for each in (top, tree.folder.parent, tree.folder):
                if controller not in (each / "cgroup.subtree_control").read_text().split():
                    _write(each / "cgroup.subtree_control", f"+{controller}")
        else:
            tree.folder.mkdir(parents=True, exist_ok=True)
        file = next(tree.limits(controller, None))[0]
        trial = tree.folder / ".trial"
        trial.mkdir(exist_ok=True)
        usable = os.access(trial / file, os.W_OK) and os.access(trial / "cgroup.procs", os.W_OK)
        trial.rmdir()
    except OSError:
        return False
    return usable


def _children(folder: Path) -> list[Path]:
    try:
        return [each for each in folder.iterdir() if each.is_dir()]
    except OSError:
        return []


def _set(group: Path, lines: list[tuple[str, str]]) -> None:
    # Version 1 keeps memory below memory with swap at every moment, so that a higher limit goes in the other
    # way round: twice in the same order does for both.
    for file, text in lines:
        with contextlib.suppress(OSError):
            _write(group / file, text)
    for file, text in lines:
        try:
            _write(group / file, text)
        except OSError:
            if file not in OPTIONAL:
                raise


def _write(path: Path, text: str) -> None:
    # In one piece and without creating: these are no files.
    descriptor = os.open(path, os.O_WRONLY)
    try:
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)
