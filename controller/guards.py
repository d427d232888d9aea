"""Guards of domains as a router takes them. Pure."""

from collections.abc import Mapping

import router.types as routed
from controller.types import Guard


def routed_guards(guards: Mapping[str, Guard]) -> frozenset[tuple[str, routed.Guard]]:
    """Domain by domain."""
    return frozenset(
        (domain, routed.Guard(routed.GuardMode(guard.mode), tuple(sorted(guard.users.items()))))
        for domain, guard in guards.items()
    )
