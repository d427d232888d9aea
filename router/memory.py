"""A router without a proxy: it keeps the table, and says what would answer."""

from collections.abc import Iterable
from itertools import count

from router.diff import (
    AddPool,
    AddTarget,
    DrainTarget,
    DropDomain,
    DropPool,
    MoveTarget,
    PointDomain,
    Step,
    checked,
    find_steps,
)
from router.types import Pool, Table, Target


class MemoryRouter:
    """Obeys the contract of `router.base.Router`, in this process and for as long as it lives."""

    def __init__(self) -> None:
        self._targets: dict[str, dict[str, Target]] = {}
        self._domains: dict[str, str] = {}
        self._draining: dict[str, int] = {}
        self._in_work: dict[str, int] = {}
        self._turn = count()
        self.steps: list[Step] = []
        """Everything that `apply` did, oldest first."""

    async def start(self) -> None:
        """There is nothing to start."""

    async def table(self) -> Table:
        return Table(self._pools(), {target: self._in_work.get(target, 0) for target in self._draining})

    async def apply(self, pools: Iterable[Pool]) -> None:
        now = self._pools()
        steps = find_steps(now, checked(pools, known=now))
        for step in steps:
            self._perform(step)
        self.steps += steps

    async def remove(self, target: str) -> None:
        if self._draining.pop(target, None) is not None:
            self._in_work.pop(target, None)

    async def close(self) -> None:
        """There is nothing to let go of."""

    async def shutdown(self) -> None:
        self.__init__()  # type: ignore[misc]

    def find_answer(self, host: str) -> tuple[int, Target | None]:
        """Status and target that a request for `host` would get: 404 for an unknown one, 503 without targets."""
        name = host.lower()
        labels = name.split(".")
        wildcards = (f"*.{'.'.join(labels[start:])}" for start in range(1, len(labels)))
        found = next((each for each in (name, *wildcards) if each in self._domains), None)
        if found is None:
            return 404, None
        targets = sorted(self._targets[self._domains[found]].values())
        return (200, targets[next(self._turn) % len(targets)]) if targets else (503, None)

    def set_in_work(self, target: str, requests: int) -> None:
        """Pretend that a target works on that many requests."""
        self._in_work[target] = requests

    def _pools(self) -> dict[str, Pool]:
        domains: dict[str, set[str]] = {}
        for domain, pool in self._domains.items():
            domains.setdefault(pool, set()).add(domain)
        return {
            name: Pool(name, frozenset(domains.get(name, ())), frozenset(targets.values()))
            for name, targets in self._targets.items()
        }

    def _perform(self, step: Step) -> None:
        match step:
            case AddPool(pool):
                self._targets[pool] = {}
            case AddTarget(pool, target) | MoveTarget(pool, target):
                self._targets[pool][target.id] = target
                self._draining.pop(target.id, None)
            case PointDomain(domain, pool):
                self._domains[domain] = pool
            case DropDomain(domain):
                del self._domains[domain]
            case DrainTarget(pool, target_id):
                del self._targets[pool][target_id]
                if not any(target_id in targets for targets in self._targets.values()):
                    self._draining[target_id] = 0
            case DropPool(pool):
                del self._targets[pool]
