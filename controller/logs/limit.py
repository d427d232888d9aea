"""Keeps the logs of a service within a size: versions come and go, and each instance leaves a file."""

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from controller.logs.recorder import ROUTER_LOG

YOUNG = 60.0
"""Seconds since its last line in which a file is left alone: it may be of what was started since somebody looked."""
MAX_ENDED = 500
"""Instances that are gone and whose lines are kept, however few those are: each costs a look at its file."""

_FILE = re.compile(r"(.+)\.log(?:\.\d)?")


@dataclass(frozen=True)
class _Chain:
    """The files of one instance."""

    name: str
    files: tuple[Path, ...]
    """The youngest first."""
    size: int
    written_at: float


def bound(folder: Path, *, limit: int, running: Collection[str], now: float) -> int:
    """Delete what is above `limit` bytes, and return how many were deleted. Blocks.

    First the instances that ended longest ago, as a whole; then what was moved aside of the others. What is
    being written stays, and is bounded by its own rotation.
    """
    chains = sorted(_chains(folder), key=lambda each: each.written_at)
    kept = {ROUTER_LOG.removesuffix(".log"), *running}
    ended = [each for each in chains if each.name not in kept and each.written_at < now - YOUNG]
    before = total = sum(each.size for each in chains)
    surplus = len(ended) - MAX_ENDED
    for number, chain in enumerate(ended):
        if total <= limit and number >= surplus:
            return before - total
        # The youngest last: readers find an instance by it.
        for file in reversed(chain.files):
            file.unlink(missing_ok=True)
        total -= chain.size
    moved = [
        file for each in chains if each not in ended for file in each.files if not file.name.endswith(".log")
    ]
    for file in sorted(moved, key=_written_at):
        if total <= limit:
            break
        total -= _size(file)
        file.unlink(missing_ok=True)
    return before - total


def _chains(folder: Path) -> Iterator[_Chain]:
    files: dict[str, list[Path]] = {}
    for path in sorted(folder.glob("*.log*")):
        if match := _FILE.fullmatch(path.name):
            files.setdefault(match[1], []).append(path)
    for name, own in files.items():
        yield _Chain(name, tuple(own), sum(map(_size, own)), max(map(_written_at, own)))


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _written_at(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0.0
