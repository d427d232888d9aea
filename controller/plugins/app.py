"""`git: .`: services whose code is brought, by a push, an upload or a delivery. Until then they are held.

Bringing and building code is no hook: it is the pipeline in `gitreceive/push.py`, which all doors for source share.
"""

from controller.plugins.facts import DeploymentFacts, ServiceFacts
from controller.plugins.hooks import hookimpl

NAME = "app"
NO_CODE = "no code yet: git push deploy master"
priority = 50
keys = frozenset({"git"})


@hookimpl
def needs_app_code(deployment: DeploymentFacts, service: ServiceFacts) -> str | None:
    """Only of services without an image, which have their code with them."""
    return NO_CODE if service.definition.image is None else None
