"""Which instances are to be started, and how each is run. Pure."""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta

from controller.backends.base import InstanceSpec
from controller.names import instance_id
from controller.reconcile.actions import Start
from controller.reconcile.desired import DesiredService, ProcessGroup, Release
from controller.reconcile.observed import ObservedService
from controller.reconcile.selection import of_type
from controller.types import Instance, Service

SOON = timedelta(minutes=1)
"""For how long after somebody asked for more instances that is why some start."""


def missing(
    desired: DesiredService, of_goal: Sequence[Instance], observed: ObservedService, now: datetime
) -> Iterator[Start]:
    goal = desired.goal
    if goal is None:
        return
    taken = {each.id for each in observed.instances} | goal.withdrawn
    for group in goal.groups:
        there = of_type(of_goal, group)
        replaced = sorted(each.id for each in there if each.id in goal.replacing)
        lacking = group.quantity - len(there) + len(replaced)
        reason = _reason(desired, goal, group, replaced, now)
        for number in _free_numbers(desired.service, goal, group, taken, lacking):
            spec = _spec(desired.service, goal, group, number)
            yield Start(key=desired.key, spec=spec, reason=reason)


def _reason(
    desired: DesiredService, goal: Release, group: ProcessGroup, replaced: Sequence[str], now: datetime
) -> str:
    if desired.rolling:
        restarts = desired.serving is not None and desired.serving.version.number == goal.version.number
        return "restart" if restarts else f"v{goal.version.number}, {goal.version.reason}"
    if replaced:
        return f"restart of {', '.join(replaced)}"
    raised = desired.service.raised.get(group.process_type)
    if raised is not None and now - raised.at < SOON:
        return f"{group.process_type or 'the service'} was {raised.reason}"
    return "fewer run than are wanted"


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
