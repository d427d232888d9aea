"""Which processes belong to an instance, read from /proc.

A process group is not enough: what an app has daemonised left it. So each instance gets a session of
its own and a marker in its environment, and whatever descends from one that matches belongs too. The
keeper is a subreaper: a process whose parent died stays below it, not below init.
"""

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
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


def read_process(pid: int) -> Process | None:
    """None when there is no such process."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return None
    # The name in brackets may hold anything, so count from the last bracket.
    words = stat.rpartition(b")")[2].split()
    return Process(pid, int(words[1]), int(words[2]), int(words[3]), int(words[19]), words[0] in b"ZX")


@dataclass(frozen=True)
class Census:
    """All processes at one moment, and what is known of them."""

    processes: Mapping[int, Process]
    markers: Mapping[int, str]
    """The value of MARKER, of those that have one."""

    @classmethod
    def take(cls) -> "Census":
        names = [int(each) for each in os.listdir("/proc") if each.isdecimal()]  # noqa: PTH208 - names will do
        processes = {pid: process for pid in names if (process := read_process(pid))}
        return cls(processes, {pid: marker for pid in processes if (marker := _read_marker(pid))})

    @cached_property
    def children(self) -> Mapping[int, Sequence[int]]:
        return self._by(lambda each: each.parent)

    @cached_property
    def sessions(self) -> Mapping[int, Sequence[int]]:
        return self._by(lambda each: each.session)

    @cached_property
    def groups(self) -> Mapping[int, Sequence[int]]:
        return self._by(lambda each: each.group)

    @cached_property
    def marked(self) -> Mapping[str, Sequence[int]]:
        found: dict[str, list[int]] = {}
        for pid, marker in self.markers.items():
            found.setdefault(marker, []).append(pid)
        return found

    def below(self, roots: Iterable[int]) -> set[int]:
        """The roots and all that descend from them."""
        found = set(roots)
        waiting = list(found)
        while waiting:
            new = set(self.children.get(waiting.pop(), ())) - found
            found |= new
            waiting += new
        return found

    def living(self, pids: Iterable[int]) -> set[int]:
        """Those that are there, are no zombies, and are neither init nor us."""
        found = {pid for pid in pids if pid in self.processes and not self.processes[pid].zombie}
        return found - {1, os.getpid()}

    def _by(self, key: Callable[[Process], int]) -> Mapping[int, Sequence[int]]:
        found: dict[int, list[int]] = {}
        for each in self.processes.values():
            found.setdefault(key(each), []).append(each.pid)
        return found


def _read_marker(pid: int) -> str:
    try:
        environ = Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return ""
    _, found, rest = (b"\0" + environ).partition(f"\0{MARKER}=".encode())
    return rest.partition(b"\0")[0].decode(errors="replace") if found else ""


@dataclass(frozen=True, slots=True)
class Family:
    """How to know the processes of one instance (or, with a marker ending in "/", of a whole realm)."""

    marker: str
    """The value of MARKER, or its beginning when it ends in "/"."""
    leaders: frozenset[tuple[int, int]] = frozenset()
    """Process id and `started` of those that were started; they may be gone."""

    def members(self, census: Census) -> set[int]:
        """Ids of those that live."""
        roots = set(self._marked(census))
        for pid, started in self.leaders:
            leader = census.processes.get(pid)
            # Of another start time: the id was given to a stranger, and its session with it.
            if leader is None or leader.started == started:
                roots |= {pid, *census.sessions.get(pid, ()), *census.groups.get(pid, ())}
        return census.living(census.below(roots - {os.getpid()}))

    def _marked(self, census: Census) -> Iterable[int]:
        if not self.marker.endswith("/"):
            return census.marked.get(self.marker, ())
        return (pid for pid, marker in census.markers.items() if marker.startswith(self.marker))


class CensusTaker:
    """Shares a census among many that ask at the same moment: it costs 3 ms and more on a busy machine."""

    def __init__(self, share: float = 0.2) -> None:
        self._share = share
        """How much of the time may go into counting when everybody asks all the time."""
        self._last: Census | None = None
        self._taken_at = 0.0
        self._good_until = 0.0

    def recent(self, *, since: float = 0.0) -> Census:
        """One that is young enough, and was taken after `since` (monotonic)."""
        now = time.monotonic()
        if self._last is None or now >= self._good_until or self._taken_at < since:
            self._last, self._taken_at = Census.take(), now
            done = time.monotonic()
            self._good_until = done + (done - now) / self._share
        return self._last


def living(pids: Iterable[int]) -> set[int]:
    """Those that are there now, and are no zombies."""
    return {pid for pid in pids if (found := read_process(pid)) and not found.zombie}


def send(sig: signal.Signals, pids: Iterable[int]) -> None:
    """Signal those that still exist."""
    for pid in pids:
        # To the kernel, 0 and below are groups: ours, or everybody.
        if pid > 1:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, sig)


def end_all(family: Family, *, grace: float) -> int:
    """SIGTERM, up to `grace` seconds, SIGKILL until nothing is left. Returns how many there were. Blocks."""
    first = living = family.members(Census.take())
    send(signal.SIGTERM, living)
    deadline = time.monotonic() + grace
    while living and time.monotonic() < deadline:
        time.sleep(0.05)
        living = family.members(Census.take())
    # What can't even be killed (stuck in the kernel) must not keep us from starting for ever.
    deadline = time.monotonic() + 5
    while living and time.monotonic() < deadline:
        send(signal.SIGKILL, living)
        time.sleep(0.02)
        living = family.members(Census.take())
    return len(first)


def boot_id() -> str:
    """Changes with every boot of the machine: process ids of another boot mean nothing."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
