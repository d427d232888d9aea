"""Saving what is in a volume, and taking it back."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, replace
from datetime import datetime

from controller.deliveries import DeliveryStep, Mark
from controller.errors import Conflict, InvalidInput, NotFound, Refused, Unavailable
from controller.names import Address
from controller.operations.access import Actor
from controller.operations.backupplans import (
    KEEP,
    plan_info,
    plan_text,
    planned,
    wanted_backups,
    wanted_of,
)
from controller.operations.backupturns import take_turn
from controller.operations.lookup import address_of, get_service
from controller.operations.runtime import Runtime
from controller.plugins.resources import has_server
from controller.resources.backups import BackupStore, BackupStores, find_backup
from controller.resources.base import ResourceError
from controller.resources.beside import LONGEST
from controller.state import EventDraft, Put, State, put
from controller.types import Right, Service
from controller.upkeep.backups import rests
from controller.upkeep.storage import BadArchive, Storage
from controller.views import BackupInfo, VolumeSchedule


@dataclass(frozen=True)
class _Volume:
    service: Service
    name: str

    @property
    def key(self) -> tuple[str, str, str]:
        return self.service.deployment, self.service.name, self.name

    def __str__(self) -> str:
        return f"the volume {self.name} of {address_of(self.service)}"


class VolumeBackups:
    """`name` of a call: one that the service's definition has."""

    def __init__(
        self,
        state: State,
        runtime: Runtime,
        storage: Storage,
        *,
        backups: BackupStores,
        clock: Callable[[], datetime],
    ) -> None:
        self._state = state
        self._runtime = runtime
        self._storage = storage
        self._backups = backups
        self._clock = clock
        self._busy: Mapping[tuple[str, str, str], asyncio.Lock] = defaultdict(asyncio.Lock)

    async def list(self, asker: Actor, address: Address, name: str) -> Sequence[BackupInfo]:
        """Newest first."""
        return await self._store(self._found(asker, address, name, Right.VIEW)).list()

    def backup(self, asker: Actor, address: Address, name: str) -> AsyncGenerator[DeliveryStep, None]:
        """How a new one is made, while the service may run. Where it breaks off nothing of it stays."""
        return self._backup(asker, self._found(asker, address, name, Right.OPERATE))

    async def _backup(self, asker: Actor, volume: _Volume) -> AsyncGenerator[DeliveryStep, None]:
        yield DeliveryStep(mark=Mark.STEP, text=f"Backing up {volume}")
        if why := self._user_of(volume):
            yield DeliveryStep(
                mark=Mark.LINE, text=f"{why}: files that change meanwhile are of different moments"
            )
        made = await self._made(volume, asker.name)
        text = f"its volume {volume.name} was backed up as {made.id} ({made.size} bytes)"
        await self._state.commit(
            events=[told_volume(volume.service, volume.name, "volume.backup", text, asker.name)]
        )
        yield DeliveryStep(mark=Mark.LINE, text=f"{made.id}, {made.size} bytes")
        yield DeliveryStep(mark=Mark.DONE, text=made.id)

    # By schedule

    def scheduled(self, asker: Actor, address: Address, name: str) -> VolumeSchedule:
        """Also of one that the definition has no more."""
        service = get_service(self._state, asker, address, Right.VIEW)
        if name not in service.backups:
            self._found(asker, address, name, Right.VIEW)
        return _schedule(service, name)

    async def schedule(
        self,
        asker: Actor,
        address: Address,
        name: str,
        schedule: str | None,
        *,
        keep: int = KEEP,
        days: int = 0,
    ) -> VolumeSchedule:
        """Back it up at these times from now on; None: no longer, also where the definition has it no more. Raises
        InvalidInput, Refused."""
        wanted = None if schedule is None else wanted_backups(schedule, keep, days)

        def decide() -> Iterator[Put | EventDraft]:
            service = get_service(self._state, asker, address, Right.OPERATE)
            before = service.backups.get(name)
            if wanted is not None or before is None:
                self._found(asker, address, name, Right.OPERATE)
            plan = planned(wanted, before, self._clock())
            left = {each: plan for each, plan in service.backups.items() if each != name}
            if plan != before:
                yield put(replace(service, backups=left if plan is None else {**left, name: plan}))
            if wanted != wanted_of(before):
                text = plan_text(f"its volume {name}", plan)
                yield told_volume(service, name, "volume.schedule", text, asker.name)

        await self._state.transact(decide)
        return _schedule(get_service(self._state, asker, address, Right.OPERATE), name)

    async def back_up_by_plan(self, deployment: str, service: str, name: str) -> None:
        """A turn of its schedule: one more backup, and those that are too many go. That it fails is kept and told.

        Raises Conflict where it is being saved or restored just now: then the turn still is to come.
        """
        found = self._state.service(deployment, service)
        if found is None or name not in found.backups or rests(found, name):
            return
        volume = _Volume(found, name)

        async def make() -> BackupInfo:
            return await self._made(volume, scheduled=True)

        turn = await take_turn(
            f"its volume {name}", found.backups[name], self._store(volume), make, self._clock
        )

        def decide() -> Iterator[Put | EventDraft]:
            now = self._state.service(deployment, service)
            if now is None or now.created_at != found.created_at:
                return
            if name in now.backups:
                yield put(replace(now, backups={**now.backups, name: turn.after(now.backups[name])}))
            yield told_volume(
                now, name, "volume.backup_failed" if turn.failure else "volume.backup", turn.text
            )

        await self._state.transact(decide)

    async def _made(self, volume: _Volume, actor: str = "", *, scheduled: bool = False) -> BackupInfo:
        async with self._alone(volume):
            store = self._store(volume)
            await store.sweep()
            pieces = self._storage.pack_volume(*volume.key)
            if scheduled:  # a folder that is lost would else take the place of what was saved of it
                pieces = _something(pieces, volume)
            async with asyncio.timeout(LONGEST), aclosing(pieces):
                return await store.keep(pieces, self._clock(), actor, scheduled=scheduled)

    # Back into it

    def restore(
        self, asker: Actor, address: Address, name: str, backup: str | None = None
    ) -> AsyncGenerator[DeliveryStep, None]:
        """Make a backup, the newest without an id, all that is in it. Raises Refused while something works with it;
        where it fails, nothing changed."""
        return self._restore(asker, self._unused(asker, address, name), backup)

    async def _restore(
        self, asker: Actor, volume: _Volume, backup: str | None
    ) -> AsyncGenerator[DeliveryStep, None]:
        store = self._store(volume)
        found = await find_backup(store, backup, verbs="volumes")
        yield DeliveryStep(
            mark=Mark.STEP, text=f"Restoring {volume} as of {found.created_at:%Y-%m-%d %H:%M:%S} UTC"
        )
        async with aclosing(store.pieces(found)) as pieces:
            text = await self._filled(volume, pieces, asker, f"backup {found.id}")
        yield DeliveryStep(mark=Mark.LINE, text=text)
        yield DeliveryStep(mark=Mark.DONE, text=found.id)

    def export(self, asker: Actor, address: Address, name: str) -> AsyncGenerator[bytes, None]:
        """What a backup would have: a tar in zstd. Raises where not all of it comes."""
        return self._export(self._found(asker, address, name, Right.OPERATE))

    async def _export(self, volume: _Volume) -> AsyncGenerator[bytes, None]:
        async with self._alone(volume), aclosing(self._storage.pack_volume(*volume.key)) as pieces:
            async for piece in pieces:
                yield piece

    async def import_(self, asker: Actor, address: Address, name: str, pieces: AsyncIterator[bytes]) -> None:
        """A tar (plain, in gzip or zstd) becomes all that is in it, at once. As `restore`."""
        await self._filled(self._unused(asker, address, name), pieces, asker, "an import")

    async def _filled(self, volume: _Volume, pieces: AsyncIterator[bytes], asker: Actor, what: str) -> str:
        async with self._alone(volume), asyncio.timeout(LONGEST):
            done = await self._storage.restore_volume(
                *volume.key,
                pieces,
                uid=volume.service.uid,
                in_use=lambda: self._user_of(volume) is not None,
            )
        if not done:
            self._check_unused(volume)
            raise Conflict(f"Something began to work with {volume} meanwhile: nothing was changed.")
        text = f"its volume {volume.name} has the data of {what}"
        await self._state.commit(
            events=[told_volume(volume.service, volume.name, "volume.restored", text, asker.name)]
        )
        return f"{volume.name} has the data of {what}"

    @asynccontextmanager
    async def _alone(self, volume: _Volume) -> AsyncIterator[None]:
        """One of these at a time for each volume; what goes wrong in the words of people."""
        lock = self._busy[volume.key]
        if lock.locked():
            raise Conflict(f"Something saves or restores {volume} already: wait for that.")
        async with lock:
            try:
                yield
            except BadArchive as error:
                raise InvalidInput("archive", f"{error} Nothing was changed.") from error
            except ResourceError as error:
                raise Refused(str(error)) from error
            except TimeoutError as error:
                raise Unavailable(f"It was not done within {LONGEST / 3600:g} hours.") from error
            except OSError as error:
                raise Unavailable(
                    f"Saving or restoring {volume} failed: {error.strerror or error}."
                ) from error

    # Looking

    def _found(self, asker: Actor, address: Address, name: str, right: Right) -> _Volume:
        service = get_service(self._state, asker, address, right)
        if name not in service.definition.volumes:
            raise NotFound(f"{address} has no volume {name[:60]!a} (see `volumes`).")
        resource = self._state.resource(service.deployment, service.name)
        if resource is not None and has_server(resource):
            raise Refused(
                f"The files of a {resource.kind} server that runs are no backup of it: use resources:backup, "
                "resources:restore, resources:export and resources:import."
            )
        return _Volume(service, name)

    def _unused(self, asker: Actor, address: Address, name: str) -> _Volume:
        volume = self._found(asker, address, name, Right.OPERATE)
        self._check_unused(volume)
        return volume

    def _check_unused(self, volume: _Volume) -> None:
        if why := self._user_of(volume):
            address = address_of(volume.service)
            raise Refused(f"{why}, and works with the volume {volume.name}: `ps:stop -a {address}` first.")

    def _user_of(self, volume: _Volume) -> str | None:
        """What works with it, in words."""
        place = volume.service.deployment, volume.service.name
        now = self._state.service(*place)
        may_start = now is not None and not now.stopped and (now.current or now.target) is not None
        if may_start or self._runtime.instances(*place):
            return f"{address_of(volume.service)} runs"
        if any(not each.status.over for each in self._state.runs(*place)):
            return f"A one-off of {address_of(volume.service)} runs"
        return None

    def _store(self, volume: _Volume) -> BackupStore:
        # With the moment of the service's birth: who makes one of the same name again does not find those of another.
        born = volume.service.created_at
        token = f"{born:%Y%m%d%H%M%S%f}" if born else "first"
        return self._backups(".".join((*volume.key, token)))


def _schedule(service: Service, name: str) -> VolumeSchedule:
    plan = plan_info(service.backups.get(name), rests=rests(service, name))
    return VolumeSchedule(service=service.name, name=name, backup=plan)


async def _something(pieces: AsyncGenerator[bytes, None], volume: _Volume) -> AsyncGenerator[bytes, None]:
    """The same; raises Refused where there is nothing, not even an empty folder."""
    empty = True
    async with aclosing(pieces):
        async for piece in pieces:
            empty = False
            yield piece
    if empty:
        raise Refused(f"The folder of {volume} is not there.")


def told_volume(service: Service, name: str, kind: str, text: str, actor: str = "") -> EventDraft:
    return EventDraft(
        kind=kind,
        deployment=service.deployment,
        service=service.name,
        actor=actor,
        text=text,
        data={"volume": name},
    )
