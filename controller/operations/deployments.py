"""Deployments: making, listing, destroying."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime

from controller.errors import Conflict
from controller.names import check_name
from controller.operations.access import Actor, shown_deployment
from controller.operations.lookup import get_deployment
from controller.operations.removal import Removal
from controller.state import Delete, EventDraft, Put, State, delete, put
from controller.types import Deployment, Right, Service


class DeploymentOperations:
    def __init__(self, state: State, removal: Removal, *, clock: Callable[[], datetime]) -> None:
        self._state = state
        self._removal = removal
        self._clock = clock

    def list(self, asker: Actor) -> Sequence[Deployment]:
        """Those that the asker may view, sorted by name."""
        return [
            shown_deployment(asker, each)
            for each in self._state.deployments()
            if asker.may(each.name, Right.VIEW)
        ]

    def get(self, asker: Actor, name: str) -> Deployment:
        return shown_deployment(asker, get_deployment(self._state, asker, name, Right.VIEW))

    async def create(self, asker: Actor, name: str) -> Deployment:
        """An empty one. Raises InvalidInput, Forbidden, Conflict."""
        asker.require_admin("make apps")
        check_name(name, "app name")
        made = Deployment(name=name, created_at=self._clock(), created_by=asker.name)

        def decide() -> Iterator[Put | EventDraft]:
            if self._state.deployment(name) is not None:
                raise Conflict(f"There is an app {name} already: choose another name.")
            self._removal.check_is_over(name)
            yield put(made)
            yield EventDraft(
                kind="deployment.created", deployment=name, actor=asker.name, text=f"{name} was created"
            )

        await self._state.transact(decide)
        return made

    async def destroy(self, asker: Actor, name: str) -> None:
        """Forget everything of it in one step. Its instances stop, then its files go."""
        gone: list[Service] = []

        def decide() -> Iterator[Put | Delete | EventDraft]:
            deployment = get_deployment(self._state, asker, name, Right.MANAGE)
            gone[:] = self._state.services(name)
            for service in gone:
                yield from forgotten(self._state, service, asker)
            yield from map(delete, self._state.resources(name))
            yield from self._without_rights(name)
            yield delete(deployment)
            yield EventDraft(
                kind="deployment.destroyed", deployment=name, actor=asker.name, text=f"{name} was destroyed"
            )

        await self._state.transact(decide)
        self._removal.begin(gone)

    def _without_rights(self, name: str) -> Iterator[Put]:
        """Who makes an app of this name again does not bring back those who had rights on the old one."""
        for user in self._state.users():
            if name in user.rights:
                yield put(
                    replace(user, rights={key: right for key, right in user.rights.items() if key != name})
                )


def forgotten(state: State, service: Service, asker: Actor) -> Iterator[Delete | EventDraft]:
    """All that is deleted with a service."""
    for version in state.versions(service.deployment, service.name):
        yield delete(version)
    for build in state.builds(service.deployment, service.name):
        yield delete(build)
    for run in state.runs(service.deployment, service.name):
        yield delete(run)
    yield delete(service)
    yield EventDraft(
        kind="service.destroyed",
        deployment=service.deployment,
        service=service.name,
        actor=asker.name,
        text=f"{service.deployment}/{service.name} was destroyed",
    )
