"""Folders of services that outlive their versions."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from controller.errors import NotFound, Refused
from controller.names import Address
from controller.operations.access import Actor
from controller.operations.backupplans import plan_info
from controller.operations.lookup import address_of, get_deployment, get_service
from controller.operations.runtime import Runtime
from controller.state import EventDraft, Put, State, put
from controller.types import Right, Service
from controller.upkeep.backups import rests
from controller.upkeep.storage import Storage
from controller.views import VolumeInfo

_NONE_YET = 0
"""As the version of a run: nobody knows which volumes the definition had then."""


class VolumeOperations:
    def __init__(self, state: State, runtime: Runtime, storage: Storage) -> None:
        self._state = state
        self._runtime = runtime
        self._storage = storage

    async def list(self, asker: Actor, deployment: str) -> Sequence[VolumeInfo]:
        """Those that definitions have, those that are still there, and those that have a schedule; measured now, by
        service and name."""
        get_deployment(self._state, asker, deployment, Right.VIEW)
        sizes = {(each.service, each.name): each.size for each in await self._storage.volumes(deployment)}
        services = self._state.services(deployment)
        paths = {
            (service.name, name): path
            for service in services
            for name, path in service.definition.volumes.items()
        }
        plans = {
            (service.name, name): plan_info(plan, rests=rests(service, name))
            for service in services
            for name, plan in service.backups.items()
        }
        return [
            VolumeInfo(
                service=service,
                name=name,
                path=paths.get((service, name), ""),
                size=sizes.get((service, name), 0),
                backup=plans.get((service, name)),
            )
            for service, name in sorted(sizes.keys() | paths.keys() | plans.keys())
        ]

    async def destroy(self, asker: Actor, address: Address, name: str) -> int:
        """With all that is in it, and its schedule; its bytes. Raises NotFound, and Refused while the service has it,
        or something runs that does.
        """
        service = get_service(self._state, asker, address, Right.MANAGE)
        self._check_unused(service, name)
        there = await self._storage.volumes(service.deployment)
        if (service.name, name) not in {(each.service, each.name) for each in there}:
            raise NotFound(
                f"{address_of(service)} has no volume {name}: `volumes` lists those that there are."
            )
        removed = await self._storage.remove_volume(
            service.deployment, service.name, name, in_use=lambda: self._user_of(service, name) is not None
        )
        if not removed.count:
            self._check_unused(service, name)
            raise NotFound(f"The volume {name} of {address_of(service)} is gone already.")
        event = EventDraft(
            kind="volume.destroyed",
            deployment=service.deployment,
            service=service.name,
            actor=asker.name,
            text=f"its volume {name} was destroyed",
            data={"volume": name, "bytes": removed.size},
        )

        def decide() -> Iterator[Put | EventDraft]:
            now = self._state.service(service.deployment, service.name)
            if now is not None and name in now.backups and name not in now.definition.volumes:
                left = {each: plan for each, plan in now.backups.items() if each != name}
                yield put(replace(now, backups=left))
            yield event

        await self._state.transact(decide)
        return removed.size

    def _check_unused(self, service: Service, name: str) -> None:
        user = self._user_of(service, name)
        if user is not None:
            raise Refused(f"The volume {name} of {address_of(service)} is in use: {user}.")

    def _user_of(self, service: Service, name: str) -> str | None:
        """What has that volume now, and the way out, in words."""
        now = self._state.service(service.deployment, service.name)
        if now is None:
            return "its service was destroyed a moment ago, and takes it along"
        if name in now.definition.volumes:
            return "the service's definition has it; take it out of `volumes` there first"
        with_it = {
            each.number
            for each in self._state.versions(service.deployment, service.name)
            if name in each.definition.volumes
        }
        for number in sorted(self._versions_at_work(now)):
            if number in with_it:
                return f"v{number} has it; wait until that no longer runs"
            if number == _NONE_YET:
                return (
                    "a one-off runs that began before the first version; wait for it, or stop it (run:stop)"
                )
        return None

    def _versions_at_work(self, service: Service) -> set[int]:
        """Those that run, and those that are wanted, which the loop may be about to start."""
        place = service.deployment, service.name
        return {
            *(each for each in (service.current, service.target) if each is not None),
            *(each.version for each in self._runtime.instances(*place)),
            *(each.version for each in self._state.runs(*place) if not each.status.over),
        }
