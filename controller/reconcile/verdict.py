"""When a rollout has shown that it will come to nothing. Pure."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from controller.reconcile.actions import GiveUp
from controller.reconcile.course import Course, rollout_of
from controller.reconcile.desired import DesiredService, Release
from controller.reconcile.observed import ObservedService
from controller.reconcile.selection import DOWN
from controller.reconcile.timing import Timing
from controller.types import Instance, Strategy, VersionStatus


def verdict(
    desired: DesiredService, course: Course, observed: ObservedService, now: datetime, timing: Timing
) -> GiveUp | None:
    """Whether the goal has shown that it will not take over. Nothing is given up while somebody holds it."""
    goal = desired.goal
    if goal is None or not desired.rolling or desired.paused:
        return None
    status = VersionStatus.FAILED
    reason, told = failure_of(goal, course.unready, observed, now, timing)
    deadline = canary_deadline(desired)
    if not reason and deadline is not None and now >= deadline:
        reason = f"nobody promoted its canary within {_span(rollout_of(desired).timeout)}"
        status = VersionStatus.CANCELED
    if not reason:
        return None
    return GiveUp(
        key=desired.key,
        version=goal.version.number,
        generation=goal.generation,
        instances=tuple(each.id for each in told),
        reason=reason,
        status=status,
    )


def canary_deadline(desired: DesiredService) -> datetime | None:
    """When the canary is aborted if nobody promotes it; None: there is none, or it is held."""
    rollout, started = rollout_of(desired), desired.service.rollout_started_at
    if rollout.strategy is not Strategy.CANARY or desired.paused or started is None:
        return None
    return started + timedelta(seconds=rollout.timeout)


def failure_of(
    goal: Release, waiting: Sequence[Instance], observed: ObservedService, now: datetime, timing: Timing
) -> tuple[str, Sequence[Instance]]:
    """Why those that are waited for will not become healthy, and which of them tell more; "" while they may."""
    if observed.start_failure:
        return f"no instance could be started: {observed.start_failure}", waiting
    crashed = [each for each in waiting if each.state in DOWN or each.restarts]
    if crashed:
        first = crashed[0]
        when = "while it took requests" if first.id in observed.routed else "before it was healthy"
        return f"{first.id} {first.detail or 'crashed'} {when}", crashed
    late = [each for each in waiting if _is_late(goal, each, observed, now, timing)]
    if late:
        first = late[0]
        probe = observed.probes.get(first.id, "no probe has ended")
        patience = _patience(goal, first, timing)
        return f"{first.id} was not healthy after {patience:g} s: {probe}", late
    return "", ()


def _is_late(
    goal: Release, instance: Instance, observed: ObservedService, now: datetime, timing: Timing
) -> bool:
    since = observed.probed_since.get(instance.id, now)
    return now - since > timedelta(seconds=_patience(goal, instance, timing))


def _patience(goal: Release, instance: Instance, timing: Timing) -> float:
    """Seconds that an instance has to become healthy; what it must stay up comes on top of the setting."""
    check = goal.check(instance.process_type)
    if check.timeout is not None:
        return check.timeout
    settle = check.settle if instance.port is None and not (check.path or check.command) else 0.0
    return timing.health_timeout + (settle if check.uptime is None else check.uptime)


def _span(seconds: float) -> str:
    """`90 s`, `5 min` or `2 h`."""
    for size, unit in ((3600, "h"), (60, "min")):
        if seconds >= 2 * size or seconds == size:
            return f"{seconds / size:g} {unit}"
    return f"{seconds:g} s"
