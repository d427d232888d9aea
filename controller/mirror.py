"""The model as it is kept in the store, in memory and indexed. Knows keys and reading, not writing."""

from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from operator import attrgetter
from typing import Any, Generic, TypeVar

from controller.names import Address
from controller.types import (
    Build,
    Deployment,
    Event,
    Receipt,
    Resource,
    Run,
    Service,
    SshKey,
    Token,
    User,
    Version,
)
from controller.wire import from_json

Record = Deployment | Service | Version | Build | Run | Resource | User | SshKey | Token | Receipt
"""What is kept, one store key each."""

R = TypeVar("R")
_UNDER_WAY = ("", "under way")
_UNRELEASED = ("", "unreleased")
"""Groups of builds that have yet to end, and to become a version; no deployment has an empty name."""
_LONG_AGO = datetime.min.replace(tzinfo=UTC)


def key_of(record: Record) -> str:
    """The store key of a record."""
    match record:
        case Deployment():
            return f"deployments/{record.name}"
        case Service():
            return f"services/{record.deployment}/{record.name}"
        case Version():
            return version_key(record.deployment, record.service, record.number)
        case Build():
            return f"builds/{record.id}"
        case Run():
            return f"runs/{record.id}"
        case Resource():
            return f"resources/{record.deployment}/{record.name}"
        case User():
            return f"users/{record.name}"
        case SshKey():
            return ssh_key_key(record.fingerprint)
        case Token():
            return f"tokens/{record.sha256}"
        case Receipt():
            return f"receipts/{record.id}"


def version_key(deployment: str, service: str, number: int) -> str:
    return f"versions/{deployment}/{service}/{number:08d}"


def ssh_key_key(fingerprint: str) -> str:
    # Base64 has slashes, which may come in pairs, but no underscores.
    return f"keys/{fingerprint.replace('/', '_')}"


def domain_key(domain: str) -> str:
    return f"domains/{domain}"


def event_key(revision: int) -> str:
    return f"events/{revision:012d}"


@dataclass(frozen=True)
class Kept(Generic[R]):
    """A record and the store's revision of its last change."""

    record: R
    revision: int


class _Table(Generic[R]):
    """Records of one type by store key, and by the groups that they are asked for in."""

    def __init__(
        self,
        kind: type[R],
        groups: Callable[[R], Sequence[tuple[str, ...]]] = lambda _: (),
        tally: Callable[[R], str | None] = lambda _: None,
    ) -> None:
        """`tally`: what a record is counted under; far cheaper than a group where nobody asks for its members."""
        self.kind = kind
        self._groups_of = groups
        self._tally_of = tally
        self._tallies: dict[str, int] = {}
        self._rows: dict[str, Kept[R]] = {}
        self._groups: dict[tuple[str, ...], dict[str, R]] = {}

    def __iter__(self) -> Iterator[str]:
        return iter(self._rows)

    def kept(self, key: str) -> Kept[R] | None:
        return self._rows.get(key)

    def get(self, key: str) -> R | None:
        kept = self._rows.get(key)
        return None if kept is None else kept.record

    def all(self, *group: str) -> list[R]:
        if not group:
            return [kept.record for kept in self._rows.values()]
        return list(self._groups.get(group, {}).values())

    def set(self, key: str, record: R, revision: int) -> None:
        self.drop(key)
        self._rows[key] = Kept(record, revision)
        for group in self._groups_of(record):
            self._groups.setdefault(group, {})[key] = record
        self._count(record, 1)

    def drop(self, key: str) -> None:
        kept = self._rows.pop(key, None)
        if kept is None:
            return
        for group in self._groups_of(kept.record):
            members = self._groups[group]
            del members[key]
            if not members:
                del self._groups[group]
        self._count(kept.record, -1)

    def tallied(self, word: str) -> int:
        """How many records are counted under this."""
        return self._tallies.get(word, 0)

    def size(self, *group: str) -> int:
        """How many are in the group."""
        return len(self._groups.get(group, ()))

    def _count(self, record: R, step: int) -> None:
        word = self._tally_of(record)
        if word is None:
            return
        count = self._tallies.get(word, 0) + step
        if count:
            self._tallies[word] = count
        else:
            del self._tallies[word]


class Journal:
    """Events in order of their revision. Never goes back behind what was once dropped."""

    def __init__(self) -> None:
        self._events: list[Event] = []
        self._floor = 0

    def __len__(self) -> int:
        return len(self._events)

    @property
    def last(self) -> int:
        return self._events[-1].revision if self._events else self._floor

    @property
    def trimmed(self) -> int:
        # They are numbered without gaps, and an older process may have dropped some.
        return self._events[0].revision - 1 if self._events else self._floor

    def add(self, event: Event) -> None:
        """Take it in, unless it is there already or was dropped before."""
        position = self._position(event.revision)
        known = position > 0 and self._events[position - 1].revision == event.revision
        if event.revision > self._floor and not known:
            self._events.insert(position, event)

    def drop(self, revision: int) -> None:
        """Forget all up to this one."""
        del self._events[: self._position(revision)]
        self._floor = max(self._floor, revision)

    def oldest(self, count: int) -> Sequence[Event]:
        return self._events[:count]

    def select(
        self, deployment: str | None, service: str | None, *, after: int, limit: int | None
    ) -> Sequence[Event]:
        found = list[Event]()
        for index in range(len(self._events) - 1, self._position(after) - 1, -1):
            event = self._events[index]
            if limit is not None and len(found) >= limit:
                break
            if deployment in (None, event.deployment) and service in (None, event.service):
                found.append(event)
        found.reverse()
        return found

    def backwards(self, *, after: int, before: int | None) -> Iterator[Event]:
        end = len(self._events) if before is None else self._position(before - 1)
        return (self._events[index] for index in range(end - 1, self._position(after) - 1, -1))

    def forwards(self, *, after: int) -> Iterator[Event]:
        return (self._events[index] for index in range(self._position(after), len(self._events)))

    def _position(self, revision: int) -> int:
        """How many have this revision or a lower one."""
        return bisect_right(self._events, revision, key=attrgetter("revision"))


class Mirror:
    """Reading of everything that is kept; all calls are synchronous and cheap, results never change."""

    def __init__(self) -> None:
        self._deployments = _Table(Deployment)
        self._services = _Table(Service, lambda each: [(each.deployment,)], _reference_of_code)
        self._versions = _Table(Version, lambda each: [(each.deployment, each.service)], _reference_of)
        self._runs = _Table(Run, lambda each: [(each.deployment, each.service)])
        self._resources = _Table(Resource, lambda each: [(each.deployment,)])
        self._builds = _Table(Build, _groups_of_build)
        self._users = _Table(User)
        self._keys = _Table(SshKey, lambda each: [(each.user,)])
        self._tokens = _Table(Token, lambda each: [(each.user,)])
        self._receipts = _Table(Receipt)
        self._domains = _Table(Address)
        self._journal = Journal()
        self._tables: Mapping[str, _Table[Any]] = {
            "deployments": self._deployments,
            "services": self._services,
            "versions": self._versions,
            "builds": self._builds,
            "runs": self._runs,
            "resources": self._resources,
            "users": self._users,
            "keys": self._keys,
            "tokens": self._tokens,
            "receipts": self._receipts,
            "domains": self._domains,
        }

    def deployment(self, name: str) -> Deployment | None:
        return self._deployments.get(f"deployments/{name}")

    def deployments(self) -> Sequence[Deployment]:
        """Sorted by name."""
        return sorted(self._deployments.all(), key=attrgetter("name"))

    def service(self, deployment: str, name: str) -> Service | None:
        return self._services.get(f"services/{deployment}/{name}")

    def services(self, deployment: str | None = None) -> Sequence[Service]:
        """Of one deployment or of all; sorted by deployment and name."""
        group = () if deployment is None else (deployment,)
        return sorted(self._services.all(*group), key=attrgetter("deployment", "name"))

    def domain_owner(self, domain: str) -> Address | None:
        """The service that has this domain among its `domains` (not the derived default one)."""
        return self._domains.get(domain_key(domain))

    def version(self, deployment: str, service: str, number: int) -> Version | None:
        return self._versions.get(version_key(deployment, service, number))

    def versions(self, deployment: str, service: str) -> Sequence[Version]:
        """Newest first."""
        return sorted(self._versions.all(deployment, service), key=attrgetter("number"), reverse=True)

    def count_versions(self, deployment: str, service: str) -> int:
        return self._versions.size(deployment, service)

    def count_holders(self, reference: str) -> int:
        """How many versions, and held services, have the artifact of this reference."""
        return self._versions.tallied(reference) + self._services.tallied(reference)

    def build(self, build: str) -> Build | None:
        return self._builds.get(f"builds/{build}")

    def builds(self, deployment: str | None = None, service: str | None = None) -> Sequence[Build]:
        """Newest first; of all, of one deployment, or of one service (then name its deployment too)."""
        group = tuple(each for each in (deployment, service) if each is not None)
        return sorted(self._builds.all(*group), key=_opened, reverse=True)

    def run(self, run: str) -> Run | None:
        return self._runs.get(f"runs/{run}")

    def runs(self, deployment: str | None = None, service: str | None = None) -> Sequence[Run]:
        """Newest first; of all, or of one service."""
        group = () if deployment is None or service is None else (deployment, service)
        return sorted(
            self._runs.all(*group),
            key=lambda each: (each.created_at or _LONG_AGO, each.number, each.kind),
            reverse=True,
        )

    def resource(self, deployment: str, name: str) -> Resource | None:
        return self._resources.get(f"resources/{deployment}/{name}")

    def resources(self, deployment: str | None = None) -> Sequence[Resource]:
        """Of one deployment or of all; sorted by deployment and name."""
        group = () if deployment is None else (deployment,)
        return sorted(self._resources.all(*group), key=attrgetter("deployment", "name"))

    def builds_under_way(self) -> Sequence[Build]:
        """Of all services, in the order in which they were opened."""
        return sorted(self._builds.all(*_UNDER_WAY), key=_opened)

    def builds_unreleased(self) -> Sequence[Build]:
        """Those that made an artifact of which there is no version, of all services, in no order."""
        return self._builds.all(*_UNRELEASED)

    def user(self, name: str) -> User | None:
        return self._users.get(f"users/{name}")

    def users(self) -> Sequence[User]:
        """Sorted by name."""
        return sorted(self._users.all(), key=attrgetter("name"))

    def key(self, fingerprint: str) -> SshKey | None:
        return self._keys.get(ssh_key_key(fingerprint))

    def keys(self, user: str | None = None) -> Sequence[SshKey]:
        """Of one user or of all; sorted by user and name."""
        group = () if user is None else (user,)
        return sorted(self._keys.all(*group), key=attrgetter("user", "name", "fingerprint"))

    def token(self, sha256: str) -> Token | None:
        return self._tokens.get(f"tokens/{sha256}")

    def tokens(self, user: str | None = None) -> Sequence[Token]:
        """Of one user or of all; sorted by user and id."""
        group = () if user is None else (user,)
        return sorted(self._tokens.all(*group), key=attrgetter("user", "id"))

    def receipt(self, receipt: str) -> Receipt | None:
        return self._receipts.get(f"receipts/{receipt}")

    def receipts(self) -> Sequence[Receipt]:
        """Oldest first."""
        return sorted(self._receipts.all(), key=attrgetter("created_at", "id"))

    def events(
        self,
        deployment: str | None = None,
        service: str | None = None,
        *,
        after: int = 0,
        limit: int | None = None,
    ) -> Sequence[Event]:
        """The newest `limit` (None: all kept) with a revision above `after`, oldest first."""
        return self._journal.select(deployment, service, after=after, limit=limit)

    def earlier_events(self, *, after: int = 0, before: int | None = None) -> Iterator[Event]:
        """Newest first, one by one: for whoever looks for a few. Not to be kept over an `await`."""
        return self._journal.backwards(after=after, before=before)

    def later_events(self, *, after: int = 0) -> Iterator[Event]:
        """Oldest first, one by one. Not to be kept over an `await`."""
        return self._journal.forwards(after=after)

    @property
    def trimmed_events(self) -> int:
        """Revision of the newest event that is no longer kept; 0 when all of them are."""
        return self._journal.trimmed

    @property
    def last_event(self) -> int:
        """Revision of the newest event; `follow_events(after=…)` from here tells only what is new."""
        return self._journal.last

    # What `State` feeds it with

    def _kept(self, key: str) -> Kept[Any] | None:
        return self._tables[key.partition("/")[0]].kept(key)

    def _revision(self, key: str) -> int:
        """That of a record that is here; 0 when it is not, and for events, which never change."""
        table = self._tables.get(key.partition("/")[0])
        kept = table and table.kept(key)
        return kept.revision if kept else 0

    def _kept_keys(self) -> Sequence[str]:
        """Of all records; the journal's are not among them."""
        return [key for table in self._tables.values() for key in table]

    def _set(self, key: str, value: Any, revision: int) -> set[tuple[str, str]]:
        """Take one key's JSON value in (None: it is gone); what it touched, as in `State.changes`.

        Keys of other kinds are none of ours and left alone. Raises WireError.
        """
        kind = key.partition("/")[0]
        if kind == "events":
            self._set_event(key, value)
            return set()
        table = self._tables.get(kind)
        if table is None:
            return set()
        old = table.get(key)
        if value is None:
            table.drop(key)
            return _touched(old)
        record = from_json(table.kind, value)
        table.set(key, record, revision)
        return _touched(old) | _touched(record)

    def _set_event(self, key: str, value: Any) -> None:
        if value is None:
            self._journal.drop(int(key.partition("/")[2]))
        else:
            self._journal.add(from_json(Event, value))


def _groups_of_build(build: Build) -> Sequence[tuple[str, ...]]:
    groups: list[tuple[str, ...]] = [(build.deployment,), (build.deployment, build.service)]
    if build.status.under_way:
        groups.append(_UNDER_WAY)
    if build.artifact is not None and build.version is None:
        groups.append(_UNRELEASED)
    return groups


def _reference_of(version: Version) -> str | None:
    return version.artifact.reference if version.artifact else None


def _reference_of_code(service: Service) -> str | None:
    return service.code.artifact.reference if service.code else None


def _opened(build: Build) -> tuple[datetime, str]:
    return build.queued_at or build.started_at or _LONG_AGO, build.id


def _touched(record: Any) -> set[tuple[str, str]]:
    match record:
        case Deployment():
            return {(record.name, "")}
        case Resource():
            return {(record.deployment, "")}
        case Service():
            return {(record.deployment, record.name)}
        case Version() | Build() | Run():
            return {(record.deployment, record.service)}
    return set()
