"""What happened, as far as the asker may know of it."""

from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from controller.errors import InvalidInput, Unavailable
from controller.following import TRIMMED, trimmed
from controller.operations.access import Actor, Renew
from controller.operations.following import while_allowed
from controller.operations.lookup import get_deployment
from controller.state import State
from controller.types import Event, Right

MAX_EVENTS = 1000
MAX_KINDS = 20


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """Which events are asked for."""

    deployment: str | None = None
    service: str | None = None
    """Of that deployment; None: of all of it."""
    kinds: Sequence[str] = ()
    """`version.live`, or `version` for all that begin so; none: of every kind."""

    def matches(self, event: Event) -> bool:
        return (
            self.deployment in (None, event.deployment)
            and self.service in (None, event.service)
            and (not self.kinds or any(f"{event.kind}.".startswith(f"{each}.") for each in self.kinds))
        )


ALL = Wanted()


class JournalOperations:
    """What concerns no deployment is for admins only.

    An admin may ask for a deployment that was destroyed; others don't see what an older deployment of the
    same name did. Where events are asked for that are no longer kept, one of the kind `journal.trimmed` says so.
    """

    def __init__(self, state: State, *, renew: Renew) -> None:
        self._state = state
        self._renew = renew

    def list(
        self, asker: Actor, wanted: Wanted = ALL, *, limit: int = 100, before: int | None = None
    ) -> Sequence[Event]:
        """The newest `limit` with a revision below `before`, oldest first."""
        self._check(asker, wanted, limit)
        found = self._seen(asker, wanted, self._state.earlier_events(before=before))
        return list(islice(found, limit))[::-1]

    def since(self, asker: Actor, wanted: Wanted = ALL, *, after: int, limit: int = 100) -> Sequence[Event]:
        """The oldest `limit` with a revision above `after`, oldest first."""
        self._check(asker, wanted, limit)
        self._check_revision(after)
        found = list(islice(self._seen(asker, wanted, self._state.later_events(after=after)), limit))
        return [trimmed(self._state, after), *found] if after < self._state.trimmed_events else found

    def follow(
        self, asker: Actor, wanted: Wanted = ALL, *, after: int | None = None, past: int = 0
    ) -> AsyncIterator[Event]:
        """Events as they happen, for as long as the asker may see them.

        `after`: with all that have happened since that one; else with the newest `past` to begin with. Errors are
        raised by this call: NotFound, InvalidInput; by the iterator: the same and Unauthenticated when the right
        is gone, Unavailable when the server stops.
        """
        self._check(asker, wanted, past or 1)
        begin: Sequence[Event] = ()
        if after is None:
            begin = self.list(asker, wanted, limit=past) if past else ()
            after = self._state.last_event
        self._check_revision(after)

        def check() -> None:
            self._check_deployment(self._renew(asker), wanted)

        return while_allowed(self._events(asker, wanted, begin, after), check)

    async def _events(
        self, asker: Actor, wanted: Wanted, begin: Sequence[Event], after: int
    ) -> AsyncIterator[Event]:
        for event in begin:
            yield event
        async for event in self._state.follow_events(wanted.deployment, wanted.service, after=after):
            if event.kind == TRIMMED or (wanted.matches(event) and self._may_see(self._renew(asker), event)):
                yield event
        raise Unavailable("The server stops: follow again once it is back.")

    def _seen(self, asker: Actor, wanted: Wanted, events: Iterator[Event]) -> Iterator[Event]:
        return (each for each in events if wanted.matches(each) and self._may_see(asker, each))

    def _check(self, asker: Actor, wanted: Wanted, limit: int) -> None:
        if not 1 <= limit <= MAX_EVENTS:
            raise InvalidInput("limit", f"limit must be 1 to {MAX_EVENTS}.")
        if wanted.service is not None and wanted.deployment is None:
            raise InvalidInput("deployment", "Name the deployment that the service belongs to.")
        if len(wanted.kinds) > MAX_KINDS:
            raise InvalidInput("kind", f"Name {MAX_KINDS} kinds at most.")
        self._check_deployment(asker, wanted)

    def _check_deployment(self, asker: Actor, wanted: Wanted) -> None:
        if wanted.deployment is not None and not asker.user.admin:
            get_deployment(self._state, asker, wanted.deployment, Right.VIEW)

    def _check_revision(self, after: int) -> None:
        if after > self._state.last_event:
            raise InvalidInput(
                "after",
                f"Nothing has happened here up to event {after}, the last one is {self._state.last_event}: "
                "perhaps it is from another server, or the state is that of an older backup.",
            )

    def _may_see(self, asker: Actor, event: Event) -> bool:
        if asker.user.admin:
            return True
        if not event.deployment or not asker.may(event.deployment, Right.VIEW):
            return False
        deployment = self._state.deployment(event.deployment)
        return deployment is not None and (
            deployment.created_at is None or event.time >= deployment.created_at
        )
