"""A router without a proxy: it keeps the table, and says what would answer."""

import time
from collections import deque
from collections.abc import Iterable, Sequence
from itertools import count

from router.access import AccessBatch, AccessLine, AccessLogs, Fault, fair_share
from router.diff import DrainTarget, Step, checked, find_steps, touched
from router.model import TableModel
from router.types import Pool, Table, Target

KEPT_REQUESTS = 10_000
"""Requests that are remembered until somebody asks for them."""


class MemoryRouter:
    """Obeys the contract of `router.base.Router`, in this process and for as long as it lives."""

    def __init__(self, *, access_logs: AccessLogs = AccessLogs.OFF) -> None:
        """`access_logs`: what `take_access` tells of."""
        self._access_logs = access_logs
        self._forget()

    def _forget(self) -> None:
        self._model = TableModel()
        self._draining: set[str] = set()
        self._in_work: dict[str, int] = {}
        self._turn = count()
        self._requests = deque[AccessLine](maxlen=KEPT_REQUESTS)
        self._lost = 0
        self.steps: list[Step] = []
        """Everything that was ever done, oldest first."""

    async def start(self) -> None:
        """There is nothing to start."""

    async def table(self, *, after: str = "") -> Table:
        model = self._model
        draining = {target: self._in_work.get(target, 0) for target in self._draining}
        changed = model.changes.since(after) if after else None
        if changed is None:
            return Table(dict(model.pools), draining, model.changes.cursor)
        pools = {name: model.pools[name] for name in changed if name in model.pools}
        gone = frozenset(changed) - pools.keys()
        return Table(pools, draining, model.changes.cursor, complete=False, gone=gone)

    async def apply(self, pools: Iterable[Pool]) -> None:
        now = self._model.pools
        self._perform(find_steps(now, checked(pools, known=now)))

    async def change(self, pools: Iterable[Pool], *, gone: Iterable[str] = ()) -> None:
        now = self._model.pools
        wanted = checked(pools, known=now, owners=self._model.owners)
        self._perform(find_steps(touched(now, wanted, gone), wanted))

    async def remove(self, target: str) -> None:
        if target in self._draining:
            self._draining.remove(target)
            self._in_work.pop(target, None)

    async def close(self) -> None:
        """There is nothing to let go of."""

    async def shutdown(self) -> None:
        self._forget()

    def find_answer(self, host: str) -> tuple[int, Target | None]:
        """Status and target that a request for `host` would get: 404 for an unknown one, 503 without targets
        and in maintenance, 401 where it needs a password."""
        name = host.lower()
        labels = name.split(".")
        wildcards = (f"*.{'.'.join(labels[start:])}" for start in range(1, len(labels)))
        found = next((each for each in (name, *wildcards) if each in self._model.domains), None)
        if found is None:
            return 404, None
        pool = self._model.pools[self._model.domains[found]]
        if not pool.maintenance and found in dict(pool.guards):
            return 401, None
        targets = [] if pool.maintenance else sorted(pool.targets)
        target = targets[next(self._turn) % len(targets)] if targets else None
        self._log(pool, name, target)
        return (200, target) if target else (503, None)

    async def take_access(self, *, most: int) -> AccessBatch:
        pools: dict[str, list[AccessLine]] = {}
        while self._requests:
            line = self._requests.popleft()
            pools.setdefault(line.pool, []).append(line)
        share = fair_share([len(each) for each in pools.values()], most)
        lines = [line for each in pools.values() for line in each[:share]]
        skipped = {name: len(each) - share for name, each in pools.items() if len(each) > share}
        lost, self._lost = self._lost, 0
        return AccessBatch(lines, skipped, lost)

    def set_in_work(self, target: str, requests: int) -> None:
        """Pretend that a target works on that many requests."""
        self._in_work[target] = requests

    def _log(self, pool: Pool, host: str, target: Target | None) -> None:
        if self._access_logs is AccessLogs.OFF or (self._access_logs is AccessLogs.ERRORS and target):
            return
        self._lost += len(self._requests) == KEPT_REQUESTS
        without = Fault.MAINTENANCE if pool.maintenance else Fault.NO_TARGET
        self._requests.append(
            AccessLine(
                ended_at=time.time(),
                pool=pool.name,
                target=target.id if target else "",
                fault=None if target else without,
                status=200 if target else 503,
                size=0,
                connect=0,
                service=0,
                client="127.0.0.1",
                method="GET",
                host=host,
                path="/",
                request_id="",
            )
        )

    def _perform(self, steps: Sequence[Step]) -> None:
        self._model.take(steps)
        drained = {step.target for step in steps if isinstance(step, DrainTarget)}
        self._draining = {each for each in self._draining | drained if each not in self._model.owners}
        self.steps += steps
