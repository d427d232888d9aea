"""Which health check an instance has to pass. Pure."""

from dataclasses import replace

from controller.formation import UNNAMED
from controller.types import Definition, HealthCheck

WEB = "web"


def check_of(definition: Definition, process_type: str) -> HealthCheck:
    """The process type's own; else `health` for what takes requests, and its times alone for the others.

    What is said of `web` counts for the unnamed type, which there is instead of it.
    """
    own = definition.checks.get(process_type)
    if own is None and process_type == UNNAMED:
        own = definition.checks.get(WEB)
    if own is not None:
        return own
    if process_type in (WEB, UNNAMED):
        return definition.health
    return replace(definition.health, path=None, command=None, uptime=None)
