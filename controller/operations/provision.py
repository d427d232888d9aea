"""Makes what sections `Resources` ask for, and gives it to the services that are to have it."""

import asyncio
import logging
from collections.abc import Iterable

from controller.errors import MooringError
from controller.names import Address
from controller.operations.access import Actor
from controller.operations.facts import facts_of
from controller.operations.resources import ResourceOperations
from controller.operations.runtime import Runtime
from controller.plugins.resources import SECTION, Wanted, attachments, declared, is_unmade
from controller.state import State
from controller.types import Deployment, Resource, ResourceStatus, User

log = logging.getLogger(__name__)

RETRY = 30.0
"""Seconds until a deployment is looked at again in which something could not be made or attached."""


class Provision:
    """Looks again whenever something in a deployment has changed. It acts for whoever could deploy the file."""

    def __init__(self, state: State, runtime: Runtime, resources: ResourceOperations) -> None:
        self._state = state
        self._runtime = runtime
        self._resources = resources
        self._changes = state.changes()

    async def run(self) -> None:
        """Until cancelled. What a killed server left is looked at first."""
        failed = await self.examine({each.name for each in self._state.deployments()})
        while True:
            touched = frozenset[tuple[str, str]]()
            try:
                async with asyncio.timeout(RETRY if failed else None):
                    touched = await self._changes.__anext__()
            except TimeoutError:
                pass
            except StopAsyncIteration:
                return
            failed = await self.examine({deployment for deployment, _ in touched} | failed)

    async def examine(self, deployments: Iterable[str]) -> set[str]:
        """Those in which something is left to be done, or could not be."""
        failed = set[str]()
        for name in sorted(deployments):
            deployment = self._state.deployment(name)
            if deployment is None:
                continue
            for resource, wanted in declared(deployment.globals.get(SECTION)).items():
                try:
                    done = await self._provide(deployment, resource, wanted)
                except Exception:  # whatever it is, others go on
                    log.exception("resource not provided deployment=%s resource=%s", name, resource)
                    done = False
                if not done:
                    failed.add(name)
        return failed

    async def _provide(self, deployment: Deployment, name: str, wanted: Wanted) -> bool:
        found = self._state.resource(deployment.name, name)
        if found is None or is_unmade(found):
            return await self._make(deployment, name, wanted)
        if found.status is ResourceStatus.READY:
            return await self._attach(deployment, found, wanted)
        return True  # it comes up, or its server failed: both are seen elsewhere

    async def _make(self, deployment: Deployment, name: str, wanted: Wanted) -> bool:
        asker = _on_behalf_of(deployment)
        try:
            await self._resources.create(asker, deployment.name, wanted.kind, name)
        except MooringError as error:
            await self._resources.fail(asker, deployment.name, name, wanted, str(error))
            return False
        return True

    async def _attach(self, deployment: Deployment, resource: Resource, wanted: Wanted) -> bool:
        done = True
        for service, prefix in attachments(facts_of(self._state, deployment), resource.name, wanted).items():
            if service in resource.attached:
                continue
            asker, address = _on_behalf_of(deployment), Address(deployment.name, service)
            try:
                await self._resources.attach(asker, address, resource.name, prefix=prefix)
            except MooringError as error:
                await self._resources.fail_attachment(asker, address, resource.name, str(error))
                done = False
        return done


def _on_behalf_of(deployment: Deployment) -> Actor:
    """Who deployed the file had to have the right to operate, which is all that this takes."""
    return Actor(User(name=deployment.created_by, admin=True))
