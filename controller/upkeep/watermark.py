"""Watching how full the disk is: warns once, makes room by itself, and says what to do."""

import logging
from collections.abc import Mapping, Sequence

from controller.operations.text import size_text
from controller.state import EventDraft, State
from controller.store.base import StoreError
from controller.upkeep.collector import Collector
from controller.upkeep.storage import Kind, Space, Storage
from controller.views import DiskSpace

log = logging.getLogger(__name__)

RECOVERED = 1.1
"""The disk counts as roomy again once so many times the warning level is free: a warning doesn't flicker."""


def is_low(free: int, *, warning: int, was_low: bool) -> bool:
    """Whether the disk counts as nearly full."""
    return free < (warning * RECOVERED if was_low else warning)


class DiskWatch:
    def __init__(
        self, state: State, storage: Storage, collector: Collector, *, warning: int, reserve: int
    ) -> None:
        """`warning` and `reserve`: the settings disk_warning and disk_reserve."""
        self._state = state
        self._storage = storage
        self._collector = collector
        self.warning = max(warning, reserve)
        self.reserve = reserve
        self._space: Space | None = None
        self._usage: Mapping[Kind, int] = {}
        self._low = False
        self._untold: EventDraft | None = None

    def space(self) -> DiskSpace | None:
        """As last seen; None before the first look."""
        if self._space is None:
            return None
        return DiskSpace(
            total=self._space.total,
            free=self._space.free,
            warning=self.warning,
            reserve=self.reserve,
            usage={kind.value: size for kind, size in self._usage.items()} if self._low else {},
        )

    def problems(self) -> Sequence[str]:
        if not self._low or self._space is None:
            return ()
        return (self._text(self._space),)

    async def look(self) -> None:
        """See how full it is; make room when it has just become nearly full."""
        self._space = space = await self._storage.space()
        was_low, self._low = self._low, is_low(space.free, warning=self.warning, was_low=self._low)
        if self._low and not was_low:
            self._usage = await self._storage.usage()
            self._untold = EventDraft(kind="disk.low", text=self._text(space))
            log.warning("disk.low %s", self._text(space))
        elif was_low and not self._low:
            self._untold = EventDraft(kind="disk.recovered", text=f"{size_text(space.free)} are free again")
            log.info("disk.recovered free=%d", space.free)
        await self._tell()
        if self._low and not was_low:
            await self.make_room()

    async def make_room(self) -> None:
        """Collect as much as takes the disk out of the warning. Nothing while it is roomy."""
        if self._low and self._space is not None:
            await self._collector.collect(room=int(self.warning * RECOVERED) - self._space.free)
            self._usage = await self._storage.usage()

    async def _tell(self) -> None:
        """A store on a full disk takes no event: it is told once it does."""
        if self._untold is not None:
            try:
                await self._state.commit(events=[self._untold])
            except StoreError as error:
                log.warning("%s could not be journaled: %s", self._untold.kind, error)
            else:
                self._untold = None

    def _text(self, space: Space) -> str:
        used = ", ".join(f"{kind} {size_text(size)}" for kind, size in self._largest())
        return (
            f"The disk has {size_text(space.free)} left, less than {size_text(self.warning)} (disk_warning); pushes "
            f"are refused below {size_text(self.reserve)} (disk_reserve). Mooring's own files: {used}. "
            "An admin sees more with `disk`; `disk:collect` removes what nothing needs."
        )

    def _largest(self) -> Sequence[tuple[Kind, int]]:
        return sorted(self._usage.items(), key=lambda each: each[1], reverse=True)[:4]
