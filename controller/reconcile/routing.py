"""Where requests are to go. Pure."""

from collections import Counter

from controller.exposing import inner_ports
from controller.guards import routed_guards
from controller.reconcile.actions import Route
from controller.reconcile.course import Course, stops_first
from controller.reconcile.desired import DesiredService, Key
from controller.reconcile.observed import ObservedService
from controller.rollout import goal_text
from controller.types import Instance
from router.types import Pool, Target


def pool_name(key: Key) -> str:
    return "/".join(key) if key[1] else key[0]


def route(desired: DesiredService, course: Course, observed: ObservedService) -> Route | None:
    """The change of routing that is due, if any."""
    if desired.rolling and desired.serving is None and not course.complete:
        return None  # whatever is routed stays until the goal can take over
    if desired.goal is None and desired.service.current is None:
        pool = None  # nothing ever served: the domain is not known to the router yet
    else:
        routed = [each for each in observed.instances if each.id in course.routed]
        targets = (place_of(each) for each in routed)
        pool = Pool(
            name=pool_name(desired.key),
            domains=desired.domains,
            targets=frozenset(filter(None, targets)),
            maintenance=desired.service.maintenance,
            page=desired.service.maintenance_page if desired.service.maintenance else "",
            guards=routed_guards(
                {
                    domain: guard
                    for domain, guard in desired.service.guards.items()
                    if domain in desired.domains
                }
            ),
            inner=inner_ports(desired.deployment, desired.key[1], routed, desired.find_version),
        )
    if pool == observed.pool:
        return None
    return Route(key=desired.key, pool=pool, reason=_reason(desired, course, pool, observed))


def place_of(instance: Instance) -> Target | None:
    """Where requests reach it; None: nowhere."""
    if instance.port is None:
        return None
    return Target(instance.id, instance.address or "127.0.0.1", instance.port)


def _reason(desired: DesiredService, course: Course, pool: Pool | None, observed: ObservedService) -> str:
    before = observed.pool
    if pool is None:
        return "nothing has ever served"
    if before is not None and pool.maintenance != before.maintenance:
        return f"maintenance is {'on' if pool.maintenance else 'off'}"
    if before is not None and pool.targets == before.targets:
        if pool.domains != before.domains:
            return "its domains changed"
        if pool.inner != before.inner:
            return "where others of its deployment reach it changed"
        return "its passwords changed" if pool.guards != before.guards else "the maintenance page changed"
    if desired.goal is None:
        return "stopped" if desired.service.stopped else "nothing is left that could serve"
    if not pool.targets and not any(each.serves_requests and each.quantity for each in desired.goal.groups):
        return "nothing of it that takes requests shall run"
    if not pool.targets and desired.rolling and stops_first(desired):
        return f"nothing serves until {goal_text(desired.service)} does: what served stops first"
    if not pool.targets:
        return f"no instance of v{desired.goal.version.number} is ready"
    return _who_serves(pool, observed)


def _who_serves(pool: Pool, observed: ObservedService) -> str:
    """`v2 serves with 1 instance beside 2 of v1`."""
    routed = {each.id for each in pool.targets}
    counts = Counter(each.version for each in observed.instances if each.id in routed)
    first, *others = sorted(counts, reverse=True)
    text = f"v{first} serves with {counts[first]} instance{'s' * (counts[first] != 1)}"
    beside = " and ".join(f"{counts[each]} of v{each}" for each in others)
    return f"{text} beside {beside}" if beside else text
