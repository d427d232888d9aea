"""Deciding, without any I/O: what should be, what is, what time it is → what to do, and why.

Planning is repeated after every step and every change, so it never remembers: killed between any two
steps, the next plan goes on from what it finds. It only ever adds what is missing before it takes
anything away, and what serves is touched only once the goal serves in its place.
"""

from collections.abc import Sequence
from datetime import datetime

from controller.reconcile.actions import Action, Plan, Promote, Route, Stop
from controller.reconcile.course import Course, find_course, past_holding
from controller.reconcile.desired import DesiredService, Key, Release
from controller.reconcile.leaving import leave
from controller.reconcile.observed import ObservedService
from controller.reconcile.replacing import conclude
from controller.reconcile.routing import route
from controller.reconcile.starting import missing
from controller.reconcile.timing import Timing
from controller.reconcile.verdict import canary_deadline, verdict
from controller.rollout import goal_text, paused_text


def plan_service(desired: DesiredService, observed: ObservedService, now: datetime, timing: Timing) -> Plan:
    """The next steps for one service. An empty plan that waits for nothing means that it has settled."""
    desired = past_holding(desired, observed)
    course = find_course(desired, observed)
    given_up = verdict(desired, course, observed, now, timing)
    if given_up is not None:
        return Plan((given_up,))
    concluded = None if desired.rolling else conclude(desired, course, observed, now, timing)
    if concluded is not None:
        return Plan((concluded,))
    starts = tuple(missing(desired, course, observed, now))
    routing = route(desired, course, observed)
    if desired.goal is not None and course.complete and routing is None:
        return Plan((_promote(desired.key, desired.goal),))
    leaving = [
        each for each in observed.instances if each.id not in course.kept and each.id not in observed.stopping
    ]
    stops, drains = leave(desired, leaving, observed, now, timing)
    actions: tuple[Action, ...] = (*starts, *((routing,) if routing else ()), *stops)
    return Plan(
        actions,
        _waiting(course, observed, drains),
        _awaiting(desired, course),
        again_at=canary_deadline(desired),
    )


def plan_orphans(key: Key, observed: ObservedService, now: datetime, timing: Timing) -> Plan:
    """The next steps for what is left of a service that no longer exists."""
    gone = f"{'/'.join(key)} was destroyed"
    if observed.pool is not None:
        return Plan((Route(key=key, pool=None, reason=gone),))
    stops = [
        Stop(key=key, instance=each.id, grace=timing.stop_grace, reason=gone)
        for each in observed.instances
        if each.id not in observed.stopping
    ]
    return Plan(tuple(stops), "instances stop" if observed.stopping else None)


def _promote(key: Key, goal: Release) -> Promote:
    number = goal.version.number
    reason = f"v{number} is healthy and serves"
    return Promote(key=key, version=number, generation=goal.generation, reason=reason)


def _waiting(course: Course, observed: ObservedService, drains: Sequence[str]) -> str | None:
    """What has to happen by itself."""
    for each in (*course.unready, *course.unready_before):
        probe = observed.probes.get(each.id)
        return f"{each.id} is not healthy yet" + (f": {probe}" if probe else "")
    if drains:
        return drains[0]
    if observed.stopping:
        return f"{min(observed.stopping)} stops"
    return None


def _awaiting(desired: DesiredService, course: Course) -> str | None:
    """What somebody has to decide."""
    if desired.paused:
        return paused_text(desired.service)
    if not course.canary:
        return None
    count = len(course.canary)
    text = (
        f"{goal_text(desired.service)} runs as a canary with {count} instance{'s' * (count != 1)} beside "
        f"v{desired.service.current}: deploy:promote lets it take over, deploy:abort ends it"
    )
    deadline = canary_deadline(desired)
    return f"{text}; at {deadline:%Y-%m-%d %H:%M} UTC it is aborted by itself" if deadline else text
