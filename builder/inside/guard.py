"""Watches the container's own limits from inside, where they look the same on every engine."""

import asyncio
from pathlib import Path

from builder.inside.order import MEMORY, PIDS

INTERVAL = 0.5
"""Seconds between two looks."""
SIGNS = (
    (MEMORY, "/sys/fs/cgroup/memory/memory.oom_control", "oom_kill "),
    (MEMORY, "/sys/fs/cgroup/memory.events", "oom_kill "),
    (PIDS, "/sys/fs/cgroup/pids/pids.events", "max "),
    (PIDS, "/sys/fs/cgroup/pids.events", "max "),
)
"""Limit, file of a control group (of either version), and the word before how often it was met."""


async def over_a_limit() -> str:
    """Returns once one was met: its name."""
    while True:
        await asyncio.sleep(INTERVAL)
        for limit, file, word in SIGNS:
            if _count(Path(file), word):
                return limit


def _count(file: Path, word: str) -> int:
    try:
        lines = file.read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.removeprefix(word)) for line in lines if line.startswith(word)), 0)
