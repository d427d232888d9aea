"""Which processes a version has, and how many of each are wanted. Pure."""

from collections.abc import Mapping

from controller.names import parse_instance_id
from controller.types import ArtifactKind, RunKind, Service, Version

UNNAMED = ""
"""The process type of a service without a Procfile."""
MAX_INSTANCES = 100
"""Of one process type."""
ONE_OFFS = frozenset(RunKind)
"""What one-offs go by. A Procfile may give such a name a command (`release:` is one that is run for each
version); it is no process of which instances run, but `run` takes it by its name."""


def process_commands(version: Version) -> Mapping[str, str]:
    """Process type to its command line. Empty: the version has nothing to run.

    The definition's command is that of the unnamed type, where there are no named ones. An image
    brings a command of its own, so the empty text stands for it there.
    """
    artifact = version.artifact
    if artifact is None:
        return {}
    commands = {kind: line for kind, line in artifact.process_types.items() if kind not in ONE_OFFS}
    if not commands and artifact.kind is ArtifactKind.IMAGE:
        commands[UNNAMED] = ""
    if version.definition.command and set(commands) <= {UNNAMED}:
        commands[UNNAMED] = version.definition.command
    return commands


def withdrawn_of(service: Service, version: int, process_type: str) -> frozenset[str]:
    """Ids of single instances of that version and type that were stopped."""
    if not service.withdrawn:
        return frozenset()
    return frozenset(
        each
        for each in service.withdrawn
        if (parse_instance_id(service.deployment, service.name, each) or ())[:2] == (version, process_type)
    )


def due_processes(service: Service, version: Version) -> Mapping[str, int]:
    """Every process type to how many instances should run now: without what was stopped, type or single one."""
    if service.stopped:
        return dict.fromkeys(process_commands(version), 0)
    return {
        kind: 0
        if kind in service.stopped_types
        else max(0, quantity - len(withdrawn_of(service, version.number, kind)))
        for kind, quantity in wanted_processes(service, version).items()
    }


def wanted_processes(service: Service, version: Version) -> Mapping[str, int]:
    """Every process type of `version` to how many instances it should have while the service is not stopped.

    `web` and the unnamed type have one unless they were scaled, every other type has none. Where one of the two came in
    the other's place (an image for buildpacks, say), it has as many as that one.
    """
    commands = process_commands(version)
    return {kind: _quantity(service, kind, commands) for kind in commands}


def _quantity(service: Service, kind: str, commands: Mapping[str, str]) -> int:
    other = {"web": UNNAMED, UNNAMED: "web"}.get(kind)
    if kind in service.scale or other is None:
        return service.scale.get(kind, 0)
    return 1 if other in commands else service.scale.get(other, 1)
