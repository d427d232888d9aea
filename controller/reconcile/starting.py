"""Which instances are to be started, and how each is run. Pure."""

from collections.abc import Iterator
from datetime import datetime, timedelta

from controller.backends.base import InstanceSpec
from controller.limits import limits_for
from controller.names import instance_id
from controller.publishing import published
from controller.reconcile.actions import Start
from controller.reconcile.course import Course
from controller.reconcile.desired import DesiredService, ProcessGroup, Release
from controller.reconcile.observed import ObservedService
from controller.reconcile.selection import instances_of
from controller.types import Service

SOON = timedelta(minutes=1)
"""For how long after somebody asked for more instances that is why some start."""


def missing(
    desired: DesiredService, course: Course, observed: ObservedService, now: datetime
) -> Iterator[Start]:
    """The starts that are due, under names that nobody has or is to have again."""
    taken = {each.id for each in observed.instances} | desired.withdrawn
    for release, group, count in course.starts:
        reason = _reason(desired, release, group, observed, now)
        for number in _free_numbers(desired.service, release, group, taken, count):
            spec = _spec(desired, release, group, number)
            taken.add(spec.id)  # two generations of a version share their names
            yield Start(key=desired.key, spec=spec, reason=reason)


def _reason(
    desired: DesiredService, release: Release, group: ProcessGroup, observed: ObservedService, now: datetime
) -> str:
    goal = desired.goal
    if goal is not None and desired.rolling:
        if release is not goal:
            return f"v{release.version.number} is needed until v{goal.version.number} has taken over"
        restarts = desired.serving is not None and desired.serving.version.number == goal.version.number
        return "restart" if restarts else f"v{goal.version.number}, {goal.version.reason}"
    there = instances_of(release, group.process_type, observed)
    if replaced := sorted(each.id for each in there if each.id in release.replacing):
        return f"restart of {', '.join(replaced)}"
    if any(each.version != release.version.number for each in observed.instances):
        return f"v{release.version.number} is wanted again, and fewer of it run than are wanted"
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


def _spec(desired: DesiredService, release: Release, group: ProcessGroup, number: int) -> InstanceSpec:
    service, version = desired.service, release.version
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
        limits=limits_for(version.definition, group.process_type, desired.limits),
        volumes=version.definition.volumes,
        publish=published(version),
    )
