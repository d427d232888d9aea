"""A router without a proxy: it keeps the table, and says what would answer."""

from collections.abc import Iterable, Sequence
from itertools import count

from router.diff import DrainTarget, Step, checked, find_steps, touched
from router.model import TableModel
from router.types import Pool, Table, Target


class MemoryRouter:
    """Obeys the contract of `router.base.Router`, in this process and for as long as it lives."""

    def __init__(self) -> None:
        self._forget()

    def _forget(self) -> None:
        self._model = TableModel()
        self._draining: set[str] = set()
        self._in_work: dict[str, int] = {}
        self._turn = count()
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
        and in maintenance."""
        name = host.lower()
        labels = name.split(".")
        wildcards = (f"*.{'.'.join(labels[start:])}" for start in range(1, len(labels)))
        found = next((each for each in (name, *wildcards) if each in self._model.domains), None)
        if found is None:
            return 404, None
        pool = self._model.pools[self._model.domains[found]]
        targets = [] if pool.maintenance else sorted(pool.targets)
        return (200, targets[next(self._turn) % len(targets)]) if targets else (503, None)

    def set_in_work(self, target: str, requests: int) -> None:
        """Pretend that a target works on that many requests."""
        self._in_work[target] = requests

    def _perform(self, steps: Sequence[Step]) -> None:
        self._model.take(steps)
        drained = {step.target for step in steps if isinstance(step, DrainTarget)}
        self._draining = {each for each in self._draining | drained if each not in self._model.owners}
        self.steps += steps
