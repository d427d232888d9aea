"""Deciding, without any I/O: what should be, what is, what time it is → what to do, and why.

Planning is repeated after every step and every change, so it never remembers: killed between any two
steps, the next plan goes on from what it finds. It only ever adds what is missing before it takes
anything away, and what serves is touched only once the goal serves in its place.
"""

from collections.abc import Sequence
from datetime import datetime

from controller.reconcile.actions import Action, Plan, Promote, Route, Stop
from controller.reconcile.desired import DesiredService, Key, Release
from controller.reconcile.leaving import leave
from controller.reconcile.observed import ObservedService
from controller.reconcile.replacing import conclude
from controller.reconcile.routing import route
from controller.reconcile.selection import instances_of, not_ready, wanted_of
from controller.reconcile.starting import missing
from controller.reconcile.timing import Timing
from controller.reconcile.verdict import verdict
from controller.types import Instance


def plan_service(desired: DesiredService, observed: ObservedService, now: datetime, timing: Timing) -> Plan:
    """The next steps for one service. An empty plan that waits for nothing means that it has settled."""
    goal, serving = desired.goal, desired.serving
    of_goal = instances_of(goal, observed)
    if desired.rolling and goal is not None:
        given_up = verdict(desired.key, goal, of_goal, observed, now, timing)
        if given_up:
            return Plan((given_up,))
    else:
        concluded = conclude(desired, of_goal, observed, now, timing)
        if concluded:
            return Plan((concluded,))
    starts = tuple(missing(desired, of_goal, observed, now))
    healthy = goal is not None and not starts and not list(not_ready(goal, of_goal, observed))
    shown = goal if healthy or not desired.rolling else serving
    routing = route(desired, shown, observed)
    if desired.rolling and healthy and goal is not None and routing is None:
        reason = f"v{goal.version.number} is healthy and serves"
        return Plan(
            (
                Promote(
                    key=desired.key, version=goal.version.number, generation=goal.generation, reason=reason
                ),
            )
        )
    keep = {each.id for release in (goal, serving) for each in wanted_of(release, observed)}
    leaving = [
        each for each in observed.instances if each.id not in keep and each.id not in observed.stopping
    ]
    routed = {target.id for target in observed.pool.targets} if observed.pool else set()
    stops, drains = leave(desired, leaving, routed, observed, now, timing)
    actions: tuple[Action, ...] = (*starts, *((routing,) if routing else ()), *stops)
    return Plan(actions, _waiting(goal, of_goal, observed, drains))


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


def _waiting(
    goal: Release | None, of_goal: Sequence[Instance], observed: ObservedService, drains: Sequence[str]
) -> str | None:
    if goal is not None:
        for each in not_ready(goal, of_goal, observed):
            probe = observed.probes.get(each.id)
            return f"{each.id} is not healthy yet" + (f": {probe}" if probe else "")
    if drains:
        return drains[0]
    if observed.stopping:
        return f"{min(observed.stopping)} stops"
    return None
