"""Which of the instances that were seen belong to a release. Pure."""

from collections.abc import Iterable

from controller.reconcile.desired import Release
from controller.reconcile.observed import ObservedService
from controller.types import Instance, InstanceState

DOWN = (InstanceState.CRASHED, InstanceState.CRASH_LOOPING)


def instances_of(release: Release | None, kind: str, observed: ObservedService) -> list[Instance]:
    """The instances of that version, generation and process type, but for those on their way out or withdrawn."""
    if release is None:
        return []
    return [
        each
        for each in observed.instances
        if (each.version, each.generation) == (release.version.number, release.generation)
        and each.process_type == kind
        and not is_leaving(each, observed)
        and each.id not in release.withdrawn
    ]


def is_leaving(instance: Instance, observed: ObservedService) -> bool:
    """Whether it was told to stop already."""
    ending = (InstanceState.STOPPING, InstanceState.STOPPED)
    return instance.id in observed.stopping or instance.state in ending


def ranked(instances: Iterable[Instance], observed: ObservedService) -> list[Instance]:
    """Those first that are kept first: ready ones, then low numbers."""
    return sorted(
        instances, key=lambda each: (each.id not in observed.ready, each.process_type, each.number, each.id)
    )


def kept_of(release: Release | None, kind: str, quantity: int, observed: ObservedService) -> list[Instance]:
    """Those of a release's instances that a quantity keeps.

    One that is being replaced is kept for as long as too few of the others are ready.
    """
    if release is None:
        return []
    mine = ranked(instances_of(release, kind, observed), observed)
    staying = [each for each in mine if each.id not in release.replacing][: max(0, quantity)]
    lacking = quantity - sum(each.id in observed.ready for each in staying)
    return staying + [each for each in mine if each.id in release.replacing][: max(0, lacking)]
