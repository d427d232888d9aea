"""When a rollout has shown that it will come to nothing. Pure."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from controller.reconcile.actions import GiveUp
from controller.reconcile.desired import Key, Release
from controller.reconcile.observed import ObservedService
from controller.reconcile.selection import not_ready
from controller.reconcile.timing import Timing
from controller.types import Instance, InstanceState


def verdict(
    key: Key,
    goal: Release,
    of_goal: Sequence[Instance],
    observed: ObservedService,
    now: datetime,
    timing: Timing,
) -> GiveUp | None:
    """Whether the goal has shown that it will not become healthy."""
    reason, told = failure_of(goal, list(not_ready(goal, of_goal, observed)), observed, now, timing)
    if not reason:
        return None
    return GiveUp(
        key=key,
        version=goal.version.number,
        generation=goal.generation,
        instances=tuple(each.id for each in told),
        reason=reason,
    )


def failure_of(
    goal: Release, waiting: Sequence[Instance], observed: ObservedService, now: datetime, timing: Timing
) -> tuple[str, Sequence[Instance]]:
    """Why those that are waited for will not become healthy, and which of them tell more; "" while they may."""
    down = (InstanceState.CRASHED, InstanceState.CRASH_LOOPING)
    crashed = [each for each in waiting if each.state in down or each.restarts]
    limit = timing.health_timeout if goal.health.timeout is None else goal.health.timeout
    late = [
        each for each in waiting if now - observed.probed_since.get(each.id, now) > timedelta(seconds=limit)
    ]
    reason, told = "", waiting
    if observed.start_failure:
        reason = f"no instance could be started: {observed.start_failure}"
    elif crashed:
        first, told = crashed[0], crashed
        reason = f"{first.id} {first.detail or 'crashed'} before it was healthy"
    elif late:
        first, told = late[0], late
        probe = observed.probes.get(first.id, "no probe has ended")
        reason = f"{first.id} was not healthy after {limit:g} s: {probe}"
    return reason, told
