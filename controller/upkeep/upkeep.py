"""What the server does by itself beside the reconcile loop, each part on an interval of its own."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from controller.upkeep.backups import ScheduledBackups
from controller.upkeep.collector import Collector
from controller.upkeep.reaper import Reaper
from controller.upkeep.storage import Storage
from controller.upkeep.watermark import DiskWatch

log = logging.getLogger(__name__)

COLLECT_INTERVAL = 600.0
DISK_INTERVAL = 5.0
REAP_INTERVAL = 5.0
SCHEDULE_INTERVAL = 10.0
"""Seconds between two turns."""
SETTLING = 60.0
"""Seconds from the start until schedules are looked at: before servers of databases are seen to run, what was missed
while this server was down would only fail."""


@dataclass(frozen=True)
class Upkeep:
    storage: Storage
    collector: Collector
    disk: DiskWatch
    reaper: Reaper
    backups: ScheduledBackups
    cron: Callable[[], Awaitable[None]]
    """Begins the commands whose time has come."""

    async def run(self) -> None:
        """Keep going until cancelled. What fails is logged and tried again at its next turn."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self.collector.follow())
                tasks.create_task(_every(COLLECT_INTERVAL, self._collect))
                tasks.create_task(_every(DISK_INTERVAL, self.disk.look))
                tasks.create_task(_every(REAP_INTERVAL, self.reaper.reap))
                tasks.create_task(_every(SCHEDULE_INTERVAL, self.backups.look, first_after=SETTLING))
                tasks.create_task(_every(SCHEDULE_INTERVAL, self.cron))
        finally:
            await self.backups.close()

    def problems(self) -> Sequence[str]:
        return (*self.disk.problems(), *self.reaper.problems(), *self.backups.problems())

    async def _collect(self) -> None:
        await self.collector.collect()
        await self.disk.make_room()


async def _every(seconds: float, work: Callable[[], Awaitable[object]], *, first_after: float = 0.0) -> None:
    await asyncio.sleep(first_after)
    while True:
        try:
            await work()
        except Exception as error:
            log.warning("upkeep failed work=%s error=%r", getattr(work, "__qualname__", work), error)
        await asyncio.sleep(seconds)
