"""A routing table in memory that steps are taken on: what any router's table becomes by them."""

from collections.abc import Iterable, Mapping
from dataclasses import replace

from router.changelog import ChangeLog
from router.diff import (
    AddPool,
    AddTarget,
    DrainTarget,
    DropDomain,
    DropPool,
    EndMaintenance,
    MoveTarget,
    PointDomain,
    SetGuards,
    SetMaintenance,
    Step,
)
from router.types import Pool, Target


class TableModel:
    """Each step costs the pools that it is about, however many there are."""

    def __init__(self, pools: Mapping[str, Pool] | None = None) -> None:
        self.pools: dict[str, Pool] = dict(pools or {})
        self.domains: dict[str, str] = {
            domain: each.name for each in self.pools.values() for domain in each.domains
        }
        """Domain to pool."""
        self.owners: dict[str, str] = {
            target.id: each.name for each in self.pools.values() for target in each.targets
        }
        """Id of a routed target to its pool."""
        self.changes = ChangeLog()

    def take(self, steps: Iterable[Step]) -> None:
        for step in steps:
            self._take(step)

    def _take(self, step: Step) -> None:
        match step:
            case AddPool(pool):
                self._set(Pool(pool, frozenset(), frozenset()))
            case AddTarget(pool, target) | MoveTarget(pool, target):
                self._set(
                    replace(self.pools[pool], targets=self._targets_without(pool, target.id) | {target})
                )
                self.owners[target.id] = pool
            case PointDomain(domain, pool):
                self._drop_domain(domain)
                self.domains[domain] = pool
                self._set(replace(self.pools[pool], domains=self.pools[pool].domains | {domain}))
            case SetMaintenance(pool, page):
                self._set(replace(self.pools[pool], maintenance=True, page=page))
            case EndMaintenance(pool):
                self._set(replace(self.pools[pool], maintenance=False, page=""))
            case SetGuards(pool, guards):
                self._set(replace(self.pools[pool], guards=guards))
            case DropDomain(domain):
                self._drop_domain(domain)
            case DrainTarget(pool, target_id):
                self._set(replace(self.pools[pool], targets=self._targets_without(pool, target_id)))
                if self.owners.get(target_id) == pool:
                    del self.owners[target_id]
            case DropPool(pool):
                del self.pools[pool]
                self.changes.note(pool)

    def _targets_without(self, pool: str, target: str) -> frozenset[Target]:
        return frozenset(each for each in self.pools[pool].targets if each.id != target)

    def _drop_domain(self, domain: str) -> None:
        owner = self.domains.pop(domain, None)
        if owner is not None:
            self._set(replace(self.pools[owner], domains=self.pools[owner].domains - {domain}))

    def _set(self, pool: Pool) -> None:
        self.pools[pool.name] = pool
        self.changes.note(pool.name)
