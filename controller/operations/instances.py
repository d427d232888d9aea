"""What runs now, and what it prints."""

from collections.abc import AsyncIterator, Sequence

from controller.backends.base import SupportsLogs
from controller.errors import InvalidInput, NotFound, Refused
from controller.names import Address
from controller.operations.access import Actor, Renew
from controller.operations.following import while_allowed
from controller.operations.lookup import get_service
from controller.operations.runtime import Runtime
from controller.state import State
from controller.types import Instance, LogLine, Right

MAX_LINES = 10_000
"""Lines of the past that can be asked for at once."""


class InstanceOperations:
    def __init__(self, state: State, runtime: Runtime, *, renew: Renew) -> None:
        """`renew` gives an asker with the rights of the moment."""
        self._state = state
        self._runtime = runtime
        self._renew = renew

    def list(self, asker: Actor, address: Address) -> Sequence[Instance]:
        """Of the service, or of the process type that the address names."""
        service = get_service(self._state, asker, address, Right.VIEW)
        return [
            each
            for each in self._runtime.instances(service.deployment, service.name)
            if address.process_type in (None, each.process_type)
        ]

    def logs(
        self,
        asker: Actor,
        address: Address,
        *,
        lines: int = 100,
        follow: bool = False,
        instance: str | None = None,
    ) -> AsyncIterator[LogLine]:
        """What was printed last, then (with `follow`) what is printed from now on.

        Errors are raised by this call, before the first line: NotFound (also for an `instance` that
        does not run), Refused, InvalidInput.
        """
        service = get_service(self._state, asker, address, Right.VIEW)
        backend = self._runtime.backend
        if not isinstance(backend, SupportsLogs):
            raise Refused("The backend of this server keeps no logs: look for them where the instances run.")
        if not 0 <= lines <= MAX_LINES:
            raise InvalidInput("lines", f"lines must be 0 to {MAX_LINES}.")
        if instance is not None and all(each.id != instance for each in self.list(asker, address)):
            raise NotFound(f"{address} has no instance {instance[:100]!a} now.")
        found = backend.logs(
            deployment=service.deployment,
            service=service.name,
            process_type=address.process_type,
            instance=instance,
            lines=lines,
            follow=follow,
        )
        if not follow:
            return found
        return while_allowed(found, lambda: self._renew(asker).require(service.deployment, Right.VIEW))
