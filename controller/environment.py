"""The variables that an instance sees. Pure."""

from collections.abc import Mapping

from controller.types import Version

RESERVED_PREFIX = "MOORING_"
"""Variables of ours, which people can't set."""


def changed_names(before: Mapping[str, str], after: Mapping[str, str]) -> tuple[str, ...]:
    """Variables that are set, unset or of another value; sorted."""
    return tuple(sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name)))


def environment(version: Version) -> Mapping[str, str]:
    """The complete environment of an instance of `version`, but for the PORT that its backend gives it.

    The deployment's globals are overridden by the buildpack's defaults, those by the service's own
    config. The server adds `MOORING_APP` (the deployment), `MOORING_SERVICE`, `MOORING_VERSION` (the
    version's number) and, for code, `SOURCE_VERSION` (the commit), which config may override.
    """
    shared = version.globals.get("Env") or {}
    return {
        **({"SOURCE_VERSION": version.commit} if version.commit else {}),
        **{str(name): str(value) for name, value in shared.items()},
        **(version.artifact.env if version.artifact else {}),
        **version.definition.env,
        "MOORING_APP": version.deployment,
        "MOORING_SERVICE": version.service,
        "MOORING_VERSION": str(version.number),
    }
