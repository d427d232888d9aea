"""Where requests are to go. Pure."""

from controller.reconcile.actions import Route
from controller.reconcile.desired import DesiredService, Key, Release
from controller.reconcile.observed import ObservedService
from controller.reconcile.selection import wanted_of
from controller.types import InstanceState
from router.types import Pool, Target


def pool_name(key: Key) -> str:
    return "/".join(key) if key[1] else key[0]


def route(desired: DesiredService, shown: Release | None, observed: ObservedService) -> Route | None:
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
            maintenance=desired.service.maintenance,
            page=desired.service.maintenance_page if desired.service.maintenance else "",
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
    wanted = {each.id for each in wanted_of(shown, observed)} & places.keys()
    ready = wanted & observed.ready
    if not ready:
        routed = {target.id for target in observed.pool.targets} & places.keys() if observed.pool else set()
        routed -= {each.id for each in observed.instances if each.state is InstanceState.CRASH_LOOPING}
        ready = (routed & observed.ready) or (routed & wanted)
    return frozenset(places[each] for each in ready)


def _route_reason(
    desired: DesiredService, shown: Release | None, pool: Pool | None, before: Pool | None
) -> str:
    if pool is None:
        return "nothing has ever served"
    if before is not None and pool.maintenance != before.maintenance:
        return f"maintenance is {'on' if pool.maintenance else 'off'}"
    if before is not None and pool.targets == before.targets:
        return "its domains changed" if pool.domains != before.domains else "the maintenance page changed"
    if shown is None:
        return "stopped" if desired.service.stopped else "nothing is left that could serve"
    if not pool.targets and not any(each.serves_requests and each.quantity for each in shown.groups):
        return "nothing of it that takes requests shall run"
    if not pool.targets:
        return f"no instance of v{shown.version.number} is ready"
    return f"v{shown.version.number} serves with {len(pool.targets)} instance{'s' * (len(pool.targets) != 1)}"
