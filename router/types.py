"""What a router is told: which domain goes to which targets."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


@dataclass(frozen=True, order=True)
class Target:
    """One place that answers requests."""

    id: str
    """The instance's id: letters, digits, `-`, `_` and `.`; unique over the table."""
    address: str
    port: int


MAX_PAGE = 8 * 1024
"""Bytes of a maintenance page: a proxy keeps it in memory and gives it out in one buffer."""


class GuardMode(StrEnum):
    """How a client shows that it knows a password."""

    DIGEST = "digest"
    """HTTP Digest: the password itself is not sent."""
    BASIC = "basic"


@dataclass(frozen=True, order=True)
class Guard:
    """Who may ask for a domain. A router keeps no password, only what shows that somebody knows it."""

    mode: GuardMode
    users: tuple[tuple[str, str], ...]
    """Names, in order, each with the hash of the password: of digest the hex MD5 of `name:protected:password`, of
    basic `SALT$HASH` with the hex SHA-256 of the salt and the password after it."""


@dataclass(frozen=True)
class Inner:
    """A port within the machine that leads to a pool's targets, as plain connections: for other apps."""

    port: int
    """At the router's inner address."""
    group: str
    """Who may connect: those admitted to it (`SupportsInnerPorts.admit`). Letters, digits and `-`."""
    leads: frozenset[tuple[str, int]] | None = None
    """Ids of targets, each with that port of it which is meant; others have no such port. None: of each target the one
    at which it takes requests."""


@dataclass(frozen=True)
class Pool:
    """The targets of one process; several domains may lead to it. Requests are spread over all targets."""

    name: str
    """Unique over the table: `<deployment>/<service>`."""
    domains: frozenset[str]
    """Lower-case host names; `*.example.org` matches one or more labels in front."""
    targets: frozenset[Target]
    """Empty: the domains are known and answered with 503."""
    maintenance: bool = False
    """The router answers every new request itself, with 503; the targets stay, and are checked as before."""
    page: str = ""
    """HTML of that answer, `MAX_PAGE` bytes at most; empty: the router's own. Line breaks may become spaces."""
    guards: frozenset[tuple[str, Guard]] = frozenset()
    """Domains of the pool whose requests need a password; at most one guard for each."""
    inner: frozenset[Inner] = frozenset()
    """Where it is reached from within; only of routers with that power."""


@dataclass(frozen=True)
class Table:
    """The routing table, or what changed of it, and what is on its way out of it."""

    pools: Mapping[str, Pool] = field(default_factory=dict)
    """Pool name to pool: all of them, or (where not `complete`) those that changed."""
    draining: Mapping[str, int] = field(default_factory=dict)
    """Id of a target that gets no new requests, to the number of requests it still works on."""
    """Always all of them."""
    cursor: str = ""
    """To be given to the next look, which then may tell only what has changed; empty: it never does."""
    complete: bool = True
    gone: frozenset[str] = frozenset()
    """Where not `complete`: names of pools that are there no more."""
