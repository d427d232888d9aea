"""Making room: old versions and builds, slugs that nothing holds, unpacked slugs that nothing runs, build caches.

It runs after each change of a service's versions and on an interval. Records go first, files after
that, so that being killed in between leaves files without a record at most, which the next turn finds.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Iterator
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from controller.operations.builds import BuildOperations
from controller.operations.runtime import Runtime
from controller.operations.text import size_text
from controller.state import Delete, EventDraft, State, delete
from controller.store.base import StoreError
from controller.types import ArtifactKind, BuildStatus, Service, Version
from controller.upkeep.retention import needed_versions, surplus_versions
from controller.upkeep.storage import Removed, Storage
from controller.views import Collected

log = logging.getLogger(__name__)

Key = tuple[str, str]

UNRELEASED = timedelta(minutes=10)
"""A build's artifact is kept so long for the version that is about to be made of it."""
AT_ONCE = 50
"""Versions of one service that one turn forgets at most."""
BREATH = 50
"""Services after which a full turn lets others have the event loop."""
PAUSE = 1.0
"""Seconds between two turns after changes, so that several changes make one."""


@dataclass(frozen=True, kw_only=True)
class Policy:
    """What is kept; the settings of the same names."""

    keep_versions: int = 20
    cache_limit: int = 2 * 1024**3


class Collector:
    def __init__(
        self,
        state: State,
        runtime: Runtime,
        storage: Storage,
        builds: BuildOperations,
        policy: Policy,
        *,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._state = state
        self._runtime = runtime
        self._storage = storage
        self._builds = builds
        self._policy = policy
        self._clock = clock
        self._turn = asyncio.Lock()
        self._seen: dict[Key, tuple[int | None, int | None, int]] = {}

    async def follow(self) -> None:
        """Collect what changes leave behind, until cancelled."""
        async for touched in self._state.changes():
            try:
                await self.collect_changed(touched)
            except (StoreError, OSError) as error:
                log.warning("collecting after a change failed: %s; the next full turn tries again", error)
            await asyncio.sleep(PAUSE)

    async def collect_changed(self, touched: AbstractSet[Key]) -> Collected:
        """What these services have too much of; nothing for those whose versions are as they were."""
        async with self._turn:
            if self._is_blind():
                return Collected()
            keys = [key for key in sorted(touched) if self._has_changed(key)]
            if not keys:
                return Collected()
            freed, versions = await self._forget_versions(keys)
            free = {each for each in freed if not self._is_held(each)}
            slugs = await self._storage.remove_slugs(free) if free else Removed()
            apps = await self._storage.collect_apps(self._is_unpacked_needed, keys)
            images = await self._storage.collect_images(self._is_held) if versions else Removed()
            return _collected(versions, 0, slugs, apps, Removed(), images)

    async def collect(self, *, room: int = 0, actor: str = "") -> Collected:
        """A full turn over everything. `room`: bytes that are needed, for which caches in use by nobody go, too."""
        async with self._turn:
            versions, apps = 0, Removed()
            if not self._is_blind():
                keys = [(each.deployment, each.name) for each in self._state.services()]
                _, versions = await self._forget_versions(keys)
                apps = await self._storage.collect_apps(self._is_unpacked_needed)
            builds = await self._builds.trim()
            slugs = await self._storage.collect_slugs(self._is_held)
            caches = await self._collect_caches(room - slugs.size - apps.size)
            images = await self._collect_images()
            collected = _collected(versions, builds, slugs, apps, caches, images)
            if collected.size or collected.images or actor:
                await self._state.commit(events=[_event(collected, actor)])
            return collected

    async def _collect_images(self) -> Removed:
        """Last, and no reason to give up the rest: an engine may be away."""
        try:
            return await self._storage.collect_images(self._is_held)
        except OSError as error:
            log.warning("images not collected error=%s", error)
            return Removed()

    async def collect_slugs(self) -> Removed:
        """Archives that nothing holds."""
        async with self._turn:
            return await self._storage.collect_slugs(self._is_held)

    async def purge_cache(self, deployment: str, service: str) -> Removed:
        """The build cache of one service, unless a build works with it."""
        return await self._storage.remove_cache(
            deployment, service, in_use=lambda: self._builds_now(deployment, service)
        )

    # Versions

    async def _forget_versions(self, keys: list[Key]) -> tuple[set[str], int]:
        """References of slugs that may be free now, and how many versions went."""
        freed: set[str] = set()
        count = 0
        for number, key in enumerate(keys):
            if number % BREATH == 0:
                await asyncio.sleep(0)
            if self._state.count_versions(*key) > self._policy.keep_versions:
                gone = await self._forget_of(key)
                count += len(gone)
                if len(gone) == AT_ONCE:
                    self._seen.pop(key, None)  # the rest follows with the change that this was
                freed |= {each.artifact.reference for each in gone if _has_slug(each) and each.artifact}
        return freed, count

    async def _forget_of(self, key: Key) -> list[Version]:
        gone: list[Version] = []

        def decide() -> Iterator[Delete | EventDraft]:
            gone.clear()
            service = self._state.service(*key)
            if service is None or self._is_blind():
                return
            versions = self._state.versions(*key)
            running = self._running(key)
            surplus = surplus_versions(service, versions, running=running, keep=self._policy.keep_versions)
            gone[:] = surplus[:AT_ONCE]
            if gone:
                yield from map(delete, gone)
                yield self._told(service, gone)

        await self._state.transact(decide)
        return gone

    def _told(self, service: Service, gone: list[Version]) -> EventDraft:
        numbers = [each.number for each in gone]
        slugs = Counter(each.artifact.reference for each in gone if each.artifact and _has_slug(each))
        sizes = {each.artifact.reference: each.artifact.size for each in gone if each.artifact}
        freed = {
            reference: sizes[reference]
            for reference, count in slugs.items()
            if self._state.count_holders(reference) == count and not self._is_about_to_be_released(reference)
        }
        names = (
            f"v{numbers[0]}"
            if len(numbers) == 1
            else f"{len(numbers)} versions, v{numbers[0]} to v{numbers[-1]},"
        )
        return EventDraft(
            kind="versions.collected",
            deployment=service.deployment,
            service=service.name,
            text=f"{names} and {_counted(len(freed), 'slug')} of {size_text(sum(freed.values()))} were collected "
            f"({self._policy.keep_versions} are kept)",
            data={"versions": numbers, "slugs": len(freed), "bytes": sum(freed.values())},
        )

    def _running(self, key: Key) -> frozenset[int]:
        """Versions that instances are of, or runs that are not over."""
        instances = {each.version for each in self._runtime.instances(*key)}
        return frozenset(
            instances | {each.version for each in self._state.runs(*key) if not each.status.over}
        )

    def _is_blind(self) -> bool:
        """Whether it is not known what runs."""
        return bool(self._runtime.problems())

    def _has_changed(self, key: Key) -> bool:
        service = self._state.service(*key)
        if service is None:
            self._seen.pop(key, None)
            return False
        now = (service.current, service.target, service.latest)
        if self._seen.get(key) == now:
            return False
        self._seen[key] = now
        versions = self._state.versions(*key)
        self._storage.forget_fresh([each.artifact.reference for each in versions if each.artifact])
        return True

    # Files

    def _is_held(self, reference: str) -> bool:
        """Whether a version or a held service has the artifact, or a build of which a version is about to be made."""
        return bool(self._state.count_holders(reference)) or self._is_about_to_be_released(reference)

    def _is_about_to_be_released(self, reference: str) -> bool:
        since = self._clock() - UNRELEASED
        return any(
            each.artifact is not None
            and each.artifact.reference == reference
            and each.finished_at is not None
            and each.finished_at > since
            for each in self._state.builds_unreleased()
        )

    def _is_unpacked_needed(self, deployment: str, service: str, reference: str) -> bool:
        """Whether something runs in it, or soon may: what is wanted, what a rollback goes back to, a new build's."""
        found = self._state.service(deployment, service)
        if found is None or self._is_blind():
            return True  # its removal takes care of it; or it is not known what runs
        if found.code is not None and found.code.artifact.reference == reference:
            return True
        versions = self._state.versions(deployment, service)
        needed = needed_versions(found, versions, self._running((deployment, service)))
        if any(
            each.number in needed and each.artifact and each.artifact.reference == reference
            for each in versions
        ):
            return True
        return self._is_about_to_be_released(reference)

    async def _collect_caches(self, room: int) -> Removed:
        """Those not used for the longest time, until all are within the limit and there is so much more room."""
        caches = sorted(await self._storage.caches(), key=lambda each: each.used_at)
        surplus = max(sum(each.size for each in caches) - self._policy.cache_limit, room)
        gone = Removed()
        for each in caches:
            if gone.size >= surplus:
                break
            gone += await self.purge_cache(each.deployment, each.service)
        return gone

    def _builds_now(self, deployment: str, service: str) -> bool:
        return any(
            (each.deployment, each.service) == (deployment, service)
            for each in self._state.builds_under_way()
            if each.status is BuildStatus.RUNNING
        )


def _has_slug(version: Version) -> bool:
    return version.artifact is not None and version.artifact.kind is ArtifactKind.SLUG


def _collected(
    versions: int, builds: int, slugs: Removed, apps: Removed, caches: Removed, images: Removed
) -> Collected:
    return Collected(
        versions=versions,
        builds=builds,
        slugs=slugs.count,
        apps=apps.count,
        caches=caches.count,
        images=images.count,
        size=slugs.size + apps.size + caches.size,
    )


def _event(collected: Collected, actor: str) -> EventDraft:
    counts = {
        "version": collected.versions,
        "build": collected.builds,
        "slug": collected.slugs,
        "unpacked app": collected.apps,
        "build cache": collected.caches,
        "image": collected.images,
    }
    parts = [_counted(count, noun) for noun, count in counts.items() if count]
    freed = f"{', '.join(parts)}: {size_text(collected.size)} are free again"
    return EventDraft(
        kind="disk.collected",
        actor=actor,
        text=f"Collected {freed}" if parts else "Nothing was there to be collected",
        data={
            "versions": collected.versions,
            "builds": collected.builds,
            "slugs": collected.slugs,
            "apps": collected.apps,
            "caches": collected.caches,
            "images": collected.images,
            "bytes": collected.size,
        },
    )


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}{'s' * (count != 1)}"
