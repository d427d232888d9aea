"""Starts the backups that are due by their schedules. What is due follows from the records alone, so that a server
that was down, or is killed in the middle, makes up for it by one turn.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial

from controller.errors import Conflict
from controller.names import Address
from controller.schedules import is_due
from controller.state import State
from controller.types import BackupPlan, Service

log = logging.getLogger(__name__)

AT_ONCE = 2
"""Backups by schedules that run at the same time; others wait until one of these has ended."""

BackUpResource = Callable[[str, str], Awaitable[None]]
"""A turn of the schedule of that resource (deployment, name). Raises Conflict where it can't be its turn now."""
BackUpVolume = Callable[[str, str, str], Awaitable[None]]
"""The same of a volume (deployment, service, name)."""


@dataclass(frozen=True, kw_only=True)
class _Planned:
    """Something that is backed up by itself."""

    key: tuple[str, ...]
    """Its deployment and its name; of a volume the service's between them."""
    plan: BackupPlan
    text: str
    verb: str
    """What tells people how it went."""
    turn: Callable[[], Awaitable[None]]


def rests(service: Service, volume: str) -> bool:
    """Whether nothing comes of the schedule of a volume for now: the definition does not have it, or no version of the
    service served yet, so that nothing can be in it."""
    return volume not in service.definition.volumes or service.current is None


class ScheduledBackups:
    def __init__(
        self,
        state: State,
        back_up_resource: BackUpResource,
        back_up_volume: BackUpVolume,
        *,
        clock: Callable[[], datetime],
    ) -> None:
        self._state = state
        self._back_up_resource = back_up_resource
        self._back_up_volume = back_up_volume
        self._clock = clock
        self._running: dict[tuple[str, ...], asyncio.Task[None]] = {}

    async def look(self) -> None:
        """Start what is due now, those first that have waited longest. Nothing beside itself."""
        for each in self._due():
            if len(self._running) >= AT_ONCE:
                return
            name = f"backup of {'/'.join(each.key)}"
            self._running[each.key] = asyncio.create_task(self._turn(each), name=name)

    def problems(self) -> Sequence[str]:
        """Whose last turn failed. Why is told where everybody who sees it may see the deployment."""
        return [
            f"The last backup of {each.text} by its schedule failed: `{each.verb}` tells why."
            for each in self._planned()
            if each.plan.failure
        ]

    async def idle(self) -> None:
        """Wait until none runs."""
        while self._running:
            await asyncio.wait(list(self._running.values()))

    async def close(self) -> None:
        """End what runs, of which nothing stays; it is still due at the next start."""
        running = list(self._running.values())
        for each in running:
            each.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    def _planned(self) -> Iterator[_Planned]:
        for resource in self._state.resources():
            if resource.backup is not None:
                key = (resource.deployment, resource.name)
                yield _Planned(
                    key=key,
                    plan=resource.backup,
                    text=f"{resource.deployment}'s {resource.name}",
                    verb=f"resources:info -a {resource.deployment} {resource.name}",
                    turn=partial(self._back_up_resource, *key),
                )
        for service in self._state.services():
            for volume, plan in service.backups.items():
                if not rests(service, volume):
                    address = Address(service.deployment, service.name)
                    yield _Planned(
                        key=(service.deployment, service.name, volume),
                        plan=plan,
                        text=f"the volume {volume} of {address}",
                        verb=f"volumes:schedule -a {address} {volume}",
                        turn=partial(self._back_up_volume, service.deployment, service.name, volume),
                    )

    def _due(self) -> Sequence[_Planned]:
        now = self._clock()
        waiting = [each for each in self._planned() if is_due(each.plan.schedule, each.plan.since, now)]
        waiting.sort(key=lambda each: (each.plan.since, each.key))
        return [each for each in waiting if each.key not in self._running]

    async def _turn(self, planned: _Planned) -> None:
        where = "/".join(planned.key)
        try:
            await planned.turn()
        except Conflict:
            log.info("backup waits of=%s", where)
        except Exception:  # whatever it is: it stays due, and others go on
            log.exception("backup by schedule failed of=%s", where)
        finally:
            del self._running[planned.key]
