"""Ends what would stay in progress for ever. It remembers nothing that a restart could lose: limits are
counted from what the records say, and an owner's silence from the server's start at the earliest."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime

from controller.errors import Conflict, NotFound
from controller.operations.builds import BuildOperations
from controller.operations.rollouts import RolloutOperations, rollout_text, waits_for_person
from controller.operations.runtime import Runtime
from controller.rollout import is_rolling
from controller.state import State
from controller.upkeep.overdue import (
    AbandonBuild,
    AskBuildToEnd,
    GiveUpRollout,
    Limits,
    OpenBuild,
    OpenRollout,
    Reap,
    overdue,
    stuck,
)

log = logging.getLogger(__name__)

PROGRESS = frozenset(
    {
        "version.created",
        "service.restart",
        "service.started",
        "instance.healthy",
        "instance.stop",
        "route.changed",
    }
)
"""Kinds of events that show that a rollout gets on; those that begin with `rollout.` or `run.` do, too."""


class Reaper:
    def __init__(
        self,
        state: State,
        runtime: Runtime,
        builds: BuildOperations,
        rollouts: RolloutOperations,
        limits: Limits,
        *,
        clock: Callable[[], datetime],
    ) -> None:
        self._state = state
        self._runtime = runtime
        self._builds = builds
        self._rollouts = rollouts
        self._limits = limits
        self._clock = clock

    async def reap(self) -> None:
        """End what is overdue now."""
        builds = [
            OpenBuild(build=each, heard=self._builds.heard(each)) for each in self._state.builds_under_way()
        ]
        for each in overdue(builds, list(self._open_rollouts()), self._clock(), self._limits):
            log.warning("reaped %s", each)
            await self._end(each)

    def problems(self) -> Sequence[str]:
        return stuck(self._runtime.stopping(), self._clock(), self._limits)

    async def _end(self, reap: Reap) -> None:
        try:
            match reap:
                case AbandonBuild(build=build, reason=reason):
                    await self._builds.abandon_one(build, reason)
                case AskBuildToEnd(build=build, reason=reason):
                    await self._builds.ask_to_end(build, f"The server ({reason})")
                case GiveUpRollout():
                    await self._rollouts.give_up(reap.deployment, reap.service, reap.goal, reap.reason)
        except (Conflict, NotFound) as error:
            log.info("not reaped, as it has ended meanwhile: %s", error)

    def _open_rollouts(self) -> Iterator[OpenRollout]:
        rolling = [
            each
            for each in self._state.services()
            if is_rolling(each) and not waits_for_person(self._runtime, each)
        ]
        progress = self._progress() if rolling else {}
        for service in rolling:
            begun = service.rollout_started_at or self._clock()
            yield OpenRollout(
                service=service,
                progress=progress.get((service.deployment, service.name), begun),
                doing=rollout_text(self._runtime, service) or "",
            )

    def _progress(self) -> Mapping[tuple[str, str], datetime]:
        """When each service last got on, as far as the journal goes back."""
        return {
            (each.deployment, each.service): each.time
            for each in self._state.events()
            if each.kind in PROGRESS or each.kind.startswith(("rollout.", "run."))
        }
