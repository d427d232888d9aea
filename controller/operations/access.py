"""Who asks, and what they may see and do. Every door asks here, and nowhere else.

    view      see services, versions, instances, builds, logs and events, fetch code; not the values of config
    deploy    push and release code, roll back, cancel builds, read config
    operate   change config and definition, scale, restart, stop and start, domains, branches
    manage    destroy, and say who else may do what
    (admin)   all of it on every deployment; make deployments; users, and everybody's keys and tokens

What somebody may not view does not exist for them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from controller.errors import Forbidden, NotFound
from controller.types import Definition, Deployment, Right, Service, User, Version

HIDDEN = "(hidden)"
"""Stands for the value of a variable that the asker may not read."""


@dataclass(frozen=True)
class Actor:
    """The user on whose behalf something is asked."""

    user: User

    @property
    def name(self) -> str:
        return self.user.name

    def may(self, deployment: str, right: Right) -> bool:
        held = self.user.rights.get(deployment)
        return self.user.admin or (held is not None and held.includes(right))

    def require(self, deployment: str, right: Right) -> None:
        """Raise NotFound where even viewing is not allowed, Forbidden where only `right` is missing."""
        if not self.may(deployment, Right.VIEW):
            raise unknown_deployment(deployment)
        if not self.may(deployment, right):
            held = self.user.rights.get(deployment)
            raise Forbidden(
                f"{self.name} has the right to {held} {deployment}, but this needs {right}: "
                f"ask an admin for it, or whoever has manage on {deployment}."
            )

    def require_admin(self, what: str) -> None:
        """Raise Forbidden unless the asker is an admin. `what` goes on after "Only an admin may"."""
        if not self.user.admin:
            raise Forbidden(f"Only an admin may {what}, and {self.name} is none.")


def unknown_deployment(name: str) -> NotFound:
    return NotFound(f"There is no app {name}.")


def shown_service(asker: Actor, service: Service) -> Service:
    """The service as the asker may see it."""
    if asker.may(service.deployment, Right.DEPLOY):
        return service
    return replace(service, definition=_without_values(service.definition))


def shown_version(asker: Actor, version: Version) -> Version:
    """The version as the asker may see it."""
    if asker.may(version.deployment, Right.DEPLOY):
        return version
    return replace(version, definition=_without_values(version.definition), globals=_hidden(version.globals))


def shown_deployment(asker: Actor, deployment: Deployment) -> Deployment:
    """The deployment as the asker may see it."""
    if asker.may(deployment.name, Right.DEPLOY):
        return deployment
    return replace(deployment, globals=_hidden(deployment.globals))


def _hidden(shared: Mapping[str, Any]) -> Mapping[str, Any]:
    """Names without values: any global may hold a secret, and plugins bring globals that we don't know."""
    return {
        name: dict.fromkeys(value, HIDDEN) if isinstance(value, Mapping) else HIDDEN
        for name, value in shared.items()
    }


def _without_values(definition: Definition) -> Definition:
    return replace(definition, env=dict.fromkeys(definition.env, HIDDEN))
