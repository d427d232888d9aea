"""Limits of BuildKit's steps: the engine takes none for them, so they are written to each step's control group.

BuildKit runs each step of any build in a group of its own below `docker/buildkit`. Ours are told from those of
others by a host name that only our builds are given; where the groups are not to be seen (another machine, not
root, another layout) nothing is kept.
"""

import asyncio
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from builder.classic_build import CPU_PERIOD, Limits

CGROUPS = Path("/sys/fs/cgroup")
STEPS = "docker/buildkit"
INTERVAL = 0.05
"""Seconds between two looks: what a step can do in them is little."""


@dataclass
class Guard:
    """To be run beside builds that were given `host`."""

    limits: Limits
    host: str
    root: Path = CGROUPS
    processes: Path = Path("/proc")
    _done: set[Path] = field(default_factory=set)

    @property
    def can_see(self) -> bool:
        """Whether limits can be kept at all."""
        return os.geteuid() == 0 and bool(self._places())

    async def watch(self) -> None:
        """Until cancelled."""
        while True:
            await asyncio.to_thread(self.look)
            await asyncio.sleep(INTERVAL)

    def look(self) -> None:
        """Limit what has come since the last look. Blocking."""
        there = [step for place in self._places() for step in _folders(place / STEPS)]
        self._done &= set(there)
        for step in there:
            if step not in self._done and self._is_ours(step):
                for name, value in amounts(self.limits).items():
                    if (step / name).exists():
                        with suppress(OSError):  # it has ended
                            (step / name).write_text(value)
                self._done.add(step)

    def _places(self) -> list[Path]:
        """Where groups are: one tree, or one for each controller."""
        if (self.root / "cgroup.controllers").is_file():
            return [self.root]
        return [each for each in (self.root / name for name in ("memory", "pids", "cpu")) if each.is_dir()]

    def _is_ours(self, step: Path) -> bool:
        with suppress(OSError):
            for process in (step / "cgroup.procs").read_text().split():
                hosts = self.processes / process / "root/etc/hosts"
                if self.host in hosts.read_text(errors="replace").split():
                    return True
        return False


def amounts(limits: Limits) -> Mapping[str, str]:
    """File of a control group, of either version, to what is written to it. Pure."""
    found: dict[str, str] = {}
    if limits.memory:
        memory = str(limits.memory)
        found |= {"memory.limit_in_bytes": memory, "memory.memsw.limit_in_bytes": memory}
        found |= {"memory.max": memory, "memory.swap.max": "0"}
    if limits.pids:
        found["pids.max"] = str(limits.pids)
    if limits.cpu:
        quota = int(limits.cpu * CPU_PERIOD)
        found |= {"cpu.cfs_quota_us": str(quota), "cpu.max": f"{quota} {CPU_PERIOD}"}
    return found


def _folders(place: Path) -> Iterator[Path]:
    with suppress(OSError):
        yield from (each for each in place.iterdir() if each.is_dir())
