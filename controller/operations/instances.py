"""What runs now."""

from collections.abc import Sequence

from controller.names import Address
from controller.operations.access import Actor
from controller.operations.lookup import get_service
from controller.operations.runtime import Runtime
from controller.state import State
from controller.types import Instance, Right


class InstanceOperations:
    def __init__(self, state: State, runtime: Runtime) -> None:
        self._state = state
        self._runtime = runtime

    def list(self, asker: Actor, address: Address) -> Sequence[Instance]:
        """Of the service, or of the process type that the address names."""
        service = get_service(self._state, asker, address, Right.VIEW)
        return [
            each
            for each in self._runtime.instances(service.deployment, service.name)
            if address.process_type in (None, each.process_type)
        ]
