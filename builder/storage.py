"""All that the server keeps on disk: measured, and taken away. What goes is moved to a trash folder first,
so that nobody meets half of it, and a removal that is broken off is finished at the next start."""

import asyncio
import logging
import os
import secrets
import shutil
import stat
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from builder.slugs import SlugStore
from builder.threads import Check, completed, run_blocking
from builder.tree import remove_tree
from builder.unpack import write_all
from builder.volumes import packed, unpack
from controller.config import DataFolder
from controller.upkeep.storage import Cache, Kind, Removed, Space, Volume

if TYPE_CHECKING:
    from builder.images import ImageStore

log = logging.getLogger(__name__)

_ASIDE = ".removed"
"""In the folder of volumes: those of destroyed services."""
_NEW, _BEFORE = ".new", ".before"
"""In that one: volumes that are being restored, and what was there until a moment ago, below its own path."""
_GIVEN_UP = ".given-up"
"""In a service's folder there: they go with it."""
AT_ONCE = 50
"""Unpacked slugs that one call removes at most."""


class DiskStorage:
    """The `Storage` of a data folder."""

    def __init__(self, folders: DataFolder, slugs: SlugStore, images: "ImageStore | None" = None) -> None:
        """`images`: those of the engine that instances run on, where there is one."""
        self._folders = folders
        self._slugs = slugs
        self._images = images

    @property
    def folder(self) -> Path:
        return self._folders.root

    async def space(self) -> Space:
        usage = await asyncio.to_thread(shutil.disk_usage, self._folders.root)
        return Space(total=usage.total, free=usage.free)

    async def usage(self) -> Mapping[Kind, int]:
        images = await self._image_sizes()
        own = await run_blocking(self._usage)
        return own if self._images is None else {**own, Kind.IMAGES: sum(images.values())}

    async def _image_sizes(self) -> Mapping[tuple[str, str], int]:
        """By service; nothing where the engine does not tell."""
        if self._images is None:
            return {}
        from controller.engine import EngineError

        try:
            return await self._images.sizes()
        except EngineError as error:
            log.warning("images not measured error=%s", error)
            return {}

    def _usage(self, check: Check) -> Mapping[Kind, int]:
        known = {
            Kind.SLUGS: self._folders.slugs,
            Kind.APPS: self._folders.apps,
            Kind.CACHES: self._folders.caches,
            Kind.BUILDS: self._folders.builds,
            Kind.LOGS: self._folders.logs,
            Kind.REPOSITORIES: self._folders.repositories,
            Kind.VOLUMES: self._folders.volumes,
        }
        others = set(self._folders.root.iterdir()) - set(known.values())
        sizes = {kind: measure(folder, check) for kind, folder in known.items()}
        return {**sizes, Kind.OTHER: sum(measure(each, check) for each in others)}

    async def usage_of(
        self, deployment: str, service: str, *, slugs: Collection[str], builds: Collection[str]
    ) -> Mapping[Kind, int]:
        folders = self._folders

        def work(check: Check) -> Mapping[Kind, int]:
            logs = [folders.builds / f"{each}.log" for each in builds]
            return {
                Kind.SLUGS: sum(measure(self._slugs.archive(each), check) for each in slugs),
                Kind.APPS: measure(folders.apps / deployment / service, check),
                Kind.CACHES: measure(folders.caches / deployment / service, check),
                Kind.BUILDS: sum(measure(each, check) for each in logs),
                Kind.LOGS: measure(folders.logs / deployment / service, check),
                Kind.REPOSITORIES: measure(folders.repositories / deployment / f"{service}.git", check),
                Kind.VOLUMES: measure(folders.volumes / deployment / service, check),
            }

        own = await run_blocking(work)
        if self._images is None:
            return own
        return {**own, Kind.IMAGES: (await self._image_sizes()).get((deployment, service), 0)}

    def forget_fresh(self, slugs: Collection[str]) -> None:
        self._slugs.forget_fresh(slugs)

    async def remove_slugs(self, slugs: Collection[str]) -> Removed:
        return Removed(*await self._slugs.remove(slugs))

    async def collect_slugs(self, is_held: Callable[[str], bool]) -> Removed:
        return Removed(*await self._slugs.collect(is_held))

    async def collect_images(self, is_held: Callable[[str], bool]) -> Removed:
        if self._images is None:
            return Removed()
        with _as_system_error():
            return await self._images.collect(is_held)

    async def keep_image(self, deployment: str, service: str, image: str) -> None:
        if self._images is None:
            raise OSError("no container engine is at hand")
        with _as_system_error():
            await self._images.keep(deployment, service, image)

    async def collect_apps(
        self,
        is_wanted: Callable[[str, str, str], bool],
        services: Sequence[tuple[str, str]] | None = None,
    ) -> Removed:
        gone = Removed()
        for tree in await self._slugs.unpacked(services):
            moved = await self._slugs.take_out(*tree, self._in_trash(), unless=partial(is_wanted, *tree))
            if moved is not None:
                gone += Removed(1, await run_blocking(partial(_remove_measured, moved)))
            if gone.count >= AT_ONCE:
                break
        return gone

    async def caches(self) -> Sequence[Cache]:
        def work(check: Check) -> Sequence[Cache]:
            return [
                Cache(each.parent.name, each.name, measure(each, check), _changed_at(each))
                for each in _folders_below(self._folders.caches)
            ]

        return await run_blocking(work)

    async def remove_cache(self, deployment: str, service: str, *, in_use: Callable[[], bool]) -> Removed:
        cache, trash = self._folders.caches / deployment / service, self._in_trash()
        await asyncio.to_thread(trash.parent.mkdir, mode=0o700, exist_ok=True)
        # Asked and moved without a pause between: a build that begins after that makes itself a new one.
        if in_use() or not _moved(cache, trash):
            return Removed()
        if self._images is not None:
            with _as_system_error():
                await self._images.remove_cache(deployment, service)
        return Removed(1, await run_blocking(partial(_remove_measured, trash)))

    async def remove_service(self, deployment: str, service: str) -> None:
        if self._images is not None:
            with _as_system_error():
                await self._images.remove_service(deployment, service)
        folders = self._folders
        await completed(asyncio.to_thread(self._put_aside, folders.volumes / deployment / service))
        places = [each / deployment / service for each in (folders.apps, folders.caches, folders.logs)]
        places.append(folders.volumes / deployment / service)
        places.append(folders.repositories / deployment / f"{service}.git")
        for place in places:
            if place.exists():
                await completed(asyncio.to_thread(shutil.rmtree, place))
            with suppress(OSError):
                place.parent.rmdir()  # goes with its last service

    def _put_aside(self, volumes: Path) -> None:
        """Whoever takes the service's name next must not find them; whoever lost them by mistake can."""
        if (volumes / _GIVEN_UP).exists() or not any(volumes.glob("*")):
            return
        aside = self._folders.volumes / _ASIDE
        aside.mkdir(mode=0o700, exist_ok=True)
        moment = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%f")
        volumes.rename(aside / f"{volumes.parent.name}.{volumes.name}.{moment}")

    async def volumes(self, deployment: str) -> Sequence[Volume]:
        def work(check: Check) -> Sequence[Volume]:
            found = _folders_below(self._folders.volumes / deployment)
            return [Volume(each.parent.name, each.name, measure(each, check)) for each in sorted(found)]

        return await run_blocking(work)

    async def remove_volume(
        self, deployment: str, service: str, name: str, *, in_use: Callable[[], bool]
    ) -> Removed:
        volume, trash = self._folders.volumes / deployment / service / name, self._in_trash()
        await asyncio.to_thread(trash.parent.mkdir, mode=0o700, exist_ok=True)
        # Asked and moved without a pause between: what starts after that makes itself a new one.
        if in_use() or not _moved(volume, trash):
            return Removed()
        return Removed(1, await run_blocking(partial(_remove_measured, trash)))

    async def pack_volume(self, deployment: str, service: str, name: str) -> AsyncGenerator[bytes, None]:
        folder = self._folders.volumes / deployment / service / name
        if not folder.is_dir():
            return
        pieces = packed(folder, lambda: None)
        while piece := await completed(asyncio.to_thread(next, pieces, b"")):
            yield piece

    async def restore_volume(
        self,
        deployment: str,
        service: str,
        name: str,
        pieces: AsyncIterator[bytes],
        *,
        uid: int | None,
        in_use: Callable[[], bool],
    ) -> bool:
        place = self._folders.volumes / deployment / service / name
        new = self._folders.volumes / _ASIDE / _NEW / secrets.token_hex(8)
        before = self._folders.volumes / _ASIDE / _BEFORE / deployment / service / name
        try:
            await asyncio.to_thread(_make_room, place, new, before)
            await self._filled(new, _owner_of(place, uid), pieces)
            # Asked and put in place without a pause between. A server that is killed in it finds both at its start.
            if in_use():
                return False
            if place.exists():
                place.rename(before)
            new.rename(place)
        finally:
            await completed(asyncio.to_thread(remove_tree, new))
        await completed(asyncio.to_thread(remove_tree, before))
        return True

    async def _filled(
        self, target: Path, owner: tuple[int, int] | None, pieces: AsyncIterator[bytes]
    ) -> None:
        free = (await self.space()).free
        reader, writer = os.pipe()

        def read(check: Check) -> None:
            with os.fdopen(reader, "rb") as stream:
                unpack(stream, target, owner, check, most=free)

        unpacking = asyncio.create_task(run_blocking(read))
        try:
            # Whoever reads may have had enough, and says why.
            with suppress(BrokenPipeError):
                async for piece in pieces:
                    await completed(asyncio.to_thread(write_all, writer, piece))
        except BaseException:
            unpacking.cancel()
            raise
        finally:
            os.close(writer)
            await completed(asyncio.wait([unpacking]))
        await unpacking

    async def give_up_volumes(self, deployment: str, service: str) -> None:
        folder = self._folders.volumes / deployment / service
        if folder.is_dir():
            await asyncio.to_thread((folder / _GIVEN_UP).touch)

    async def services(self) -> Sequence[tuple[str, str]]:
        def work() -> Sequence[tuple[str, str]]:
            places = [
                *_folders_below(self._folders.apps),
                *_folders_below(self._folders.caches),
                *_folders_below(self._folders.logs),
                *(each for each in _folders_below(self._folders.volumes) if each.parent.name != _ASIDE),
                *self._folders.repositories.glob("*/*.git"),
            ]
            return sorted({(each.parent.name, each.name.removesuffix(".git")) for each in places})

        return sorted({*await asyncio.to_thread(work), *await self._with_images()})

    async def _with_images(self) -> Sequence[tuple[str, str]]:
        """An engine that is away at the start keeps the images of destroyed apps until a later one."""
        if self._images is None:
            return ()
        from controller.engine import EngineError

        try:
            return await self._images.services()
        except EngineError as error:
            log.warning("images not looked at error=%s", error)
            return ()

    async def sweep(self) -> None:
        await asyncio.to_thread(remove_tree, self._folders.trash)
        await asyncio.to_thread(self._finish_restores)

    def _finish_restores(self) -> None:
        """What was taken out of its place comes back, unless what was restored is there already."""
        aside = self._folders.volumes / _ASIDE
        for each in (aside / _BEFORE).glob("*/*/*"):
            place = self._folders.volumes / each.relative_to(aside / _BEFORE)
            if not place.exists() and place.parent.is_dir():
                each.rename(place)
        for name in (_BEFORE, _NEW):
            remove_tree(aside / name)

    def _in_trash(self) -> Path:
        return self._folders.trash / secrets.token_hex(8)


@contextmanager
def _as_system_error() -> Iterator[None]:
    """The engine's faults as OSError."""
    from controller.engine import EngineError  # the SDK costs every server that runs no images 10 MiB

    try:
        yield
    except EngineError as error:
        raise OSError(str(error)) from error


def measure(path: Path, check: Check, *, alone: bool = False) -> int:
    """Bytes that a file, or all below a folder, takes on disk; what vanishes meanwhile counts nothing.

    A file of several names counts once; `alone`: not at all, as it may stay under another one.
    """
    size, waiting = 0, [os.fspath(path)]
    linked = set[tuple[int, int]]()
    while waiting:
        check()
        one = waiting.pop()
        try:
            info = os.lstat(one)
            if info.st_nlink > 1 and not stat.S_ISDIR(info.st_mode):
                if alone or (info.st_dev, info.st_ino) in linked:
                    continue
                linked.add((info.st_dev, info.st_ino))
            size += info.st_blocks * 512
            if stat.S_ISDIR(info.st_mode):
                with os.scandir(one) as entries:
                    waiting += [each.path for each in entries]
        except OSError:
            continue
    return size


def _entries(folder: Path) -> Sequence[Path]:
    try:
        return list(folder.iterdir())
    except OSError:
        return ()


def _folders_below(root: Path) -> Iterator[Path]:
    """`root/*/*`, folders only."""
    for outer in _entries(root):
        yield from (each for each in _entries(outer) if each.is_dir() and not each.is_symlink())


def _changed_at(path: Path) -> datetime:
    try:
        return datetime.fromtimestamp(path.stat().st_mtime, UTC)
    except OSError:
        return datetime.now(UTC)


def _moved(origin: Path, target: Path) -> bool:
    try:
        origin.rename(target)
    except FileNotFoundError:
        return False
    return True


def _remove_measured(tree: Path, check: Check) -> int:
    size = measure(tree, check, alone=True)
    remove_tree(tree)
    return size


def _make_room(place: Path, new: Path, before: Path) -> None:
    root = new.parents[2]
    for folder in (root, place.parent.parent, place.parent):
        folder.mkdir(mode=0o711, exist_ok=True)
    remove_tree(before)
    for folder in (new.parents[1], new.parent, before.parents[2], before.parents[1], before.parent):
        folder.mkdir(mode=0o700, exist_ok=True)


def _owner_of(place: Path, uid: int | None) -> tuple[int, int] | None:
    """Whose all of it is to be: of an image's own user, where that was given the folder."""
    if os.geteuid() != 0:
        return None
    with suppress(FileNotFoundError):
        info = place.stat()
        return info.st_uid, info.st_gid
    return None if uid is None else (uid, uid)
