"""What runs and what is routed, put together from looks that may tell only what has changed."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime

from controller.backends.base import Observation
from controller.reconcile.desired import Key
from controller.reconcile.routing import pool_name
from controller.types import Instance
from router.types import Pool, Table

_NOTHING: Mapping[str, Instance] = {}


class Sight:
    """Kept by service, so that a change costs what it changes. Empty before the first look."""

    def __init__(self) -> None:
        self.instances_cursor = ""
        self.table_cursor = ""
        """Up to where the last look at each of both went; empty asks for everything."""
        self._instances: dict[Key, dict[str, Instance]] = {}
        self._keys: dict[str, Key] = {}
        """Id of an instance to its service."""
        self._pools: dict[Key, Pool] = {}
        self._draining: Mapping[str, int] = {}
        self._draining_since: dict[str, datetime] = {}

    def forget_cursors(self) -> None:
        """Look at everything the next time."""
        self.instances_cursor = self.table_cursor = ""

    def take(self, observation: Observation, table: Table, now: datetime) -> set[Key]:
        """The services of which something looks different now."""
        changed = self._take_instances(observation) | self._take_pools(table)
        self._draining = table.draining
        self._draining_since = {each: self._draining_since.get(each, now) for each in table.draining}
        self.instances_cursor, self.table_cursor = observation.cursor, table.cursor
        return changed

    def keys(self) -> set[Key]:
        """All services of which there is anything."""
        return {*self._instances, *self._pools}

    def instances(self, key: Key) -> Sequence[Instance]:
        return tuple(self._instances.get(key, _NOTHING).values())

    def instances_of_deployment(self, deployment: str) -> Iterator[Instance]:
        for key, instances in self._instances.items():
            if key[0] == deployment:
                yield from instances.values()

    def present(self, ids: Iterable[str]) -> Sequence[str]:
        """Those of them that there are."""
        return [each for each in ids if each in self._keys]

    def pool(self, key: Key) -> Pool | None:
        return self._pools.get(key)

    def draining(self, ids: Sequence[str]) -> Mapping[str, int]:
        """Those that are out of the routing, to the number of requests they still work on."""
        return {each: self._draining[each] for each in ids if each in self._draining}

    def draining_since(self, ids: Sequence[str]) -> Mapping[str, datetime]:
        return {each: self._draining_since[each] for each in ids if each in self._draining_since}

    def lost_targets(self) -> Sequence[str]:
        """Those that drain and have no instance any more."""
        return sorted(each for each in self._draining if each not in self._keys)

    def _take_instances(self, observation: Observation) -> set[Key]:
        changed = {key for each in observation.instances if (key := self._set_instance(each)) is not None}
        gone = observation.gone
        if observation.complete:
            present = {each.id for each in observation.instances}
            gone = frozenset(each for each in self._keys if each not in present)
        return changed | {key for each in gone if (key := self._drop_instance(each)) is not None}

    def _set_instance(self, instance: Instance) -> Key | None:
        key = (instance.deployment, instance.service)
        known = self._instances.get(key, _NOTHING).get(instance.id)
        if known is instance or known == instance:
            return None
        self._instances.setdefault(key, {})[instance.id] = instance
        self._keys[instance.id] = key
        return key

    def _drop_instance(self, name: str) -> Key | None:
        key = self._keys.pop(name, None)
        if key is not None:
            del self._instances[key][name]
            if not self._instances[key]:
                del self._instances[key]
        return key

    def _take_pools(self, table: Table) -> set[Key]:
        seen = {key_of_pool(name): pool for name, pool in table.pools.items()}
        gone = {key_of_pool(name) for name in table.gone} & self._pools.keys()
        if table.complete:
            gone = self._pools.keys() - seen.keys()
        changed = {
            key for key, pool in seen.items() if (known := self._pools.get(key)) is not pool and known != pool
        }
        for key in gone:
            del self._pools[key]
        self._pools |= {key: seen[key] for key in changed}
        return changed | gone


def key_of_pool(name: str) -> Key:
    """The opposite of `routing.pool_name`. A pool that none of ours is named like has a key that is no service's."""
    deployment, slash, service = name.partition("/")
    key = (deployment, service)
    return key if slash and pool_name(key) == name else (name, "")
