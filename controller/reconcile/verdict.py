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
    waiting = list(not_ready(goal, of_goal, observed))
    crashed = [each for each in waiting if each.state is InstanceState.CRASHED or each.restarts]
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
    if not reason:
        return None
    return GiveUp(
        key=key,
        version=goal.version.number,
        generation=goal.generation,
        instances=tuple(each.id for each in told),
        reason=reason,
    )
