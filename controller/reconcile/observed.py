"""What is, as the last look at backend and router showed it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property

from controller.types import Instance
from router.types import Pool


@dataclass(frozen=True, kw_only=True)
class ObservedService:
    """What is there of one service."""

    instances: Sequence[Instance] = ()
    ready: frozenset[str] = frozenset()
    """Ids of instances that run and have passed their health check since they last started."""
    probes: Mapping[str, str] = field(default_factory=dict)
    """Id of an instance that is not ready, to what its last probe said."""
    probed_since: Mapping[str, datetime] = field(default_factory=dict)
    """Id of an instance that is not ready, to when this controller first probed it."""
    stopping: frozenset[str] = frozenset()
    """Ids of instances that are being stopped right now."""
    pool: Pool | None = None
    """What the router does for it."""
    draining: Mapping[str, int] = field(default_factory=dict)
    """Id of an instance out of the routing, to the number of requests it still works on."""
    draining_since: Mapping[str, datetime] = field(default_factory=dict)

    @cached_property
    def routed(self) -> frozenset[str]:
        """Ids of the targets that get requests."""
        return frozenset(each.id for each in self.pool.targets) if self.pool else frozenset()

    start_failure: str = ""
    """Why the backend could not start an instance of the goal; empty when it could."""
