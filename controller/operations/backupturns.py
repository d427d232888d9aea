"""A turn of a schedule: one more backup, and those that are too many go."""

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import datetime

from controller.backends.base import BackendError
from controller.errors import Conflict, MooringError
from controller.operations.backupplans import surplus
from controller.resources.backups import BackupStore
from controller.types import BackupPlan
from controller.upkeep.storage import Removed
from controller.views import BackupInfo

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Turn:
    """How one went."""

    begun: datetime
    text: str
    """For the event."""
    failure: str = ""
    """Why no backup was made; empty where one was."""

    def after(self, plan: BackupPlan) -> BackupPlan:
        """The plan as it is now, which may be another one than at the beginning, with this turn done."""
        return replace(plan, since=max(self.begun, plan.since), failure=self.failure)


async def take_turn(
    name: str,
    plan: BackupPlan,
    store: BackupStore,
    make: Callable[[], Awaitable[BackupInfo]],
    clock: Callable[[], datetime],
) -> Turn:
    """`make` makes the backup in that store, of what the event calls `name`. That it fails is no error here.

    Raises Conflict where it is being backed up or restored just now: then the turn still is to come.
    """
    begun = clock()
    try:
        made = await make()
        gone = await _retire(name, store, plan, clock())
    except Conflict:
        raise
    except (MooringError, BackendError) as error:
        text = f"{name} was not backed up by its schedule: {error}"
        return Turn(begun=begun, text=text, failure=str(error))
    older = f"; {gone.count} older went" if gone.count else ""
    return Turn(
        begun=begun, text=f"{name} was backed up by its schedule as {made.id} ({made.size} bytes){older}"
    )


async def _retire(name: str, store: BackupStore, plan: BackupPlan, now: datetime) -> Removed:
    """That it can't remove one is no failure of the backup: the next turn tries again."""
    removed = Removed()
    for each in surplus(await store.list(), plan, now):
        try:
            await store.remove(each.id)
        except OSError as error:
            log.warning("backup not removed of=%s backup=%s error=%s", name, each.id, error)
        else:
            removed += Removed(1, each.size)
    return removed
