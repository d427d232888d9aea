"""The typed view of the store that operations and the reconcile loop share.

`State` holds an immutable mirror of everything in memory. Reading it is synchronous and cheap; what
it returns never changes under the reader. Writing goes through `commit` (or `transact`), which is
applied to the mirror before it returns; changes made by other processes arrive by a watch.

    service = state.service("foo", "app")
    await state.commit(put(replace(service, stopped=True)), events=[EventDraft(kind="service.stopped", …)])

A read, a decision and a `commit` with no `await` in between is atomic: when somebody else was
faster, StoreConflict is raised and nothing is written. `transact` wraps that in a retry.
"""

from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Self

from controller.names import Address
from controller.store.base import Store
from controller.types import Build, Deployment, Event, Service, SshKey, Token, User, Version

Record = Deployment | Service | Version | Build | User | SshKey | Token
"""What is kept, one store key each."""


@dataclass(frozen=True)
class Put:
    """Write this record, new or over the one of the same name."""

    record: Record
    was: Record | None = None


@dataclass(frozen=True)
class Delete:
    """Forget this record; harmless when it is gone already."""

    record: Record


@dataclass(frozen=True, kw_only=True)
class EventDraft:
    """A journal entry before it has its time and revision. Fields as in `Event`."""

    kind: str
    deployment: str = ""
    service: str = ""
    actor: str = ""
    text: str = ""
    data: Mapping[str, Any] = field(default_factory=dict)


def put(record: Record, *, was: Record | None = None) -> Put:
    """A step that writes `record`.

    `was` guards a read that lies before an `await`: the commit then raises StoreConflict unless the
    mirror still holds exactly that object.
    """
    return Put(record, was)


def delete(record: Record) -> Delete:
    """A step that forgets `record`."""
    return Delete(record)


class State:
    """Made by `await State.open(store)`; used from one event loop."""

    @classmethod
    async def open(cls, store: Store, *, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> Self:
        """Read everything and follow the store from there. Raises StoreUnavailable.

        The store stays the caller's: `close` does not close it.
        """
        raise NotImplementedError

    async def close(self) -> None:
        """Stop following; iterators of `changes` and `follow_events` end."""
        raise NotImplementedError

    @property
    def problem(self) -> str | None:
        """Why the mirror may be behind the store, in words; None while it is followed."""
        raise NotImplementedError

    # Reading

    def deployment(self, name: str) -> Deployment | None:
        raise NotImplementedError

    def deployments(self) -> Sequence[Deployment]:
        """Sorted by name."""
        raise NotImplementedError

    def service(self, deployment: str, name: str) -> Service | None:
        raise NotImplementedError

    def services(self, deployment: str | None = None) -> Sequence[Service]:
        """Of one deployment or of all; sorted by deployment and name."""
        raise NotImplementedError

    def domain_owner(self, domain: str) -> Address | None:
        """The service that has this domain among its `domains` (not the derived default one)."""
        raise NotImplementedError

    def version(self, deployment: str, service: str, number: int) -> Version | None:
        raise NotImplementedError

    def versions(self, deployment: str, service: str) -> Sequence[Version]:
        """Newest first."""
        raise NotImplementedError

    def build(self, build: str) -> Build | None:
        raise NotImplementedError

    def builds(self, deployment: str | None = None, service: str | None = None) -> Sequence[Build]:
        """Newest first; of all, of one deployment or of one service."""
        raise NotImplementedError

    def user(self, name: str) -> User | None:
        raise NotImplementedError

    def users(self) -> Sequence[User]:
        """Sorted by name."""
        raise NotImplementedError

    def key(self, fingerprint: str) -> SshKey | None:
        raise NotImplementedError

    def keys(self, user: str | None = None) -> Sequence[SshKey]:
        """Of one user or of all; sorted by user and name."""
        raise NotImplementedError

    def token(self, sha256: str) -> Token | None:
        raise NotImplementedError

    def tokens(self, user: str | None = None) -> Sequence[Token]:
        """Of one user or of all; sorted by user and id."""
        raise NotImplementedError

    def events(
        self,
        deployment: str | None = None,
        service: str | None = None,
        *,
        after: int = 0,
        limit: int | None = None,
    ) -> Sequence[Event]:
        """The newest `limit` (None: all kept) with a revision above `after`, oldest first."""
        raise NotImplementedError

    @property
    def last_event(self) -> int:
        """Revision of the newest event; `follow_events(after=…)` from here tells only what is new."""
        raise NotImplementedError

    # Writing

    async def commit(self, *steps: Put | Delete, events: Sequence[EventDraft] = ()) -> Sequence[Event]:
        """Write all steps and events or nothing; return the events as they were written.

        Each step expects the record as the mirror has it at this call (a new one: that none exists).
        A service's domains are claimed with it: two services never get the same one. Raises
        StoreConflict when somebody else was faster, StoreUnavailable when the outcome is not known
        (the mirror follows whatever it was).
        """
        raise NotImplementedError

    async def transact(self, decide: Callable[[], Iterable[Put | Delete | EventDraft]]) -> Sequence[Event]:
        """`commit` what `decide` gives; decide again when somebody else was faster.

        `decide` reads the mirror and returns (or yields) steps and events; what it raises goes to the
        caller and nothing is written. No other commit of this process is under way while it runs,
        so it may also check across records (a free user id, a free name). No steps: nothing is written.
        """
        raise NotImplementedError

    # Following

    def changes(self) -> AsyncIterator[frozenset[tuple[str, str]]]:
        """Sets of (deployment, service) whose service, versions or builds changed, for ever.

        A change of the deployment itself is told as (deployment, ""). Changes since this call are
        collected while nobody waits, so a slow reader gets one larger set. Journal entries, users,
        keys and tokens don't show here.
        """
        raise NotImplementedError

    def follow_events(
        self, deployment: str | None = None, service: str | None = None, *, after: int | None = None
    ) -> AsyncIterator[Event]:
        """Events with a revision above `after` (None: from now on), in order, for ever."""
        raise NotImplementedError
