"""Which of the instances on their way out may be stopped by now. Pure."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from controller.reconcile.actions import Stop
from controller.reconcile.course import shared, stops_first
from controller.reconcile.desired import DesiredService
from controller.reconcile.observed import ObservedService
from controller.reconcile.timing import Timing
from controller.rollout import goal_text
from controller.types import Instance


def leave(
    desired: DesiredService,
    leaving: Sequence[Instance],
    observed: ObservedService,
    now: datetime,
    timing: Timing,
) -> tuple[list[Stop], list[str]]:
    """Which of the instances on their way out may be stopped, and which still work on requests."""
    stops: list[Stop] = []
    drains: list[str] = []
    for each in leaving:
        if each.id in observed.routed:
            continue  # the route goes first; the next plan sees it out of the routing
        busy = observed.draining.get(each.id, 0)
        since = observed.draining_since.get(each.id, now)
        if busy and now - since < timedelta(seconds=timing.drain_timeout):
            drains.append(f"{each.id} finishes {busy} request{'s' * (busy != 1)}")
            continue
        reason = _leave_reason(desired, each, ready=each.id in observed.ready)
        if busy:
            reason += f"; {busy} requests were not done after {timing.drain_timeout:g} s"
        stops.append(Stop(key=desired.key, instance=each.id, grace=timing.stop_grace, reason=reason))
    return stops, drains


def _leave_reason(desired: DesiredService, instance: Instance, *, ready: bool) -> str:
    goal = desired.goal
    if goal is None:
        return "the service is stopped" if desired.service.stopped else "no version of it is wanted"
    if desired.rolling and stops_first(desired):
        return f"it stops before {goal_text(desired.service)} starts: they would share {shared(desired)}"
    if instance.version != goal.version.number:
        return f"v{goal.version.number} serves in its place"
    if instance.generation != goal.generation:
        return "restarted"
    kind = instance.process_type or "the service"
    if instance.id in goal.withdrawn:
        return "it was stopped"
    if instance.id in goal.replacing:
        return "restarted"
    if instance.process_type in desired.service.stopped_types:
        return f"{kind} was stopped"
    return f"{kind} was scaled down" if ready else f"it is not healthy, and {kind} has enough without it"
