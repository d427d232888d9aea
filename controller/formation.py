"""Which processes a version has, and how many of each are wanted. Pure."""

import shlex
from collections.abc import Mapping

from controller.names import parse_instance_id
from controller.types import ArtifactKind, Definition, RunKind, Service, Version

UNNAMED = ""
"""The process type of a service without a Procfile."""
MAX_INSTANCES = 100
"""Of one process type."""
ONE_OFFS = frozenset(RunKind)
"""What one-offs go by. A Procfile may give such a name a command (`release:` is one that is run for each
version); it is no process of which instances run, but `run` takes it by its name."""


def process_commands(version: Version) -> Mapping[str, str]:
    """Process type to its command line. Empty: the version has nothing to run.

    The definition's command is that of the unnamed type, where there are no named ones; it may choose one of
    those that there are (`process`). An image brings a command of its own, so the empty text stands for it there.
    """
    artifact, definition = version.artifact, version.definition
    if artifact is None:
        return {}
    commands = {kind: line for kind, line in artifact.process_types.items() if kind not in ONE_OFFS}
    is_image = artifact.kind is ArtifactKind.IMAGE
    if not commands and is_image:
        commands[UNNAMED] = ""
    if set(commands) <= {UNNAMED} and (line := _line(definition, is_image=is_image)):
        commands[UNNAMED] = line
    only = chosen_process(definition)
    return commands if only is None else {kind: line for kind, line in commands.items() if kind == only}


def chosen_process(definition: Definition) -> str | None:
    """The one process type of the code that the service runs; None: all of them."""
    only = definition.extra.get("process")
    return only if isinstance(only, str) and definition.image is None else None


def _line(definition: Definition, *, is_image: bool) -> str:
    """What the definition says that is run. Its entrypoint, of an image, gets the words of its command."""
    entrypoint = definition.extra.get("entrypoint")
    if not is_image or not isinstance(entrypoint, list):
        return definition.command or ""
    return " ".join(["exec", shlex.join(map(str, entrypoint)), *filter(None, [definition.command])])


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

    `web`, the unnamed type and one that was chosen have one unless they were scaled, every other type has none.
    Where one of the first two came in the other's place (an image for buildpacks, say), it has as many as that one.
    """
    commands = process_commands(version)
    if (only := chosen_process(version.definition)) is not None:
        return {kind: service.scale.get(only, 1) for kind in commands}
    return {kind: _quantity(service, kind, commands) for kind in commands}


def _quantity(service: Service, kind: str, commands: Mapping[str, str]) -> int:
    other = {"web": UNNAMED, UNNAMED: "web"}.get(kind)
    if kind in service.scale or other is None:
        return service.scale.get(kind, 0)
    return 1 if other in commands else service.scale.get(other, 1)
