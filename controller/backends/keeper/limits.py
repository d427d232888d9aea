"""Keeps each instance within its limits: by control groups, and where there are none by looking.

Looking is a makeshift: what takes memory or processes fast has them before anybody looks.
"""

import contextlib
import os
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from controller.backends.keeper.groups import Groups
from controller.sizes import size_text

LOOKED_EVERY, COUNTED_EVERY = 1.0, 5.0
"""Seconds between two looks at what an instance takes, and at what the system killed of it."""
SAME_CAUSE = 10.0
"""Seconds after a part of it was killed for memory in which that is why the whole of it ends."""
GROUPED, WATCHED, BY_PROCESS, NOT_KEPT = "cgroup v{version}", "watched", "rlimit", "not kept"


@dataclass(frozen=True)
class LimitKeeper:
    """How limits are kept on this machine."""

    groups: Groups

    @property
    def ways(self) -> Mapping[str, str]:
        """Each limit to how it is kept, for people."""
        found = {"cpu": NOT_KEPT, "memory": WATCHED, "pids": WATCHED, "nofile": BY_PROCESS}
        return found | {
            controller: GROUPED.format(version=tree.version) for controller, tree in self.groups.trees.items()
        }


class Watch:
    """What becomes of the limits of one instance. Called again and again; looks when it is time."""

    def __init__(self, keeper: LimitKeeper, name: str, limits: Mapping[str, float | None]) -> None:
        self._groups = keeper.groups
        self._name = name
        self._limits = limits
        self._watched = {
            each: limit
            for each in ("memory", "pids")
            if (limit := limits.get(each)) is not None and each not in self._groups.trees
        }
        self._kills = 0
        self._killed_at = -SAME_CAUSE
        self._next_look = 0.0
        self._verdict = ""

    def begin(self) -> list[str]:
        """Before each start. Returns the files that take its processes into its groups; raises OSError."""
        files = self._groups.make(self._name, self._limits)
        self._kills = self._groups.kills(self._name)
        self._killed_at, self._verdict = -SAME_CAUSE, ""
        return files

    def look(self, members: Callable[[], Iterable[int]]) -> str:
        """Why all of it must be killed now; "" while it may go on, or nobody needs to look."""
        if self._watched and self._is_time(LOOKED_EVERY):
            pids = list(members())
            memory, threads = self._watched.get("memory"), self._watched.get("pids")
            if memory is not None and takes_more(pids, memory):
                self._verdict = too_much(memory)
            elif threads is not None and count_threads(pids) > threads:
                self._verdict = f"killed: had more than its limit of {threads:g} processes and threads"
        return self._verdict

    def news(self) -> str:
        """What the system did to a part of it since the last look; mostly ""."""
        memory = self._limits.get("memory")
        if memory is None or self._watched or not self._is_time(COUNTED_EVERY) or not self._count_kills():
            return ""
        return f"a process of it was {too_much(memory)}"

    def cause_of_end(self) -> str:
        """Why its process ended, where that was a limit; else ""."""
        self._count_kills()
        if self._verdict or time.monotonic() - self._killed_at >= SAME_CAUSE:
            return self._verdict
        return too_much(self._limits.get("memory") or 0)

    def members(self) -> set[int]:
        return self._groups.members(self._name)

    def forget(self) -> None:
        """What can't be removed yet, the next keeper sweeps away."""
        self._groups.remove(self._name)

    def _count_kills(self) -> bool:
        """Whether there are more than there were."""
        kills = self._groups.kills(self._name)
        more = kills > self._kills
        if more:
            self._kills, self._killed_at = kills, time.monotonic()
        return more

    def _is_time(self, interval: float) -> bool:
        now = time.monotonic()
        due = now >= self._next_look
        if due:
            self._next_look = now + interval
        return due


def too_much(memory: float) -> str:
    return f"killed: used more than its limit of {size_text(memory)}"


def takes_more(pids: list[int], limit: float) -> bool:
    """Whether the processes take more memory than that. What they share is counted once, where it matters."""
    page = os.sysconf("SC_PAGE_SIZE")
    if sum(_number(f"/proc/{pid}/statm", 1) for pid in pids) * page <= limit:
        return False
    return sum(_proportional(pid) for pid in pids) > limit


def count_threads(pids: list[int]) -> int:
    found = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            found += len(os.listdir(f"/proc/{pid}/task"))  # noqa: PTH208 - names will do
    return found


def _number(path: str, index: int) -> int:
    try:
        return int(Path(path).read_text().split()[index])
    except (OSError, ValueError, IndexError):
        return 0


def _proportional(pid: int) -> int:
    """Bytes: of a page that several share, each has its part."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    return 0
