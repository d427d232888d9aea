"""Deciding, without any I/O: what should be, what is, what time it is → what to do, and why.

Planning is repeated after every step and every change, so it never remembers: killed between any two
steps, the next plan goes on from what it finds. It only ever adds what is missing before it takes
anything away, and what serves is touched only once the goal serves in its place.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from controller.backends.base import InstanceSpec
from controller.names import instance_id
from controller.reconcile.actions import Action, GiveUp, Plan, Promote, Route, Start, Stop
from controller.reconcile.desired import DesiredService, Key, ProcessGroup, Release
from controller.reconcile.observed import ObservedService
from controller.types import Instance, InstanceState, Service
from router.types import Pool, Target


@dataclass(frozen=True)
class Timing:
    """How long things may take, in seconds; the settings of the same names."""

    drain_timeout: float = 30.0
    stop_grace: float = 30.0
    health_timeout: float = 60.0


def pool_name(key: Key) -> str:
    return "/".join(key)


def plan_service(desired: DesiredService, observed: ObservedService, now: datetime, timing: Timing) -> Plan:
    """The next steps for one service. An empty plan that waits for nothing means that it has settled."""
    goal, serving = desired.goal, desired.serving
    of_goal = _instances_of(goal, observed)
    if desired.rolling and goal is not None:
        verdict = _verdict(desired.key, goal, of_goal, observed, now, timing)
        if verdict:
            return Plan((verdict,))
    starts = tuple(_missing(desired, of_goal, observed))
    healthy = goal is not None and not starts and not list(_not_ready(goal, of_goal, observed))
    shown = goal if healthy or not desired.rolling else serving
    route = _route(desired, shown, observed)
    if desired.rolling and healthy and goal is not None and route is None:
        reason = f"v{goal.version.number} is healthy and serves"
        return Plan(
            (
                Promote(
                    key=desired.key, version=goal.version.number, generation=goal.generation, reason=reason
                ),
            )
        )
    keep = {each.id for release in (goal, serving) for each in _wanted(release, observed)}
    leaving = [
        each for each in observed.instances if each.id not in keep and each.id not in observed.stopping
    ]
    routed = {target.id for target in observed.pool.targets} if observed.pool else set()
    stops, drains = _leave(desired, leaving, routed, observed, now, timing)
    actions: tuple[Action, ...] = (*starts, *((route,) if route else ()), *stops)
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


def _instances_of(release: Release | None, observed: ObservedService) -> list[Instance]:
    """The instances of that version and generation, in order, but for those on their way out."""
    if release is None:
        return []
    return sorted(
        (
            each
            for each in observed.instances
            if (each.version, each.generation) == (release.version.number, release.generation)
            and each.id not in observed.stopping
            and each.state not in (InstanceState.STOPPING, InstanceState.STOPPED)
        ),
        key=lambda each: (each.process_type, each.number),
    )


def _of_type(instances: Iterable[Instance], group: ProcessGroup) -> list[Instance]:
    return [each for each in instances if each.process_type == group.process_type]


def _wanted(release: Release | None, observed: ObservedService) -> Iterator[Instance]:
    """Those of a release's instances that its quantities keep: ready ones first, then low numbers."""
    instances = _instances_of(release, observed)
    for group in release.groups if release else ():
        ranked = sorted(
            _of_type(instances, group), key=lambda each: (each.id not in observed.ready, each.number)
        )
        yield from ranked[: group.quantity]


def _missing(
    desired: DesiredService, of_goal: Sequence[Instance], observed: ObservedService
) -> Iterator[Start]:
    goal = desired.goal
    if goal is None:
        return
    if desired.rolling:
        reason = f"v{goal.version.number}, {goal.version.reason}"
        if desired.serving is not None and desired.serving.version.number == goal.version.number:
            reason = "restart"
    else:
        reason = "fewer run than are wanted"
    taken = {each.id for each in observed.instances}
    for group in goal.groups:
        lacking = group.quantity - len(_of_type(of_goal, group))
        for number in _free_numbers(desired.service, goal, group, taken, lacking):
            spec = _spec(desired.service, goal, group, number)
            yield Start(key=desired.key, spec=spec, reason=reason)


def _free_numbers(
    service: Service, release: Release, group: ProcessGroup, taken: set[str], lacking: int
) -> Iterator[int]:
    number = 0
    while lacking > 0:
        number += 1
        name = instance_id(
            service.deployment, service.name, release.version.number, group.process_type, number
        )
        if name not in taken:
            lacking -= 1
            yield number


def _spec(service: Service, release: Release, group: ProcessGroup, number: int) -> InstanceSpec:
    version = release.version
    if version.artifact is None:
        raise AssertionError(f"{service.deployment}/{service.name} v{version.number} has no artifact to run")
    return InstanceSpec(
        id=instance_id(service.deployment, service.name, version.number, group.process_type, number),
        deployment=service.deployment,
        service=service.name,
        version=version.number,
        process_type=group.process_type,
        number=number,
        generation=release.generation,
        artifact=version.artifact,
        command=group.command,
        env=group.env,
        wants_port=group.serves_requests,
        uid=service.uid,
    )


def _not_ready(goal: Release, of_goal: Sequence[Instance], observed: ObservedService) -> Iterator[Instance]:
    """The instances that the goal still needs to become ready."""
    for group in goal.groups:
        mine = _of_type(of_goal, group)
        ready = sum(each.id in observed.ready for each in mine)
        lacking = group.quantity - ready
        yield from [each for each in mine if each.id not in observed.ready][: max(lacking, 0)]


def _verdict(
    key: Key,
    goal: Release,
    of_goal: Sequence[Instance],
    observed: ObservedService,
    now: datetime,
    timing: Timing,
) -> GiveUp | None:
    """Whether the goal has shown that it will not become healthy."""
    waiting = list(_not_ready(goal, of_goal, observed))
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


def _route(desired: DesiredService, shown: Release | None, observed: ObservedService) -> Route | None:
    """The change of routing that is due, if any."""
    if shown is None and desired.rolling:
        return None  # whatever is routed stays until the goal can take over
    if shown is None and desired.service.current is None:
        pool = None  # nothing ever served: the domain is not known to the router yet
    else:
        pool = Pool(
            name=pool_name(desired.key),
            domains=desired.domains,
            targets=_targets(shown, observed),
        )
    if pool == observed.pool:
        return None
    return Route(key=desired.key, pool=pool, reason=_route_reason(desired, shown, pool, observed.pool))


def _targets(shown: Release | None, observed: ObservedService) -> frozenset[Target]:
    """Those that are ready. When none is, what is routed already stays, whatever it belongs to: taking
    the last one away helps nobody, and the proxy's own checks notice sooner than we when it answers again."""
    if shown is None or not any(group.serves_requests and group.quantity for group in shown.groups):
        return frozenset()
    places = {
        each.id: Target(each.id, each.address or "127.0.0.1", each.port)
        for each in observed.instances
        if each.port is not None and each.process_type in ("web", "")
    }
    wanted = {each.id for each in _wanted(shown, observed)} & places.keys()
    ready = wanted & observed.ready
    if not ready:
        routed = {target.id for target in observed.pool.targets} & places.keys() if observed.pool else set()
        ready = (routed & observed.ready) or (routed & wanted)
    return frozenset(places[each] for each in ready)


def _route_reason(
    desired: DesiredService, shown: Release | None, pool: Pool | None, before: Pool | None
) -> str:
    if pool is None:
        return "nothing has ever served"
    if before is not None and pool.targets == before.targets:
        return "its domains changed"
    if shown is None:
        return "stopped" if desired.service.stopped else "nothing is left that could serve"
    if not pool.targets:
        return f"no instance of v{shown.version.number} is ready"
    return f"v{shown.version.number} serves with {len(pool.targets)} instance{'s' * (len(pool.targets) != 1)}"


def _leave(
    desired: DesiredService,
    leaving: Sequence[Instance],
    routed: set[str],
    observed: ObservedService,
    now: datetime,
    timing: Timing,
) -> tuple[list[Stop], list[str]]:
    """Which of the instances on their way out may be stopped, and which still work on requests."""
    stops: list[Stop] = []
    drains: list[str] = []
    for each in leaving:
        if each.id in routed:
            continue  # the route goes first; the next plan sees it out of the routing
        busy = observed.draining.get(each.id, 0)
        since = observed.draining_since.get(each.id, now)
        if busy and now - since < timedelta(seconds=timing.drain_timeout):
            drains.append(f"{each.id} finishes {busy} request{'s' * (busy != 1)}")
            continue
        reason = _leave_reason(desired, each)
        if busy:
            reason += f"; {busy} requests were not done after {timing.drain_timeout:g} s"
        stops.append(Stop(key=desired.key, instance=each.id, grace=timing.stop_grace, reason=reason))
    return stops, drains


def _leave_reason(desired: DesiredService, instance: Instance) -> str:
    goal = desired.goal
    if goal is None:
        return "the service is stopped" if desired.service.stopped else "no version of it is wanted"
    if instance.version != goal.version.number:
        return f"v{goal.version.number} serves in its place"
    if instance.generation != goal.generation:
        return "restarted"
    return f"{instance.process_type or 'the service'} was scaled down"


def _waiting(
    goal: Release | None, of_goal: Sequence[Instance], observed: ObservedService, drains: Sequence[str]
) -> str | None:
    if goal is not None:
        for each in _not_ready(goal, of_goal, observed):
            probe = observed.probes.get(each.id)
            return f"{each.id} is not healthy yet" + (f": {probe}" if probe else "")
    if drains:
        return drains[0]
    if observed.stopping:
        return f"{min(observed.stopping)} stops"
    return None
