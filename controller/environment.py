"""The variables that an instance sees. Pure."""

from collections.abc import Mapping
from itertools import count
from typing import Any

from controller.types import Artifact, ArtifactKind, Definition, Version

FIRST_ASSIGNED = 20000
"""Where ports with a name, of images, are counted from."""
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


def port_numbers(version: Version) -> Mapping[str, int]:
    """The ports that an image listens on, by name, as its definition says (`ports`); "" is there where that tells its
    number. Those that are to be assigned can be any: each container has an address of its own."""
    ports = version.definition.extra.get("ports")
    if (
        not isinstance(ports, Mapping)
        or version.artifact is None
        or version.artifact.kind is not ArtifactKind.IMAGE
    ):
        return {}
    taken = {number for number in ports.values() if isinstance(number, int)}
    free = (number for number in count(FIRST_ASSIGNED) if number not in taken)
    return {
        name: number if isinstance(number, int) else next(free)
        for name, number in sorted(ports.items())
        if name or isinstance(number, int)
    }


def _own_ports(version: Version) -> Mapping[str, str]:
    """`PORT` where the definition says so (`port: 6379`), `PORT_RPC` of one with a name."""
    return {
        f"PORT_{name.upper().replace('-', '_')}" if name else "PORT": str(number)
        for name, number in port_numbers(version).items()
    }


def environment(version: Version) -> Mapping[str, str]:
    """The complete environment of an instance of `version`, but for the PORT that its backend gives it.

    The deployment's globals are overridden by the buildpack's defaults, those by the service's own
    config. The server adds `MOORING_APP` (the deployment), `MOORING_SERVICE`, `MOORING_VERSION` (the
    version's number) and, for code, `SOURCE_VERSION` (the commit), which config may override.
    """
    return {
        **({"SOURCE_VERSION": version.commit} if version.commit else {}),
        **_own_ports(version),
        **configured(version.globals, version.artifact, version.definition),
        "MOORING_APP": version.deployment,
        "MOORING_SERVICE": version.service,
        "MOORING_VERSION": str(version.number),
    }
