"""Which of the instances that were seen belong to a release. Pure."""

from collections.abc import Iterable, Iterator, Sequence

from controller.reconcile.desired import ProcessGroup, Release
from controller.reconcile.observed import ObservedService
from controller.types import Instance, InstanceState


def instances_of(release: Release | None, observed: ObservedService) -> list[Instance]:
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


def of_type(instances: Iterable[Instance], group: ProcessGroup) -> list[Instance]:
    return [each for each in instances if each.process_type == group.process_type]


def wanted_of(release: Release | None, observed: ObservedService) -> Iterator[Instance]:
    """Those of a release's instances that its quantities keep: ready ones first, then low numbers."""
    instances = instances_of(release, observed)
    for group in release.groups if release else ():
        ranked = sorted(
            of_type(instances, group), key=lambda each: (each.id not in observed.ready, each.number)
        )
        yield from ranked[: group.quantity]


def not_ready(goal: Release, of_goal: Sequence[Instance], observed: ObservedService) -> Iterator[Instance]:
    """The instances that the goal still needs to become ready."""
    for group in goal.groups:
        mine = of_type(of_goal, group)
        ready = sum(each.id in observed.ready for each in mine)
        lacking = group.quantity - ready
        yield from [each for each in mine if each.id not in observed.ready][: max(lacking, 0)]
