"""Which of the instances that were seen belong to a release. Pure."""

from collections.abc import Iterable, Iterator, Sequence

from controller.reconcile.desired import ProcessGroup, Release
from controller.reconcile.observed import ObservedService
from controller.types import Instance, InstanceState


def instances_of(release: Release | None, observed: ObservedService) -> list[Instance]:
    """The instances of that version and generation, in order, but for those on their way out or withdrawn."""
    if release is None:
        return []
    return sorted(
        (
            each
            for each in observed.instances
            if (each.version, each.generation) == (release.version.number, release.generation)
            and each.id not in observed.stopping
            and each.id not in release.withdrawn
            and each.state not in (InstanceState.STOPPING, InstanceState.STOPPED)
        ),
        key=lambda each: (each.process_type, each.number),
    )


def of_type(instances: Iterable[Instance], group: ProcessGroup) -> list[Instance]:
    return [each for each in instances if each.process_type == group.process_type]


def wanted_of(release: Release | None, observed: ObservedService) -> Iterator[Instance]:
    """Those of a release's instances that its quantities keep: ready ones first, then low numbers.

    One that is being replaced is kept for as long as too few of the others are ready.
    """
    if release is None:
        return
    instances = instances_of(release, observed)
    for group in release.groups:
        ranked = sorted(
            of_type(instances, group), key=lambda each: (each.id not in observed.ready, each.number)
        )
        staying = [each for each in ranked if each.id not in release.replacing][: group.quantity]
        lacking = group.quantity - sum(each.id in observed.ready for each in staying)
        yield from staying
        yield from [each for each in ranked if each.id in release.replacing][: max(lacking, 0)]


def not_ready(goal: Release, of_goal: Sequence[Instance], observed: ObservedService) -> Iterator[Instance]:
    """The instances that the goal still needs to become ready."""
    for group in goal.groups:
        mine = [each for each in of_type(of_goal, group) if each.id not in goal.replacing]
        ready = sum(each.id in observed.ready for each in mine)
        lacking = group.quantity - ready
        yield from [each for each in mine if each.id not in observed.ready][: max(lacking, 0)]
