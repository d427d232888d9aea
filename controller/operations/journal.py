"""What happened, as far as the asker may know of it."""

from collections.abc import Sequence

from controller.errors import InvalidInput
from controller.operations.access import Actor
from controller.operations.lookup import get_deployment
from controller.state import State
from controller.types import Event, Right

MAX_EVENTS = 1000


class JournalOperations:
    def __init__(self, state: State) -> None:
        self._state = state

    def list(self, asker: Actor, *, deployment: str | None = None, limit: int = 100) -> Sequence[Event]:
        """The newest `limit`, oldest first. What concerns no deployment is for admins only.

        An admin may ask for a deployment that was destroyed; others don't see what an older deployment
        of the same name did.
        """
        if not 1 <= limit <= MAX_EVENTS:
            raise InvalidInput("limit", f"limit must be 1 to {MAX_EVENTS}.")
        if asker.user.admin:
            return self._state.events(deployment, limit=limit)
        if deployment is not None:
            get_deployment(self._state, asker, deployment, Right.VIEW)
        shown = [each for each in self._state.events(deployment) if self._may_see(asker, each)]
        return shown[-limit:]

    def _may_see(self, asker: Actor, event: Event) -> bool:
        if not event.deployment or not asker.may(event.deployment, Right.VIEW):
            return False
        deployment = self._state.deployment(event.deployment)
        return deployment is not None and (
            deployment.created_at is None or event.time >= deployment.created_at
        )
