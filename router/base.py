"""The contract of a router."""

from collections.abc import Iterable
from typing import Protocol, runtime_checkable

from router.access import AccessBatch
from router.types import Pool, Table


class RouterError(Exception):
    """The router could not be changed or asked; what it did before it goes on doing."""

    retryable = True


class Router(Protocol):
    """All calls are idempotent and raise RouterError only."""

    async def start(self) -> None:
        """Make sure that the proxy runs: adopt one that an earlier controller left, or start it."""

    async def table(self, *, after: str = "") -> Table:
        """What the proxy really does now, not what it was last told.

        `after`: the cursor of an earlier look. The answer may then hold only what changed since; what others
        than this router did to the proxy's table need not show before a look without it.
        """

    async def change(self, pools: Iterable[Pool], *, gone: Iterable[str] = ()) -> None:
        """Make these pools so, take away those named in `gone`, and leave all others; else as `apply`."""

    async def apply(self, pools: Iterable[Pool]) -> None:
        """Make the table equal to this, touching only what differs. Returns when it is in effect.

        New targets take requests before old ones lose them. A target that left is drained: it gets
        no new requests, keeps those it works on, and shows up in `table().draining` until `remove`.
        """

    async def remove(self, target: str) -> None:
        """Forget a draining target, cutting what it still works on. Unknown or still routed: nothing."""

    async def close(self) -> None:
        """Let go of connections. The proxy keeps serving."""

    async def shutdown(self) -> None:
        """End the proxy too. For removing an installation and for demos."""


@runtime_checkable
class SupportsAccessLogs(Protocol):
    """Tells of requests. To be asked several times a second, by one reader."""

    async def take_access(self, *, most: int) -> AccessBatch:
        """Those that ended since the last call, of each pool in the order of their end. Does not wait for any.

        At most `most` lines: where there are more, each pool has an equal share, so that those with many lose
        some, which are counted. Nothing of this ever holds a request up: what ends while nobody asks,
        or while the controller is down, is kept within bounds, and what is beyond them is counted as lost.
        Requests for unknown domains, or which never became one, are not told of.
        """


@runtime_checkable
class SupportsInnerPorts(Protocol):
    """Leads `Pool.inner` to its targets: plain connections, from within the machine."""

    async def inner_address(self) -> str:
        """The IP address at which these ports are, and take connections from now on; it stays as long as the machine's
        networks do. Raises RouterError."""

    async def admit(self, group: str, address: str) -> None:
        """Let connections from that address through to the ports of the group, from now on; the machine's own come
        through everywhere. One address is in one group. Raises RouterError."""

    async def dismiss(self, address: str) -> None:
        """The opposite. What is connected stays so. Raises RouterError."""
