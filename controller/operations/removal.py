"""What a destroyed service leaves behind: its files go once its last instance is gone.

Until then nothing new may take its name (it would get the old one's files) or its user id (it could
read them). A server that dies in between finds the files again at its next start, by `sweep`.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial

from controller.errors import Conflict
from controller.names import Address
from controller.operations.runtime import Runtime
from controller.state import State
from controller.types import Service

log = logging.getLogger(__name__)

Cleanup = Callable[[str, str], Awaitable[None]]
"""Removes all files of the service (deployment, name); is idempotent: what fails is tried again."""

POLL = 0.2
"""Seconds between two looks at whether the instances are gone."""
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 300.0
"""Seconds between two attempts to remove files that can't be removed, doubling from the one to the other."""


@dataclass(frozen=True)
class _Leaving:
    address: Address
    uid: int | None


class Removal:
    def __init__(self, state: State, runtime: Runtime, cleanup: Cleanup) -> None:
        self._state = state
        self._runtime = runtime
        self._cleanup = cleanup
        self._tasks: dict[_Leaving, asyncio.Task[None]] = {}
        self._failures: dict[_Leaving, str] = {}

    def begin(self, services: Iterable[Service]) -> None:
        """To be called as soon as their records are deleted."""
        for each in services:
            leaving = _Leaving(Address(each.deployment, each.name), each.uid)
            task = asyncio.create_task(self._remove(leaving), name=f"removal of {leaving.address}")
            self._tasks[leaving] = task
            task.add_done_callback(partial(self._forget, leaving))

    def problems(self) -> Sequence[str]:
        """What can't be removed, and why."""
        return [
            f"The files of {leaving.address}, which was destroyed, can't be removed: {why}. It is tried again."
            for leaving, why in self._failures.items()
        ]

    def check_is_over(self, deployment: str, service: str | None = None) -> None:
        """Raise Conflict while what went by this name is on its way out. None: any service of the deployment."""
        for leaving in self._tasks:
            if leaving.address.deployment == deployment and service in (None, leaving.address.service):
                why = self._failures.get(leaving)
                if why is not None:
                    raise Conflict(
                        f"{leaving.address} was destroyed, and its files can't be removed: {why}. "
                        "Its name is free once they are."
                    )
                raise Conflict(
                    f"{leaving.address} was destroyed a moment ago and its instances still stop: "
                    "try again in some seconds."
                )

    def uids(self) -> frozenset[int]:
        """User ids that are still in use by what leaves; raises Conflict where they are not known.

        That is so for what an earlier run of the server left, until it is removed.
        """
        if any(each.uid is None for each in self._tasks):
            raise Conflict(
                "The server has just started and still removes what was destroyed before: "
                "try again in some seconds."
            )
        return frozenset(each.uid for each in self._tasks if each.uid is not None)

    async def sweep(self, found: Iterable[tuple[str, str]]) -> None:
        """Begin the removal of those (deployment, name) that have files and no service."""
        orphans = [Service(deployment=deployment, name=name) for deployment, name in found]
        self.begin(each for each in orphans if self._state.service(each.deployment, each.name) is None)

    async def idle(self) -> None:
        """Wait until nothing is on its way out."""
        while self._tasks:
            await asyncio.wait(list(self._tasks.values()))

    async def close(self) -> None:
        """Leave the rest to the next start."""
        tasks = list(self._tasks.values())
        for each in tasks:
            each.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _forget(self, leaving: _Leaving, _: asyncio.Task[None]) -> None:
        self._tasks.pop(leaving, None)
        self._failures.pop(leaving, None)

    async def _remove(self, leaving: _Leaving) -> None:
        deployment, name = leaving.address.deployment, leaving.address.service
        self._runtime.wake()
        while not self._is_gone(deployment, name):  # noqa: ASYNC110 - what runs tells no event
            await asyncio.sleep(POLL)
        pause = FIRST_PAUSE
        while not await self._attempt_cleanup(leaving):
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    async def _attempt_cleanup(self, leaving: _Leaving) -> bool:
        """Whether its files are gone. What fails over and over is a problem that people see."""
        try:
            await self._cleanup(leaving.address.deployment, leaving.address.service)
        except Exception as error:
            log.exception("files of a destroyed service could not be removed service=%s", leaving.address)
            self._failures[leaving] = f"{error or type(error).__name__}"
            return False
        self._failures.pop(leaving, None)
        return True

    def _is_gone(self, deployment: str, name: str) -> bool:
        """While the loop has problems it may not see what runs, so nothing is known to be gone."""
        runs = self._runtime.instances(deployment, name) or self._runtime.pending(deployment, name)
        return not runs and not self._runtime.problems()
