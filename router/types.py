"""What a router is told: which domain goes to which targets."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, order=True)
class Target:
    """One place that answers requests."""

    id: str
    """The instance's id: letters, digits, `-`, `_` and `.`; unique over the table."""
    address: str
    port: int


@dataclass(frozen=True)
class Pool:
    """The targets of one process; several domains may lead to it. Requests are spread over all targets."""

    name: str
    """Unique over the table: `<deployment>/<service>`."""
    domains: frozenset[str]
    """Lower-case host names; `*.example.org` matches one or more labels in front."""
    targets: frozenset[Target]
    """Empty: the domains are known and answered with 503."""


@dataclass(frozen=True)
class Table:
    """The whole routing table, and what is on its way out of it."""

    pools: Mapping[str, Pool] = field(default_factory=dict)
    """Pool name to pool."""
    draining: Mapping[str, int] = field(default_factory=dict)
    """Id of a target that gets no new requests, to the number of requests it still works on."""
