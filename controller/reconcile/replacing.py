"""Single instances that are replaced or were stopped: when that is done, and when it comes to nothing. Pure."""

from datetime import datetime

from controller.names import parse_instance_id
from controller.reconcile.actions import ClearWishes, KeepReplaced
from controller.reconcile.course import Course
from controller.reconcile.desired import DesiredService, Release
from controller.reconcile.observed import ObservedService
from controller.reconcile.selection import is_leaving
from controller.reconcile.timing import Timing
from controller.reconcile.verdict import failure_of


def conclude(
    desired: DesiredService, course: Course, observed: ObservedService, now: datetime, timing: Timing
) -> ClearWishes | KeepReplaced | None:
    """What has become of the wishes for single instances; None while there is nothing to say."""
    goal = desired.goal
    if goal is None or not (goal.replacing or goal.withdrawn):
        return None
    return _spent(desired, goal, observed) or _failed(desired, goal, course, observed, now, timing)


def _spent(desired: DesiredService, goal: Release, observed: ObservedService) -> ClearWishes | None:
    there = {each.id for each in observed.instances}
    gone = goal.replacing - there
    if gone:
        names = ", ".join(sorted(gone))
        return ClearWishes(key=desired.key, instances=tuple(sorted(gone)), reason=f"Restarted {names}")
    service = desired.service
    strange = {
        each
        for each in goal.withdrawn
        if (parse_instance_id(service.deployment, service.name, each) or (0,))[0] != goal.version.number
    }
    if strange and not desired.rolling:
        reason = f"v{goal.version.number} has other instances"
        return ClearWishes(key=desired.key, instances=tuple(sorted(strange)), reason=reason)
    return None


def _failed(
    desired: DesiredService,
    goal: Release,
    course: Course,
    observed: ObservedService,
    now: datetime,
    timing: Timing,
) -> KeepReplaced | None:
    replaced = [
        each for each in observed.instances if each.id in goal.replacing and not is_leaving(each, observed)
    ]
    if not replaced:
        return None
    kinds = {each.process_type for each in replaced}
    waiting = [each for each in course.unready if each.process_type in kinds]
    reason, told = failure_of(goal, waiting, observed, now, timing)
    if not reason:
        return None
    failed = {each.process_type for each in told} or kinds
    kept = tuple(each.id for each in replaced if each.process_type in failed)
    return KeepReplaced(key=desired.key, instances=kept, reason=reason)
