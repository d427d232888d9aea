"""Making services: names, user ids and default domains that nobody else has."""

from collections.abc import Callable
from datetime import datetime

from controller.domains import default_domain
from controller.errors import Refused
from controller.names import Address, check_name
from controller.operations.access import Actor
from controller.operations.domains import check_domain_is_free
from controller.operations.lookup import address_of
from controller.operations.removal import Removal
from controller.state import EventDraft, State
from controller.types import Service

MAX_UID = 2**31 - 2


class NewServices:
    def __init__(
        self,
        state: State,
        removal: Removal,
        *,
        root_domain: str,
        first_uid: int | None,
        clock: Callable[[], datetime],
    ) -> None:
        """`first_uid` None: the server is unprivileged, and services get no user id of their own."""
        self._state = state
        self._removal = removal
        self._root_domain = root_domain
        self._first_uid = first_uid
        self._clock = clock

    def new(self, asker: Actor, address: Address, taken: frozenset[int] | set[int] = frozenset()) -> Service:
        """A service that is not written yet; to be called while deciding. `taken`: user ids that go with the same
        decision. Raises InvalidInput, Conflict, Refused."""
        check_name(address.service, "service name")
        self._removal.check_is_over(address.deployment, address.service)
        domain = default_domain(address.deployment, address.service, self._root_domain)
        if domain is not None:
            check_domain_is_free(self._state, asker, domain, address, root=self._root_domain)
        return Service(
            deployment=address.deployment,
            name=address.service,
            uid=self._free_uid(taken),
            created_at=self._clock(),
            created_by=asker.name,
        )

    def _free_uid(self, taken: frozenset[int] | set[int]) -> int | None:
        if self._first_uid is None:
            return None
        used = {each.uid for each in self._state.services()} | self._removal.uids() | taken
        for uid in range(self._first_uid, MAX_UID):
            if uid not in used:
                return uid
        raise Refused(
            "No user id is left for one more service: destroy some, or lower the setting first_uid."
        )


def created(service: Service, asker: Actor) -> EventDraft:
    return EventDraft(
        kind="service.created",
        deployment=service.deployment,
        service=service.name,
        actor=asker.name,
        text=f"{address_of(service)} was created",
    )
