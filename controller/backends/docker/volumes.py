"""The folders that containers have as volumes: each belongs to whom its containers run as."""

import asyncio
import os
import threading
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from controller.backends.base import BackendError, InstanceSpec
from controller.backends.docker.container import ARTIFACT, ATTACHED, ID, KIND, PREFIX, instance_labels
from controller.backends.docker.image import Image, find_image
from controller.backends.docker.users import Users
from controller.backends.labels import DEPLOYMENT, ONCE, SERVICE
from controller.backends.owners import Check, Owner, give_over
from controller.backends.volumes import CLOSED, ensure_volumes, volume_folders
from controller.engine import REALM, Engine, NotThere
from controller.types import ArtifactKind

_Place = tuple[str, str]
"""Deployment and service."""


class Volumes:
    """Of one realm. Raises BackendError and EngineError."""

    def __init__(self, root: Path, engine: Engine, realm: str, users: Users) -> None:
        self._root = Path(os.path.normpath(root.absolute()))
        self._engine = engine
        self._realm = realm
        self._users = users
        self._locks: Mapping[_Place, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._starting: Mapping[_Place, list[Owner | None]] = defaultdict(list)
        """Whom those run as that are about to be started."""

    def folders(self, spec: InstanceSpec) -> Mapping[str, Path]:
        return volume_folders(self._root, spec)

    @asynccontextmanager
    async def held(self, spec: InstanceSpec, image: Image) -> AsyncIterator[None]:
        """They are there, and whose they are to be; until the container has been started nobody else is given them."""
        if not spec.volumes:
            yield
            return
        place = spec.deployment, spec.service
        starting = self._starting[place]
        async with self._locks[place]:
            owner = await self._owner(spec, image)
            await ensure_volumes(self._root, spec, owner=owner, above=CLOSED)
            if owner is not None:
                try:
                    await self._give(spec, image, owner)
                except OSError as error:
                    raise BackendError(
                        f"The volumes of {spec.id} can't be given to the user {owner.uid} of {image.reference}: "
                        f"{error.strerror or error}."
                    ) from error
            starting.append(owner)
        try:
            yield
        finally:
            starting.remove(owner)

    async def _owner(self, spec: InstanceSpec, image: Image) -> Owner | None:
        """Whom it runs as; None: root, or nobody can be given anything."""
        if os.geteuid() != 0:
            return None
        if spec.artifact.kind is ArtifactKind.SLUG and spec.uid is not None:
            return Owner(spec.uid, spec.uid)
        return await self._users.owner(image)

    async def _give(self, spec: InstanceSpec, image: Image, owner: Owner) -> None:
        differing = {
            name: folder for name, folder in self.folders(spec).items() if folder.stat().st_uid != owner.uid
        }
        if not differing:
            return
        if other := await self._other_user(spec, owner, set(differing.values())):
            raise BackendError(
                f"{spec.id} runs as the user {owner.uid} of {image.reference}, and {other} as another one: the "
                f"volume {min(differing)} is given over once that has stopped (`rollout: stop-first` sees to it)."
            )
        for folder in differing.values():
            await _until_cancelled(_giving(spec, folder, owner))

    async def _other_user(self, spec: InstanceSpec, owner: Owner, folders: set[Path]) -> str | None:
        """Something of the service that has one of these folders and does not run as `owner`."""
        if any(each != owner for each in self._starting[spec.deployment, spec.service]):
            return "something that is just being started"
        for each in await self._beside(spec):
            has = {Path(mount["Source"]) for mount in each.get("Mounts") or () if mount.get("Source")}
            if has & folders and await self._user_of(each, spec) != owner:
                return str(each["Labels"][ID])
        return None

    async def _beside(self, spec: InstanceSpec) -> Sequence[Mapping[str, Any]]:
        """What of the service may run now, as the engine lists it."""
        wanted = {PREFIX + DEPLOYMENT: spec.deployment, PREFIX + SERVICE: spec.service, REALM: self._realm}
        labels = [f"{name}={value}" for name, value in wanted.items()]
        found: Sequence[Mapping[str, Any]] = await self._engine.call(
            lambda client: client.containers(all=True, filters={"label": labels})
        )
        return [each for each in found if may_run(each)]

    async def _user_of(self, listed: Mapping[str, Any], spec: InstanceSpec) -> Owner | None:
        """None: root, or nobody knows."""
        if listed["Labels"].get(ARTIFACT) == ArtifactKind.SLUG and spec.uid is not None:
            return Owner(spec.uid, spec.uid)
        try:
            return await self._users.owner(await find_image(self._engine, listed["ImageID"]))
        except (NotThere, BackendError):
            return None


def may_run(listed: Mapping[str, Any]) -> bool:
    """Whether a container, as the engine lists it, runs or is started again by itself."""
    labels = listed["Labels"]
    if ID not in labels or listed["State"] in ("created", "removing", "dead"):
        return False
    ends = labels.get(KIND) == ATTACHED or ONCE in instance_labels(labels)
    return not (ends and listed["State"] == "exited")


def _giving(spec: InstanceSpec, folder: Path, owner: Owner) -> Callable[[Check], None]:
    # Of an image that ran as root the folder was the service's user's, and what is in it root's.
    nominal = spec.artifact.kind is ArtifactKind.IMAGE and folder.stat().st_uid == spec.uid
    also = [Owner(0, 0)] if nominal else []
    note = folder.with_name(f".giving-{folder.name}")
    return lambda check: give_over(folder, owner, note, check, also=also)


class _Cancelled(Exception):
    pass


async def _until_cancelled(work: Callable[[Check], None]) -> None:
    """In a thread, which ends before the caller goes on."""
    stop = threading.Event()

    def check() -> None:
        if stop.is_set():
            raise _Cancelled

    task = asyncio.create_task(asyncio.to_thread(work, check))
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        stop.set()
        await asyncio.wait([task])
        if not task.cancelled():
            task.exception()
        raise
