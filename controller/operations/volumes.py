"""Folders of services that outlive their versions."""

from collections.abc import Sequence

from controller.operations.access import Actor
from controller.operations.lookup import get_deployment
from controller.state import State
from controller.types import Right
from controller.upkeep.storage import Storage
from controller.views import VolumeInfo


class VolumeOperations:
    def __init__(self, state: State, storage: Storage) -> None:
        self._state = state
        self._storage = storage

    async def list(self, asker: Actor, deployment: str) -> Sequence[VolumeInfo]:
        """Those that definitions have, and those that are still there; measured now, by service and name."""
        get_deployment(self._state, asker, deployment, Right.VIEW)
        sizes = {(each.service, each.name): each.size for each in await self._storage.volumes(deployment)}
        paths = {
            (service.name, name): path
            for service in self._state.services(deployment)
            for name, path in service.definition.volumes.items()
        }
        return [
            VolumeInfo(
                service=service,
                name=name,
                path=paths.get((service, name), ""),
                size=sizes.get((service, name), 0),
            )
            for service, name in sorted(sizes.keys() | paths.keys())
        ]
