"""Which health check an instance has to pass. Pure."""

from collections.abc import Mapping
from dataclasses import replace

from controller.formation import UNNAMED
from controller.types import HealthCheck, Version

WEB = "web"


def check_of(version: Version, process_type: str) -> HealthCheck:
    """The process type's own; else `health` for what takes requests; else the one that the code asks for; else
    the times of `health` alone.

    What is said of `web` counts for the unnamed type, which there is instead of it.
    """
    definition, takes_requests = version.definition, process_type in (WEB, UNNAMED)
    if (own := _find(definition.checks, process_type)) is not None:
        return own
    if takes_requests and definition.health != HealthCheck():
        return definition.health
    asked = _find(version.artifact.manifest.checks, process_type) if version.artifact else None
    if asked is not None or takes_requests:
        return asked or definition.health
    return replace(definition.health, path=None, command=None, uptime=None)


def _find(checks: Mapping[str, HealthCheck], process_type: str) -> HealthCheck | None:
    return checks.get(process_type) or (checks.get(WEB) if process_type == UNNAMED else None)
