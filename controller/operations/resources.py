"""Resources of a deployment: making them, giving them to services, saving what they have."""

import asyncio
import secrets
import socket
from collections import defaultdict
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from datetime import datetime

from controller.backends.base import BackendError, SupportsPublishing, SupportsRun
from controller.deliveries import DeliveryStep, Mark
from controller.difference import HIDDEN
from controller.errors import Conflict, InvalidInput, NotFound, Refused, Unavailable
from controller.names import Address, check_env_name, check_name
from controller.operations.access import Actor
from controller.operations.backupplans import (
    KEEP,
    WantedBackups,
    filed_plan,
    plan_info,
    plan_text,
    planned,
    wanted_backups,
    wanted_of,
)
from controller.operations.backupturns import take_turn
from controller.operations.facts import facts_of
from controller.operations.lookup import get_deployment, get_service
from controller.operations.newservices import NewServices
from controller.operations.resourceservers import server_of, told
from controller.operations.runtime import Runtime
from controller.operations.services import ServiceOperations
from controller.plugins.exec import KIND as EXEC_KIND
from controller.plugins.exec import SECTION as EXEC
from controller.plugins.exec import declared
from controller.plugins.resources import (
    PREFIX,
    SECTION,
    UNATTACHED,
    Wanted,
    attachments,
    has_server,
    is_unmade,
)
from controller.plugins.resources import declared as declared_resources
from controller.resources.backups import BackupStore, BackupStores, find_backup
from controller.resources.base import PROCESS, ResourceDriver, ResourceError, Surroundings
from controller.resources.beside import feed, output_of
from controller.state import Delete, EventDraft, Put, State, delete, put
from controller.types import Artifact, Deployment, InstanceState, Resource, ResourceStatus, Right, Service
from controller.upkeep.storage import Storage
from controller.views import BackupInfo, Change, ResourceInfo

PORTS = range(31000, 32000)
"""One for each server for good: the URL that services have must stay as it is."""

MakeSlug = Callable[[str, str], Awaitable[Artifact]]
"""An empty slug for that service (deployment, name): its programs are the machine's, or an image's."""


class ResourceOperations:
    def __init__(
        self,
        state: State,
        runtime: Runtime,
        services: ServiceOperations,
        births: NewServices,
        storage: Storage,
        *,
        drivers: Mapping[str, ResourceDriver],
        make_slug: MakeSlug,
        image: str,
        backups: BackupStores,
        clock: Callable[[], datetime],
    ) -> None:
        """`image`: what servers run in on a backend of containers."""
        self._state = state
        self._runtime = runtime
        self._services = services
        self._births = births
        self._storage = storage
        self._drivers = drivers
        self._make_slug = make_slug
        self._image = image
        self._backups = backups
        self._clock = clock
        self._busy: Mapping[tuple[str, str], asyncio.Lock] = defaultdict(asyncio.Lock)

    # What there is

    def list(self, asker: Actor, deployment: str) -> Sequence[ResourceInfo]:
        """By name; commands of `Exec` are not among them."""
        get_deployment(self._state, asker, deployment, Right.VIEW)
        return [
            self._info(asker, each) for each in self._state.resources(deployment) if each.kind != EXEC_KIND
        ]

    def get(self, asker: Actor, deployment: str, name: str) -> ResourceInfo:
        return self._info(asker, self._find(asker, deployment, name, Right.VIEW))

    async def create(
        self, asker: Actor, deployment: str, kind: str, name: str, *, url: str | None = None
    ) -> ResourceInfo:
        """A server of its own, or with `url` one that is kept elsewhere. Raises InvalidInput, Conflict, Refused."""
        get_deployment(self._state, asker, deployment, Right.OPERATE)
        driver = self._driver(kind)
        check_name(name, "resource name")
        if url is None:
            await self._create_server(asker, deployment, kind, name, driver)
        else:
            await self._create_external(asker, deployment, kind, name, driver.external(url))
        self._runtime.wake()
        return self.get(asker, deployment, name)

    async def fail(self, asker: Actor, deployment: str, name: str, wanted: Wanted, why: str) -> None:
        """Write down why one that the service file wants can't be made."""

        def decide() -> Iterator[Put | EventDraft]:
            get_deployment(self._state, asker, deployment, Right.OPERATE)
            before = self._state.resource(deployment, name)
            if before is not None and (not is_unmade(before) or before.failure == why):
                return
            resource = Resource(
                deployment=deployment,
                name=name,
                kind=wanted.kind,
                status=ResourceStatus.FAILED,
                failure=why,
                created_at=self._clock(),
                created_by=asker.name,
            )
            yield put(resource)
            yield told(resource, "resource.failed", f"{name} failed: {why}", asker.name)

        await self._state.transact(decide)

    async def fail_attachment(self, asker: Actor, address: Address, name: str, why: str) -> None:
        """The same of one that can't be given to a service."""

        def decide() -> Iterator[Put | EventDraft]:
            resource = self._find(asker, address.deployment, name, Right.OPERATE)
            unattached = resource.settings.get(UNATTACHED, {})
            if unattached.get(address.service) != why:
                unattached = {**unattached, address.service: why}
                yield put(replace(resource, settings={**resource.settings, UNATTACHED: unattached}))
                text = f"{name} can't be attached to {address.service}: {why}"
                yield told(resource, "resource.failed", text, asker.name)

        await self._state.transact(decide)

    def check_kind(self, kind: str) -> None:
        """Raise InvalidInput for one that has no driver."""
        self._driver(kind)

    async def destroy(self, asker: Actor, deployment: str, name: str) -> None:
        """Its server goes with all data; its backups stay on the disk. Raises Conflict while it is attached."""
        resource = self._find(asker, deployment, name, Right.MANAGE)
        section = get_deployment(self._state, asker, deployment, Right.MANAGE).globals.get(SECTION)
        if name in declared_resources(section):
            raise Conflict(
                f"{name} is in the section Resources of the service file, which would make it anew: take it out there, "
                "and deploy that first."
            )
        there = [each for each in resource.attached if self._state.service(deployment, each) is not None]
        if there:
            raise Conflict(
                f"{name} is attached to {', '.join(sorted(there))}: detach it first (resources:detach)."
            )
        if has_server(resource) and self._state.service(deployment, name) is not None:
            await self._storage.give_up_volumes(deployment, name)
            await self._services.destroy(asker, Address(deployment, name))

        def decide() -> Iterator[Delete | EventDraft]:
            now = self._find(asker, deployment, name, Right.MANAGE)
            yield delete(now)
            yield told(now, "resource.destroyed", f"{name} was destroyed", asker.name)

        await self._state.transact(decide)

    # Services that have it

    async def attach(self, asker: Actor, address: Address, name: str, *, prefix: str = "") -> Change:
        """Its values go into the service's config, by a new version. Raises Conflict where that has other ones."""
        if prefix and not PREFIX.fullmatch(prefix):
            raise InvalidInput("prefix", "The prefix must be of capital letters, digits and _, as in CACHE.")
        deployment = address.deployment

        def checked() -> tuple[Resource, Service, Mapping[str, str]]:
            resource = self._find(asker, deployment, name, Right.OPERATE)
            service = get_service(self._state, asker, address, Right.OPERATE)
            self._check_attachable(resource, service.name, prefix)
            values = self._variables(resource, prefix)
            taken = [
                each for each, value in values.items() if service.definition.env.get(each, value) != value
            ]
            if taken:
                raise Conflict(
                    f"{address} has {taken[0]} already, with another value: unset it, or attach {name} under names of "
                    f"its own (--as {check_env_name(name.upper().replace('-', '_').replace('.', '_'))})."
                )
            return resource, service, values

        def decide() -> Iterator[Put | EventDraft]:
            resource, service, _ = checked()
            if service.name not in resource.attached:
                unattached = resource.settings.get(UNATTACHED, {})
                left = {each: why for each, why in unattached.items() if each != service.name}
                yield put(
                    replace(
                        resource,
                        attached={**resource.attached, service.name: prefix},
                        settings={**resource.settings, UNATTACHED: left} if unattached else resource.settings,
                    )
                )
                yield told(resource, "resource.attached", f"{name} is attached to {service.name}", asker.name)

        # Only then is it said to be attached: a service that waits for that has its variables by then.
        change = await self._services.change_config(asker, address, values=checked()[2])
        await self._state.transact(decide)
        return change

    async def detach(self, asker: Actor, address: Address, name: str) -> Change:
        """The variables go, by a new version. That the service itself is gone is no error."""
        resource = self._find(asker, address.deployment, name, Right.OPERATE)
        if address.service not in resource.attached:
            raise NotFound(f"{name} is not attached to {address}.")
        self._check_not_filed(address, name)
        change = Change(version=None)
        if self._state.service(address.deployment, address.service) is not None:
            names = self._variables(resource, resource.attached[address.service])
            change = await self._services.change_config(asker, address, values={}, drop=list(names))

        def decide() -> Iterator[Put | EventDraft]:
            now = self._find(asker, address.deployment, name, Right.OPERATE)
            left = {key: each for key, each in now.attached.items() if key != address.service}
            yield put(replace(now, attached=left))
            yield told(now, "resource.detached", f"{name} is detached from {address.service}", asker.name)

        await self._state.transact(decide)
        return change

    def _check_not_filed(self, address: Address, name: str) -> None:
        """What the service file attaches would be attached again at once."""
        deployment = self._state.deployment(address.deployment)
        wanted = declared_resources(deployment.globals.get(SECTION)).get(name) if deployment else None
        if deployment is None or wanted is None:
            return
        if address.service in attachments(facts_of(self._state, deployment), name, wanted):
            raise Refused(
                f"The service file attaches {name} to {address.service}, by its section Resources: take it out there "
                "(`attach`, or `require`), and deploy the file."
            )

    # Its data

    async def backups(self, asker: Actor, deployment: str, name: str) -> Sequence[BackupInfo]:
        """Newest first."""
        resource = self._find(asker, deployment, name, Right.VIEW)
        return await self._backups_of(resource).list()

    async def schedule_backups(
        self,
        asker: Actor,
        deployment: str,
        name: str,
        schedule: str | None,
        *,
        keep: int = KEEP,
        days: int = 0,
    ) -> ResourceInfo:
        """Back it up at these times from now on; None: no longer. Raises InvalidInput, Refused."""
        wanted = None if schedule is None else wanted_backups(schedule, keep, days)

        def decide() -> Iterator[Put | EventDraft]:
            resource = self._find(asker, deployment, name, Right.OPERATE)
            if wanted is not None:
                _check_own(resource)
            plan = planned(wanted, resource.backup, self._clock())
            if plan != resource.backup:
                yield put(replace(resource, backup=plan))
            if wanted != wanted_of(resource.backup):
                yield told(resource, "resource.schedule", plan_text(name, plan), asker.name)

        await self._state.transact(decide)
        return self.get(asker, deployment, name)

    async def back_up_by_plan(self, deployment: str, name: str) -> None:
        """A turn of its schedule: one more backup, and those that are too many go. That it fails is kept and told.

        Raises Conflict where it is being backed up or restored just now: then the turn still is to come.
        """
        resource = self._state.resource(deployment, name)
        if resource is None or resource.backup is None:
            return

        async def make() -> BackupInfo:
            _check_own(resource)
            return await self._made(resource, scheduled=True)

        turn = await take_turn(name, resource.backup, self._backups_of(resource), make, self._clock)

        def decide() -> Iterator[Put | EventDraft]:
            now = self._state.resource(deployment, name)
            if now is None:
                return
            if now.backup is not None:
                yield put(replace(now, backup=turn.after(now.backup)))
            yield told(now, "resource.backup_failed" if turn.failure else "resource.backup", turn.text)

        await self._state.transact(decide)

    def backup(self, asker: Actor, deployment: str, name: str) -> AsyncGenerator[DeliveryStep, None]:
        """How a new one is made. Where it breaks off nothing of it stays."""
        return self._backup(asker, self._served(asker, deployment, name))

    async def _backup(self, asker: Actor, resource: Resource) -> AsyncGenerator[DeliveryStep, None]:
        name = resource.name
        yield DeliveryStep(mark=Mark.STEP, text=f"Backing up {name}")
        made = await self._made(resource, asker.name)
        text = f"{name} was backed up as {made.id} ({made.size} bytes)"
        await self._state.commit(events=[told(resource, "resource.backup", text, asker.name)])
        yield DeliveryStep(mark=Mark.LINE, text=f"{made.id}, {made.size} bytes")
        yield DeliveryStep(mark=Mark.DONE, text=made.id)

    async def _made(self, resource: Resource, actor: str = "", *, scheduled: bool = False) -> BackupInfo:
        store = self._backups_of(resource)
        async with self._alone(resource):
            await store.sweep()
            async with aclosing(self._dump(resource)) as pieces:
                return await store.keep(pieces, self._clock(), actor, scheduled=scheduled)

    def restore(
        self, asker: Actor, deployment: str, name: str, backup: str | None = None
    ) -> AsyncGenerator[DeliveryStep, None]:
        """Make a backup, the newest without a name, all that it has. Where that fails its data stay as they were."""
        return self._restore(asker, self._served(asker, deployment, name), backup)

    async def _restore(
        self, asker: Actor, resource: Resource, backup: str | None
    ) -> AsyncGenerator[DeliveryStep, None]:
        store = self._backups_of(resource)
        found = await find_backup(store, backup)
        yield DeliveryStep(
            mark=Mark.STEP, text=f"Restoring {resource.name} as of {found.created_at:%Y-%m-%d %H:%M:%S} UTC"
        )
        async with aclosing(store.pieces(found)) as pieces:
            text = await self._fed(resource, pieces, asker, f"backup {found.id}")
        yield DeliveryStep(mark=Mark.LINE, text=text)
        yield DeliveryStep(mark=Mark.DONE, text=found.id)

    def export(self, asker: Actor, deployment: str, name: str) -> AsyncGenerator[bytes, None]:
        """The same data as of a backup, piece by piece. Raises where not all of it comes."""
        return self._export(self._served(asker, deployment, name))

    async def _export(self, resource: Resource) -> AsyncGenerator[bytes, None]:
        async with self._alone(resource), aclosing(self._dump(resource)) as pieces:
            async for piece in pieces:
                yield piece

    async def import_(
        self, asker: Actor, deployment: str, name: str, pieces: AsyncIterator[bytes]
    ) -> ResourceInfo:
        """What `export` gave becomes all that it has; a failure leaves its data as they were."""
        resource = self._served(asker, deployment, name)
        await self._fed(resource, pieces, asker, "an import")
        return self.get(asker, deployment, name)

    async def _fed(self, resource: Resource, pieces: AsyncIterator[bytes], asker: Actor, what: str) -> str:
        backend, instance = self._running(resource)
        async with self._alone(resource):
            await feed(backend, instance, self._driver(resource.kind).restore(), pieces)
        text = f"{resource.name} has the data of {what}"
        await self._state.commit(events=[told(resource, "resource.restored", text, asker.name)])
        return text

    async def _dump(self, resource: Resource) -> AsyncGenerator[bytes, None]:
        backend, instance = self._running(resource)
        command = self._driver(resource.kind).backup()
        async with aclosing(output_of(backend, instance, command)) as pieces:
            async for piece in pieces:
                yield piece

    @asynccontextmanager
    async def _alone(self, resource: Resource) -> AsyncIterator[None]:
        """One of these at a time for each resource; what goes wrong in the words of people."""
        lock = self._busy[resource.deployment, resource.name]
        if lock.locked():
            raise Conflict(f"{resource.name} is being backed up or restored already: wait for that.")
        async with lock:
            try:
                yield
            except ResourceError as error:
                kind = Unavailable if error.retryable else Refused
                raise kind(f"{resource.name}: {error}.".replace("..", ".")) from error
            except OSError as error:
                raise Unavailable(
                    f"The backup of {resource.name} can't be kept: {error.strerror or error}."
                ) from error

    # Making one

    async def _create_server(
        self, asker: Actor, deployment: str, kind: str, name: str, driver: ResourceDriver
    ) -> None:
        self._check_free(deployment, name)
        place = await self._surroundings()
        port = await asyncio.to_thread(self._free_port, place.host)
        try:
            server = driver.server(port, secrets.token_hex(24), place)
        except ResourceError as error:
            raise Refused(str(error)) from error
        slug = replace(await self._make_slug(deployment, name), runner=place.image)
        publish = {f"{place.host}:{port}": port} if place.image else {}

        def decide() -> Iterator[Put | EventDraft]:
            found = get_deployment(self._state, asker, deployment, Right.OPERATE)
            self._check_free(deployment, name)
            if port in self._ports():
                raise Conflict("Somebody was faster with this port: try again.")
            resource = Resource(
                deployment=deployment,
                name=name,
                kind=kind,
                values=server.values,
                settings={"plan": dict(server.plan), "port": port, "backups": secrets.token_hex(8)},
                backup=filed_plan(_filed_backups(found, name), None, self._clock()),
                created_at=self._clock(),
                created_by=asker.name,
            )
            service = self._births.new(asker, Address(deployment, name))
            yield put(resource)
            yield told(resource, "resource.created", f"{name} was created", asker.name)
            yield from server_of(service, found, server, slug, publish, asker, self._clock())

        await self._state.transact(decide)

    async def _surroundings(self) -> Surroundings:
        backend = self._runtime.backend
        if not isinstance(backend, SupportsPublishing):
            return Surroundings()
        try:
            return Surroundings(host=await backend.inner_address(), image=self._image)
        except BackendError as error:
            raise Unavailable(
                f"The backend can't make room for a server: {error}.".replace("..", ".")
            ) from error

    async def _create_external(
        self, asker: Actor, deployment: str, kind: str, name: str, values: Mapping[str, str]
    ) -> None:
        def decide() -> Iterator[Put | EventDraft]:
            get_deployment(self._state, asker, deployment, Right.OPERATE)
            self._check_free(deployment, name)
            resource = Resource(
                deployment=deployment,
                name=name,
                kind=kind,
                status=ResourceStatus.READY,
                values=values,
                settings={"external": True},
                created_at=self._clock(),
                created_by=asker.name,
            )
            yield put(resource)
            yield told(resource, "resource.created", f"{name} was created, kept elsewhere", asker.name)

        await self._state.transact(decide)

    def _check_free(self, deployment: str, name: str) -> None:
        found = self._state.deployment(deployment)
        taken = found is not None and name in declared(found.globals.get(EXEC))
        there = self._state.resource(deployment, name)
        if taken or (there and not is_unmade(there)) or self._state.service(deployment, name):
            raise Conflict(f"{deployment} has a service or a resource {name} already: choose another name.")

    def _ports(self) -> set[int]:
        return {each.settings["port"] for each in self._state.resources() if "port" in each.settings}

    def _free_port(self, host: str) -> int:
        taken = self._ports()
        for port in PORTS:
            if port in taken:
                continue
            with socket.socket() as probe:
                try:
                    probe.bind((host, port))
                except OSError:
                    continue
                return port
        raise Refused(f"No port from {PORTS.start} to {PORTS.stop - 1} is free for one more server.")

    # Looking

    def _driver(self, kind: str) -> ResourceDriver:
        if kind not in self._drivers:
            known = ", ".join(sorted(self._drivers)) or "none"
            raise InvalidInput("kind", f"There is no kind of resource {kind[:40]!a}. Known are: {known}.")
        return self._drivers[kind]

    def _find(self, asker: Actor, deployment: str, name: str, right: Right) -> Resource:
        get_deployment(self._state, asker, deployment, right)
        resource = self._state.resource(deployment, name)
        if resource is None or resource.kind == EXEC_KIND:
            raise NotFound(f"{deployment} has no resource {name[:60]!a} (see `resources`).")
        return resource

    def _served(self, asker: Actor, deployment: str, name: str) -> Resource:
        """One whose data we may take and change. Raises Refused for one that is kept elsewhere."""
        resource = self._find(asker, deployment, name, Right.OPERATE)
        _check_own(resource)
        self._running(resource)
        return resource

    def _running(self, resource: Resource) -> tuple[SupportsRun, str]:
        backend = self._runtime.backend
        if not isinstance(backend, SupportsRun):
            raise Refused("The backend of this server can't run commands beside an instance.")
        for each in self._runtime.instances(resource.deployment, resource.name):
            if each.process_type == PROCESS and each.state is InstanceState.RUNNING:
                return backend, each.id
        address = Address(resource.deployment, resource.name)
        raise Unavailable(f"The server of {resource.name} does not run now: `ps -a {address}` tells more.")

    def _check_attachable(self, resource: Resource, service: str, prefix: str) -> None:
        if resource.status is not ResourceStatus.READY:
            why = resource.failure or "its server has not come up yet"
            raise Conflict(f"{resource.name} is not ready: {why}.")
        if service == resource.name and not resource.settings.get("external"):
            raise Refused(f"{service} is the server of {resource.name} itself.")
        if resource.attached.get(service, prefix) != prefix:
            raise Conflict(
                f"{resource.name} is attached to {service} already, under other names: detach it first."
            )

    def _variables(self, resource: Resource, prefix: str) -> Mapping[str, str]:
        return self._driver(resource.kind).bind(resource.values, prefix)

    def _backups_of(self, resource: Resource) -> BackupStore:
        # Under a name of its own: who makes one of the same name again does not find those of another.
        token = resource.settings.get("backups", "external")
        return self._backups(f"{resource.deployment}.{resource.name}.{token}")

    def _info(self, asker: Actor, resource: Resource) -> ResourceInfo:
        shown = asker.may(resource.deployment, Right.DEPLOY)
        return ResourceInfo(
            deployment=resource.deployment,
            name=resource.name,
            kind=resource.kind,
            status=resource.status,
            failure=resource.failure,
            external=bool(resource.settings.get("external")),
            attached=resource.attached,
            plan=resource.settings.get("plan", {}),
            backup=plan_info(resource.backup),
            values=resource.values if shown else dict.fromkeys(resource.values, HIDDEN),
            created_at=resource.created_at,
            created_by=resource.created_by,
        )


def _filed_backups(deployment: Deployment, name: str) -> WantedBackups | None:
    """What the service file says of a resource of this name."""
    wanted = declared_resources(deployment.globals.get(SECTION)).get(name)
    return None if wanted is None else wanted.backup


def _check_own(resource: Resource) -> None:
    if resource.settings.get("external"):
        raise Refused(f"{resource.name} is kept elsewhere: back it up and restore it where its server is.")
