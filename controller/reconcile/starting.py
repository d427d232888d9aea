"""Which instances are to be started, and how each is run. Pure."""

from collections.abc import Iterator, Sequence

from controller.backends.base import InstanceSpec
from controller.names import instance_id
from controller.reconcile.actions import Start
from controller.reconcile.desired import DesiredService, ProcessGroup, Release
from controller.reconcile.observed import ObservedService
from controller.reconcile.selection import of_type
from controller.types import Instance, Service


def missing(
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
        lacking = group.quantity - len(of_type(of_goal, group))
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
