"""Which processes belong to an instance, read from /proc.

A process group is not enough: what an app has daemonised left it. So each instance gets a session of
its own and a marker in its environment, and whatever descends from one that matches belongs too. The
keeper is a subreaper: a process whose parent died stays below it, not below init.
"""

import contextlib
import os
import signal
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

MARKER = "MOOR_RUN"
"""Environment variable `<realm>/<instance id>` of every process that an instance starts."""


@dataclass(frozen=True, slots=True)
class Process:
    """One line of /proc. `started` is in clock ticks since boot and tells a reused id from the first."""

    pid: int
    parent: int
    group: int
    session: int
    started: int
    zombie: bool


Table = Mapping[int, Process]


def read_table() -> Table:
    """All processes that exist now."""
    return {each.pid: each for each in _read_all()}


def _read_all() -> Iterator[Process]:
    for name in os.listdir("/proc"):  # noqa: PTH208 - the names are all we want
        if name.isdecimal() and (process := read_process(int(name))):
            yield process


def read_process(pid: int) -> Process | None:
    """None when there is no such process."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return None
    # The name in brackets may hold anything, so count from the last bracket.
    words = stat.rpartition(b")")[2].split()
    return Process(pid, int(words[1]), int(words[2]), int(words[3]), int(words[19]), words[0] in b"ZX")


@dataclass(frozen=True, slots=True)
class Family:
    """How to know the processes of one instance (or, with a marker ending in "/", of a whole realm)."""

    marker: str
    """The value of MARKER, or its beginning when it ends in "/"."""
    leaders: frozenset[tuple[int, int]] = frozenset()
    """Process id and `started` of those that were started; they may be gone."""

    def members(self, table: Table) -> set[int]:
        """Ids of those that still live, without zombies, never us."""
        sessions = {pid for pid, started in self.leaders if pid not in table or table[pid].started == started}
        found = {
            each.pid
            for each in table.values()
            if each.session in sessions or each.group in sessions or each.pid in sessions
        }
        found.update(pid for pid in table if pid not in found and self._marked(pid))
        found.discard(os.getpid())
        _add_descendants(found, table)
        return {pid for pid in found if not table[pid].zombie and pid not in (1, os.getpid())}

    def _marked(self, pid: int) -> bool:
        try:
            environ = Path(f"/proc/{pid}/environ").read_bytes()
        except OSError:
            return False
        end = b"" if self.marker.endswith("/") else b"\0"
        return f"\0{MARKER}={self.marker}".encode() + end in b"\0" + environ


def descendants(pid: int, table: Table) -> set[int]:
    """Everything below `pid`, without zombies and without itself."""
    found = {pid}
    _add_descendants(found, table)
    return {each for each in found if each != pid and not table[each].zombie}


def _add_descendants(found: set[int], table: Table) -> None:
    children: dict[int, list[int]] = {}
    for each in table.values():
        children.setdefault(each.parent, []).append(each.pid)
    waiting = list(found)
    while waiting:
        for child in children.get(waiting.pop(), ()):
            if child not in found:
                found.add(child)
                waiting.append(child)


def send(sig: signal.Signals, pids: Iterable[int]) -> None:
    """Signal those that still exist."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, sig)


def end_all(family: Family, *, grace: float) -> int:
    """SIGTERM, up to `grace` seconds, SIGKILL until nothing is left. Returns how many there were. Blocks."""
    first = living = family.members(read_table())
    send(signal.SIGTERM, living)
    deadline = time.monotonic() + grace
    while living and time.monotonic() < deadline:
        time.sleep(0.05)
        living = family.members(read_table())
    # What can't even be killed (stuck in the kernel) must not keep us from starting for ever.
    deadline = time.monotonic() + 5
    while living and time.monotonic() < deadline:
        send(signal.SIGKILL, living)
        time.sleep(0.02)
        living = family.members(read_table())
    return len(first)


def boot_id() -> str:
    """Changes with every boot of the machine: process ids of another boot mean nothing."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
