"""The variables that an instance sees. Pure."""

from collections.abc import Mapping
from typing import Any

from controller.types import Artifact, ArtifactKind, Definition, Version

RESERVED_PREFIX = "MOORING_"
"""Variables of ours, which people can't set."""


def changed_names(before: Mapping[str, str], after: Mapping[str, str]) -> tuple[str, ...]:
    """Variables that are set, unset or of another value; sorted."""
    return tuple(sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name)))


def shared_env(shared: Mapping[str, Any]) -> Mapping[str, str]:
    """The variables of a deployment's globals."""
    return {str(name): str(value) for name, value in (shared.get("Env") or {}).items()}


def configured(
    shared: Mapping[str, Any], artifact: Artifact | None, definition: Definition
) -> Mapping[str, str]:
    """What people and buildpack set: globals, overridden by the buildpack's defaults, by the service's config."""
    return {**shared_env(shared), **(artifact.env if artifact else {}), **definition.env}


def _own_port(version: Version) -> Mapping[str, str]:
    """The port that an image listens on, where its definition says so (`port: 6379`)."""
    ports = version.definition.extra.get("ports")
    number = ports.get("") if isinstance(ports, Mapping) else None
    is_image = version.artifact is not None and version.artifact.kind is ArtifactKind.IMAGE
    return {"PORT": str(number)} if is_image and isinstance(number, int) else {}


def environment(version: Version) -> Mapping[str, str]:
    """The complete environment of an instance of `version`, but for the PORT that its backend gives it.

    The deployment's globals are overridden by the buildpack's defaults, those by the service's own
    config. The server adds `MOORING_APP` (the deployment), `MOORING_SERVICE`, `MOORING_VERSION` (the
    version's number) and, for code, `SOURCE_VERSION` (the commit), which config may override.
    """
    return {
        **({"SOURCE_VERSION": version.commit} if version.commit else {}),
        **_own_port(version),
        **configured(version.globals, version.artifact, version.definition),
        "MOORING_APP": version.deployment,
        "MOORING_SERVICE": version.service,
        "MOORING_VERSION": str(version.number),
    }
