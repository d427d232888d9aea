"""What a router tells of the requests that it took."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple


class AccessLogs(StrEnum):
    """Which requests are told of."""

    ON = "on"
    ERRORS = "errors"
    """Those that failed, and answers with a status of 500 and above."""
    OFF = "off"


class Fault(StrEnum):
    """Why a request did not get a whole answer from its target."""

    NO_TARGET = "no-target"
    """None was there that takes requests."""
    MAINTENANCE = "maintenance"
    REFUSED = "refused"
    """No target took the connection."""
    CONNECT_TIMEOUT = "connect-timeout"
    QUEUE_TIMEOUT = "queue-timeout"
    """The target was busy with as many requests as it takes."""
    ANSWER_TIMEOUT = "answer-timeout"
    NO_ANSWER = "no-answer"
    """The target closed the connection before it answered."""
    BAD_ANSWER = "bad-answer"
    """The target's answer is no HTTP."""
    CUT_OFF = "cut-off"
    """The target broke off in the middle of its answer, or was removed."""
    IDLE = "idle"
    """Nothing came from the target, or went to the client, for too long in the middle of an answer."""
    CLIENT_GONE = "client-gone"
    CLIENT_TIMEOUT = "client-timeout"
    """The request did not come as a whole in time."""
    BAD_REQUEST = "bad-request"
    ROUTER = "router"
    """The router itself was short of something."""


class AccessLine(NamedTuple):
    """One request, once it has ended. What clients can choose is printable ASCII, without spaces and quotes."""

    ended_at: float
    """Seconds since the epoch."""
    pool: str
    target: str
    """Its id; empty where none took it."""
    fault: Fault | None
    status: int
    size: int
    """Bytes sent to the client."""
    connect: int
    """Milliseconds until the target took the connection."""
    service: int
    """Milliseconds from there to the end of the answer."""
    client: str
    """IP address that the request came from."""
    method: str
    host: str
    path: str
    """Without the query, which may hold secrets."""
    request_id: str


@dataclass(frozen=True)
class AccessBatch:
    """The requests that ended since somebody last asked."""

    lines: Sequence[AccessLine] = ()
    skipped: Mapping[str, int] = field(default_factory=dict)
    """Pool to the number of its requests that are not in `lines`, because there were too many."""
    lost: int = 0
    """Requests of any pool that there was no room for while nobody asked."""


def fair_share(counts: Iterable[int], most: int) -> int:
    """How many of each pool to take, so that there are `most` at the most in all: those with few lose none."""
    left = most
    ordered = sorted(counts)
    for position, count in enumerate(ordered):
        share = left // (len(ordered) - position)
        if count > share:
            return share
        left -= count
    return ordered[-1] if ordered else 0
