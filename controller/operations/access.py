"""Who asks, and what they may see and do. Every door asks here, and nowhere else.

    view      see services, versions, instances, builds, logs and events, fetch code; not the values of config
    deploy    push and release code, roll back, cancel builds, read config
    operate   change config and definition, scale, restart, stop and start, domains, branches
    manage    destroy, and say who else may do what
    (admin)   all of it on every deployment; make deployments; users, and everybody's keys and tokens

What somebody may not view does not exist for them. A token may be narrowed: to a highest right, to some
deployments. Then whoever shows it asks with that much of the user's rights, everywhere.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from controller.difference import HIDDEN
from controller.errors import Forbidden, NotFound
from controller.types import Definition, Deployment, Provided, Right, Service, Token, User, Version


@dataclass(frozen=True)
class Actor:
    """The user on whose behalf something is asked, with the rights that hold for this asking."""

    user: User
    """With a narrowed token: with what it leaves of the user's rights."""
    token: Token | None = None
    """What they showed; None: an SSH key, or nobody but the server itself asks."""
    digest: str = ""
    """Of the secret that they came with, by which `CredentialOperations.renew` finds it again."""

    @property
    def name(self) -> str:
        return self.user.name

    def may(self, deployment: str, right: Right) -> bool:
        held = self.user.rights.get(deployment)
        return self.user.admin or (held is not None and held.includes(right))

    def require(self, deployment: str, right: Right) -> None:
        """Raise NotFound where even viewing is not allowed, Forbidden where only `right` is missing."""
        if not self.may(deployment, Right.VIEW):
            if self.narrowed:
                raise NotFound(f"There is no app {deployment} that this token is good for.")
            raise unknown_deployment(deployment)
        if not self.may(deployment, right):
            held = self.user.rights.get(deployment)
            if self.narrowed:
                raise Forbidden(
                    f"With this token {self.name} may {held} {deployment}, but this needs {right}: "
                    "use one that gives more."
                )
            raise Forbidden(
                f"{self.name} has the right to {held} {deployment}, but this needs {right}: "
                f"ask an admin for it, or whoever has manage on {deployment}."
            )

    def require_admin(self, what: str) -> None:
        """Raise Forbidden unless the asker is an admin. `what` goes on after "Only an admin may"."""
        if not self.user.admin:
            why = "a narrowed token is no admin's" if self.narrowed else f"{self.name} is none"
            raise Forbidden(f"Only an admin may {what}, and {why}.")

    @property
    def narrowed(self) -> bool:
        """Whether they ask with less than all of their rights."""
        return self.token is not None and self.token.narrowed

    def require_all_rights(self, what: str) -> None:
        """Raise Forbidden where a narrowed token could be used to get more. `what` goes on after "may not"."""
        if self.narrowed:
            raise Forbidden(f"A narrowed token may not {what}: use your SSH key, or a token that is not.")


Renew = Callable[[Actor], Actor]
"""The same asker with the rights of the moment; raises Unauthenticated when they are no longer let in."""


def narrowed(user: User, token: Token, deployments: Iterable[str]) -> User:
    """The user with what the token leaves of their rights. `deployments`: all that there are."""
    if not token.narrowed:
        return user
    held = dict.fromkeys(deployments, Right.MANAGE) if user.admin else user.rights
    highest = token.right or Right.MANAGE
    rights = {
        name: highest if right.includes(highest) else right
        for name, right in held.items()
        if not token.deployments or name in token.deployments
    }
    return replace(user, admin=False, rights=rights)


def unknown_deployment(name: str) -> NotFound:
    return NotFound(f"There is no app {name}.")


def shown_service(asker: Actor, service: Service) -> Service:
    """The service as the asker may see it: nobody has a use for the hashes of passwords."""
    guards = {
        domain: replace(guard, users=dict.fromkeys(guard.users, HIDDEN))
        for domain, guard in service.guards.items()
    }
    service = replace(service, guards=guards)
    if asker.may(service.deployment, Right.DEPLOY):
        return service
    dockerfile = replace(service.dockerfile, args=dict.fromkeys(service.dockerfile.args, HIDDEN))
    return replace(service, definition=_without_values(service.definition), dockerfile=dockerfile)


def shown_version(asker: Actor, version: Version) -> Version:
    """The version as the asker may see it."""
    if asker.may(version.deployment, Right.DEPLOY):
        return version
    provided = version.provided
    return replace(
        version,
        definition=_without_values(version.definition),
        globals=_hidden(version.globals),
        provided=Provided(
            vars=dict.fromkeys(provided.vars, HIDDEN),
            env=dict.fromkeys(provided.env, HIDDEN),
            definition=None if provided.definition is None else _without_values(provided.definition),
        ),
    )


def shown_deployment(asker: Actor, deployment: Deployment) -> Deployment:
    """The deployment as the asker may see it; what was generated, only where it is asked for."""
    deployment = replace(deployment, generated=dict.fromkeys(deployment.generated, HIDDEN))
    if asker.may(deployment.name, Right.DEPLOY):
        return deployment
    return replace(
        deployment, globals=_hidden(deployment.globals), vars=dict.fromkeys(deployment.vars, HIDDEN)
    )


def _hidden(shared: Mapping[str, Any]) -> Mapping[str, Any]:
    """Names without values: any global may hold a secret, and plugins bring globals that we don't know."""
    return {
        name: dict.fromkeys(value, HIDDEN) if isinstance(value, Mapping) else HIDDEN
        for name, value in shared.items()
    }


def _without_values(definition: Definition) -> Definition:
    return replace(definition, env=dict.fromkeys(definition.env, HIDDEN))
