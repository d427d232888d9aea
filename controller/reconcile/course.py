"""How far a service is on its way from what serves to the goal, and what the next step is. Pure.

Nothing of it is remembered: how many instances there are of either release, which of them are ready and
which are routed tells where the rollout stands. A service without a rollout is one that has arrived.
"""

from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass, replace
from math import ceil

from controller.publishing import outer_ports
from controller.reconcile.desired import ROUTED, DesiredService, ProcessGroup, Release
from controller.reconcile.observed import ObservedService
from controller.reconcile.selection import DOWN, instances_of, is_leaving, kept_of, ranked
from controller.rollout import goal_of
from controller.types import Instance, InstanceState, Rollout, Strategy

GRADUAL = (Strategy.ONE_BY_ONE, Strategy.BATCH)


@dataclass(frozen=True, kw_only=True)
class Course:
    """What should be there after the next step."""

    starts: tuple[tuple[Release, ProcessGroup, int], ...] = ()
    """How many instances to start, of which release and process type."""
    kept: frozenset[str] = frozenset()
    """Ids of the instances that stay; all others leave."""
    routed: frozenset[str] = frozenset()
    """Ids of the instances that are to take requests."""
    unready: tuple[Instance, ...] = ()
    """Those that the goal needs to become ready."""
    unready_before: tuple[Instance, ...] = ()
    """The same of what serves meanwhile."""
    complete: bool = False
    """The goal is whole and ready, and nobody holds it back from taking over."""
    canary: tuple[str, ...] = ()
    """Ids of the instances of a canary that is up, so that somebody has to decide on it."""


@dataclass(frozen=True, kw_only=True)
class _Step:
    """The next step of one process type."""

    kind: str
    group: ProcessGroup | None
    """As the goal wants it; None: it has no such type."""
    before: ProcessGroup | None
    """As what serves until then wants it."""
    starts: int
    """How many of the goal to start."""
    refills: int
    """How many of what serves to start, because they are gone while they are still needed."""
    new: Sequence[Instance]
    """Those of the goal that stay."""
    replaced: Sequence[Instance]
    """Those of the goal that stay until others are ready in their place."""
    old: Sequence[Instance]
    """Those of what serves that stay."""
    ready: Sequence[str]
    """Which of `new` are."""
    in_place: Sequence[str]
    """Which of them take requests too, or need none."""

    @property
    def staying(self) -> Sequence[Instance]:
        return (*self.new, *self.replaced, *self.old)

    @property
    def quantity(self) -> int:
        return self.group.quantity if self.group else 0

    @property
    def old_quantity(self) -> int:
        return self.before.quantity if self.before else 0

    @property
    def steady(self) -> bool:
        """All that were started are ready, and none is to be started."""
        return not self.starts and len(self.ready) == len(self.new)

    def whole(self, *, gradual: bool) -> bool:
        """The goal has all of this type."""
        return len(self.in_place if gradual else self.ready) >= self.quantity


def find_course(desired: DesiredService, observed: ObservedService) -> Course:
    """Where the service stands and what comes next; of one that should not run: that nothing stays."""
    if desired.goal is None:
        return Course()
    strategy = rollout_of(desired).strategy
    steps = list(_steps(desired, observed))
    gradual = strategy in GRADUAL
    held = desired.paused or strategy is Strategy.CANARY
    complete = desired.rolling and not held and all(each.whole(gradual=gradual) for each in steps)
    arrived = complete or not desired.rolling
    serving = set(_serving(desired, steps, observed, strategy, arrived=arrived))
    alone = stops_first(desired)
    standing_in = [] if alone else list(_stand_ins(desired, steps, serving, observed, arrived=arrived))
    kept = {each.id for step in steps for each in step.staying}
    kept |= {each.id for each in standing_in}
    serving |= {each.id for each in standing_in if each.process_type in ROUTED}
    if not serving and any(_wanted(steps, kind, arrived=arrived) for kind in ROUTED):
        serving = _last_resort(kept, observed)
        serving = serving & kept if alone else serving
    return Course(
        starts=tuple(_starts(desired, steps)),
        kept=frozenset(kept),
        routed=frozenset(serving),
        unready=tuple(each for step in steps for each in step.new if each.id not in observed.ready),
        unready_before=tuple(each for step in steps for each in step.old if each.id not in observed.ready),
        complete=complete,
        canary=_canary(desired, steps) if strategy is Strategy.CANARY else (),
    )


def rollout_of(desired: DesiredService) -> Rollout:
    """How the goal is reached from here. A canary that was promoted goes on all at once, and so does what
    has nothing to run beside or would be a canary without an instance."""
    if desired.goal is None or desired.serving is None or not desired.rolling:
        return Rollout()
    rollout = desired.goal.version.definition.rollout
    if rollout.strategy is Strategy.ALL_AT_ONCE and _alone(desired.goal) & _alone(desired.serving):
        return replace(rollout, strategy=Strategy.STOP_FIRST)
    if rollout.strategy is Strategy.CANARY:
        promoted = desired.service.promoted == goal_of(desired.service)
        if promoted or not any(_share(desired.goal, each, rollout) for each in desired.goal.groups):
            return replace(rollout, strategy=Strategy.ALL_AT_ONCE)
    return rollout


def stops_first(desired: DesiredService) -> bool:
    """Whether nothing of the goal may start beside anything else of the service, as after a rollout that was given
    up: two that work in the same volume are what most databases forbid, and a port of the machine leads to one."""
    if desired.goal is None or desired.paused:
        return False
    strategy = desired.goal.version.definition.rollout.strategy
    shared = _alone(desired.goal) & _alone(desired.serving or desired.goal)
    return strategy is Strategy.STOP_FIRST or (strategy is Strategy.ALL_AT_ONCE and bool(shared))


def past_holding(desired: DesiredService, observed: ObservedService) -> DesiredService:
    """What a pause still means: nothing once the goal has come in the place of what stopped first. To hold it there
    would leave nothing in service, or less than is wanted."""
    if not desired.paused or rollout_of(desired).strategy is not Strategy.STOP_FIRST:
        return desired
    begun = any(instances_of(desired.goal, kind, observed) for kind in _groups(desired.goal))
    if not begun or desired.goal is None or _anything_else(desired.goal, observed):
        return desired
    return replace(desired, service=replace(desired.service, paused=False))


def shared(desired: DesiredService) -> str:
    """What keeps the goal from starting beside what serves, in words."""
    ports = outer_ports(desired.goal.version.definition) if desired.goal else {}
    before = outer_ports(desired.serving.version.definition) if desired.serving else {}
    return f"the port {min(both)}" if (both := ports.keys() & before.keys()) else "its volumes"


def _alone(release: Release) -> Set[str]:
    """What no two versions can have at once."""
    definition = release.version.definition
    return definition.volumes.keys() | outer_ports(definition).keys()


# The steps of each process type


def _steps(desired: DesiredService, observed: ObservedService) -> Iterator[_Step]:
    groups = _groups(desired.goal)
    before = _groups(desired.serving) if desired.rolling else {}
    for kind in sorted({*groups, *before}):
        yield _step(desired, kind, groups.get(kind), before.get(kind), observed)


def _groups(release: Release | None) -> dict[str, ProcessGroup]:
    return {each.process_type: each for each in release.groups} if release else {}


def _step(
    desired: DesiredService,
    kind: str,
    group: ProcessGroup | None,
    before: ProcessGroup | None,
    observed: ObservedService,
) -> _Step:
    replacing = desired.goal.replacing if desired.goal else frozenset[str]()
    there = ranked(instances_of(desired.goal, kind, observed), observed)
    there = [each for each in there if each.id not in replacing]
    limit = _limit(desired, group, before, there, observed)
    new = there[:limit]
    ready = [each.id for each in new if each.id in observed.ready]
    in_place = [each for each in ready if kind not in ROUTED or each in observed.routed]
    gradual = rollout_of(desired).strategy in GRADUAL and not desired.paused
    old_quantity = before.quantity if before else 0
    staying = max(0, old_quantity - len(in_place)) if gradual else old_quantity
    alone = stops_first(desired)
    if alone and desired.rolling:
        staying = 0
    kept = kept_of(desired.goal, kind, limit, observed)
    return _Step(
        kind=kind,
        group=group,
        before=before,
        starts=limit - len(new),
        refills=_refills(desired, before, new, observed) if before else 0,
        new=new,
        replaced=[] if alone else [each for each in kept if each.id in replacing],
        old=kept_of(desired.serving, kind, staying, observed) if before else [],
        ready=ready,
        in_place=in_place,
    )


def _limit(
    desired: DesiredService,
    group: ProcessGroup | None,
    before: ProcessGroup | None,
    new: Sequence[Instance],
    observed: ObservedService,
) -> int:
    """How many instances of the goal there may be after this step."""
    if group is None or desired.goal is None:
        return 0
    rollout = rollout_of(desired)
    if desired.paused or (stops_first(desired) and _anything_else(desired.goal, observed)):
        return min(len(new), group.quantity)
    if rollout.strategy is Strategy.CANARY:
        return _share(desired.goal, group, rollout)
    if rollout.strategy not in GRADUAL:
        return group.quantity
    if not all(_is_in_place(each, observed) for each in new):
        return min(len(new), group.quantity)
    # The next ones when as many old ones are gone, so that no more than these run in addition.
    size = rollout.size if rollout.strategy is Strategy.BATCH else 1
    wanted = max(group.quantity, before.quantity if before else 0)
    there = len(new) + len(_present(desired.serving, group.process_type, observed))
    return min(group.quantity, len(new) + max(0, min(size, wanted + size - there)))


def _share(goal: Release, group: ProcessGroup, rollout: Rollout) -> int:
    """How many instances of that process type make its canary."""
    any_routed = any(each.serves_requests and each.quantity for each in goal.groups)
    if not group.quantity or (any_routed and not group.serves_requests):
        return 0
    return max(1, ceil(group.quantity * rollout.share / 100))


def _refills(
    desired: DesiredService, before: ProcessGroup, new: Sequence[Instance], observed: ObservedService
) -> int:
    """How many of what serves are gone (with their host, say) although nothing took their place."""
    strategy = rollout_of(desired).strategy
    if strategy is Strategy.ALL_AT_ONCE and not desired.paused:
        return 0  # the goal is there as soon as they would be
    if strategy is Strategy.STOP_FIRST and (new or not desired.paused):
        return 0  # they would run beside the goal
    standing = 0
    if strategy in GRADUAL:
        # Whether they are ready is not known yet where the controller has just been started: that is found out before
        # the next step. While nobody takes one, what is not ready by now is no stand-in.
        standing = sum(
            each.state not in DOWN
            and (each.process_type not in ROUTED or each.id in observed.routed)
            and (not desired.paused or each.id in observed.ready)
            for each in new
        )
    old = instances_of(desired.serving, before.process_type, observed)
    return max(0, before.quantity - len(old) - standing)


def _anything_else(goal: Release, observed: ObservedService) -> bool:
    """Whether anything is still there that the goal does not keep, on its way out or not."""
    own = (goal.version.number, goal.generation)
    return any(
        (each.version, each.generation) != own or each.id in goal.replacing or is_leaving(each, observed)
        for each in observed.instances
    )


def _present(release: Release | None, kind: str, observed: ObservedService) -> list[Instance]:
    """All that exist, on their way out or not."""
    return [
        each
        for each in observed.instances
        if release is not None
        and (each.version, each.generation) == (release.version.number, release.generation)
        and each.process_type == kind
    ]


def _is_in_place(instance: Instance, observed: ObservedService) -> bool:
    routed = instance.process_type not in ROUTED or instance.id in observed.routed
    return routed and instance.id in observed.ready


def _starts(desired: DesiredService, steps: Sequence[_Step]) -> Iterator[tuple[Release, ProcessGroup, int]]:
    for each in steps:
        if each.starts > 0 and each.group and desired.goal:
            yield desired.goal, each.group, each.starts
        if each.refills > 0 and each.before and desired.serving:
            yield desired.serving, each.before, each.refills


# Who takes requests, and who stays until others can


def _serving(
    desired: DesiredService,
    steps: Sequence[_Step],
    observed: ObservedService,
    strategy: Strategy,
    *,
    arrived: bool,
) -> Iterator[str]:
    """Ids of those that are ready, of what serves and of as much of the goal as may by now."""
    canary_is_up = strategy is Strategy.CANARY and all(each.steady for each in steps)
    for step in steps:
        if step.kind not in ROUTED:
            continue
        joins = not desired.paused and (canary_is_up or (strategy in GRADUAL and step.steady))
        yield from step.ready if arrived or joins else step.in_place
        others = step.replaced if arrived else (*step.replaced, *step.old)
        yield from (each.id for each in others if each.id in observed.ready)


def _stand_ins(
    desired: DesiredService,
    steps: Sequence[_Step],
    serving: set[str],
    observed: ObservedService,
    *,
    arrived: bool,
) -> Iterator[Instance]:
    """Instances of neither release that stay while the others are fewer than wanted.

    A rollout that was given up in its middle leaves them: what it had taken away is started again first.
    """
    known = {each.id for step in steps for each in step.staying} | desired.withdrawn
    free = [each for each in observed.instances if each.id not in known and not is_leaving(each, observed)]
    others = ranked(free, observed)
    lacking = sum(_wanted(steps, kind, arrived=arrived) for kind in ROUTED) - len(serving)
    proven = [each for each in others if each.process_type in ROUTED and each.id in observed.routed]
    yield from [each for each in proven if each.id in observed.ready][: max(0, lacking)]
    for step in steps:
        if step.kind in ROUTED:
            continue
        ready = [each for each in step.staying if each.id in observed.ready]
        lacking = _wanted(steps, step.kind, arrived=arrived) - len(ready)
        alive = [each for each in others if each.process_type == step.kind and _is_foreign(each, step)]
        yield from [each for each in alive if each.state not in DOWN][: max(0, lacking)]


def _is_foreign(instance: Instance, step: _Step) -> bool:
    """Not one of the same release that is too many."""
    own = {(each.version, each.generation) for each in step.staying}
    return (instance.version, instance.generation) not in own


def _wanted(steps: Sequence[_Step], kind: str, *, arrived: bool) -> int:
    return sum(
        each.quantity if arrived else max(each.quantity, each.old_quantity)
        for each in steps
        if each.kind == kind
    )


def _last_resort(kept: set[str], observed: ObservedService) -> set[str]:
    """When nobody is ready, what is routed already stays, whatever it belongs to: taking the last one away
    helps nobody, and the proxy's own checks notice sooner than we when it answers again."""
    looping = InstanceState.CRASH_LOOPING
    here = {each.id for each in observed.instances if each.state is not looping}
    routed = here & observed.routed
    return (routed & observed.ready) or (routed & kept)


def _canary(desired: DesiredService, steps: Sequence[_Step]) -> tuple[str, ...]:
    whole = not desired.paused and all(each.steady and len(each.in_place) == len(each.new) for each in steps)
    return tuple(each for step in steps for each in step.in_place) if whole else ()
