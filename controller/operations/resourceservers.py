"""The servers of resources, as services of their deployment: made, and seen to come up. Pure but for reading."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import datetime

from controller.operations.access import Actor
from controller.operations.newservices import created
from controller.operations.versioning import Cause, content_with, new_version
from controller.plugins.exec import KIND as EXEC
from controller.plugins.resources import is_unmade
from controller.resources.base import PROCESS, VOLUME, Server
from controller.state import EventDraft, Put, State, put
from controller.types import (
    Artifact,
    Code,
    Definition,
    Deployment,
    HealthCheck,
    Resource,
    ResourceStatus,
    Service,
)

PATIENCE = 120.0
"""Seconds that a server may take to answer: after a crash it may have a log to read first."""


def server_of(
    service: Service,
    deployment: Deployment,
    server: Server,
    slug: Artifact,
    publish: Mapping[str, int],
    asker: Actor,
    now: datetime,
) -> Iterator[Put | EventDraft]:
    """What is written for a new one. `service`: it, before it has anything. `publish`: see Definition."""
    definition = Definition(
        env=server.secrets,
        volumes={VOLUME: "/data"},
        checks={PROCESS: HealthCheck(command=server.check, timeout=PATIENCE)},
        publish=publish,
    )
    code = Code(artifact=replace(slug, process_types={PROCESS: server.command}))
    content = content_with(deployment, service.name, definition, code)
    assert content is not None
    yield created(service, asker)
    cause = Cause(actor=asker.name, now=now, reason="resources:create")
    _, steps = new_version(replace(service, scale={PROCESS: 1}), None, content, cause)
    yield from steps


def is_awaited(resource: Resource) -> bool:
    """Whether it is not known yet, or not for good, if its server comes up."""
    return (
        resource.kind != EXEC
        and not is_unmade(resource)
        and not resource.settings.get("external")
        and resource.status in (ResourceStatus.PENDING, ResourceStatus.FAILED)
    )


def come_up(state: State, deployment: str) -> Iterator[Put | EventDraft]:
    """What became of servers that were awaited: ready once they are live, failed where they were given up."""
    for resource in state.resources(deployment):
        if not is_awaited(resource):
            continue
        service = state.service(deployment, resource.name)
        if service is not None and service.current is not None:
            after = replace(resource, status=ResourceStatus.READY, failure="")
        elif service is not None and service.rollout_failure:
            after = replace(resource, status=ResourceStatus.FAILED, failure=service.rollout_failure)
        else:
            continue
        if after != resource:
            yield put(after)
            yield told(after, f"resource.{after.status}", _text(after))


def _text(resource: Resource) -> str:
    if resource.status is ResourceStatus.READY:
        return f"{resource.name} is there: its server answers"
    return f"{resource.name} failed: {resource.failure}"


def told(resource: Resource, kind: str, text: str, actor: str = "") -> EventDraft:
    return EventDraft(
        kind=kind,
        deployment=resource.deployment,
        actor=actor,
        text=text,
        data={"resource": resource.name, "kind": resource.kind},
    )
