"""`Domains: {example.org: {http: web}}`: where domains lead, by a service file. Pure.

That no two services have the same one is decided where they are written, over all deployments: it is no opinion.
"""

from collections.abc import Mapping
from typing import Any

from controller.plugins.facts import DeploymentFacts
from controller.plugins.hooks import hookimpl
from controller.servicefile.document import DOMAINS

NAME = "domains"
sections = frozenset({DOMAINS})
priority = 60


@hookimpl
def provide_domains(deployment: DeploymentFacts) -> Mapping[str, Any] | None:
    """The section itself, of a file that is about to be deployed: with its passwords. It may be unreadable."""
    section: Mapping[str, Any] | None = deployment.deployment.globals.get(DOMAINS)
    return section
