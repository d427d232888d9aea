"""The server's disk: what uses it, and making room."""

from collections.abc import Sequence

from controller.errors import Refused
from controller.names import Address
from controller.operations.access import Actor
from controller.operations.lookup import address_of, get_service
from controller.state import EventDraft, State
from controller.types import ArtifactKind, Right, Service
from controller.upkeep.storage import Kind
from controller.upkeep.upkeep import Upkeep
from controller.views import Collected, DiskReport, ServiceUsage


class DiskOperations:
    def __init__(self, state: State, upkeep: Upkeep) -> None:
        self._state = state
        self._upkeep = upkeep

    async def report(self, asker: Actor) -> DiskReport:
        """All of it, measured now; for admins. Services that use most come first."""
        asker.require_admin("see what uses the disk")
        await self._upkeep.disk.look()
        usage = await self._upkeep.storage.usage()
        services = [await self._usage_of(each) for each in self._state.services()]
        return DiskReport(
            space=self._upkeep.disk.space(),
            usage={kind.value: size for kind, size in usage.items()},
            services=tuple(sorted(services, key=lambda each: sum(each.usage.values()), reverse=True)),
        )

    async def usage(self, asker: Actor, address: Address) -> ServiceUsage:
        return await self._usage_of(get_service(self._state, asker, address, Right.VIEW))

    async def collect(self, asker: Actor) -> Collected:
        """Remove what nothing needs, now; for admins."""
        asker.require_admin("make room on the disk")
        return await self._upkeep.collector.collect(actor=asker.name)

    async def purge_cache(self, asker: Actor, address: Address) -> int:
        """Remove the build cache of a service; its bytes. Raises Refused while a build works with it."""
        service = get_service(self._state, asker, address, Right.DEPLOY)
        removed = await self._upkeep.collector.purge_cache(service.deployment, service.name)
        if not removed.count and (await self._usage_of(service)).usage.get(Kind.CACHES):
            raise Refused(
                f"A build of {address_of(service)} works with its cache: wait for it, or cancel it."
            )
        if removed.count:
            event = EventDraft(
                kind="cache.purged",
                deployment=service.deployment,
                service=service.name,
                actor=asker.name,
                text="its build cache was purged",
                data={"bytes": removed.size},
            )
            await self._state.commit(events=[event])
        return removed.size

    async def _usage_of(self, service: Service) -> ServiceUsage:
        slugs = _slugs(self._state, service)
        builds = [each.id for each in self._state.builds(service.deployment, service.name)]
        usage = await self._upkeep.storage.usage_of(
            service.deployment, service.name, slugs=slugs, builds=builds
        )
        return ServiceUsage(
            deployment=service.deployment,
            service=service.name,
            usage={kind.value: size for kind, size in usage.items()},
        )


def _slugs(state: State, service: Service) -> Sequence[str]:
    found = {
        each.artifact.reference
        for each in state.versions(service.deployment, service.name)
        if each.artifact is not None and each.artifact.kind is ArtifactKind.SLUG
    }
    return sorted(found)
