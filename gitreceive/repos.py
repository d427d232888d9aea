"""The bare repositories, one for each service: made with the first push, gone again when nothing was stored."""

import asyncio
import logging
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from dulwich.errors import NotGitRepository
from dulwich.objects import ObjectID
from dulwich.refs import Ref
from dulwich.repo import Repo
from dulwich.server import Backend, BackendRepo

from controller.names import Address
from gitreceive.git import Git
from gitreceive.large import FOLDER, UNFINISHED_PREFIX, forgotten
from gitreceive.origins import origin_of
from gitreceive.rules import HEADS

log = logging.getLogger(__name__)

QUARANTINE_PREFIX = "tmp_objdir-incoming-"
"""Of the folders below `objects/` that hold what a push brings until it is accepted; git's gc knows it too."""
_NEW_PREFIX = ".new-"
AHEAD_OF_PUSH = 24 * 3600.0
"""Seconds that large files are kept which were sent ahead of a first push that has not come."""
MAX_PACKS = 50
"""More packs than this are put together (git's own default): each push adds one."""


class BareRepository(Repo):
    """Advertises what may be pushed: everything but HEAD."""

    def get_refs(self) -> dict[Ref, ObjectID]:
        return {name: value for name, value in super().get_refs().items() if name.startswith(b"refs/")}


class PushedTo(BareRepository):
    """Leaves out branches at commits of our own making, of archives of somebody's commit: git refuses to push over what
    it does not know, and whoever has that commit builds upon it. See `gitreceive.refs`."""

    def get_refs(self) -> dict[Ref, ObjectID]:
        refs = super().get_refs()
        return {
            name: value
            for name, value in refs.items()
            if not name.startswith(HEADS) or origin_of(self, value) is None
        }


class OneRepository(Backend):
    """dulwich's backend for a session, which is about one repository whatever path it names."""

    def __init__(self, repository: BareRepository) -> None:
        self._repository = repository

    def open_repository(self, path: str) -> BackendRepo:
        return self._repository


class Repositories:
    """All of them, below one folder as `<deployment>/<service>.git`."""

    def __init__(self, folder: Path, git: Git | None) -> None:
        self._folder = folder
        self._git = git
        self._users: Counter[Path] = Counter()
        self._lock = asyncio.Lock()
        self._maintenance: dict[Path, asyncio.Task[None]] = {}

    def path(self, address: Address) -> Path:
        return self._folder / address.deployment / f"{address.service}.git"

    @asynccontextmanager
    async def use(self, address: Address) -> AsyncIterator[Path]:
        """The repository, made when missing. One that is left without any ref is removed at the end."""
        path = self.path(address)
        async with self._lock:
            self._users[path] += 1
            if not path.exists():
                await asyncio.to_thread(_make, path)
        try:
            yield path
        finally:
            await asyncio.shield(self._leave(path))

    async def _leave(self, path: Path) -> None:
        async with self._lock:
            self._users[path] -= 1
            if self._users[path] <= 0:
                del self._users[path]
                _remove_if_empty(path)

    async def sweep(self) -> None:
        """Remove what pushes left behind when the server died under them. Only before the first push."""
        await asyncio.to_thread(_sweep, self._folder)

    def maintain(self, path: Path) -> None:
        """Put the packs together when there are many, in the background; nothing without git."""
        if self._git is None or path in self._maintenance or _count_packs(path) <= MAX_PACKS:
            return
        task = asyncio.create_task(self._collect(self._git, path))
        self._maintenance[path] = task
        task.add_done_callback(lambda _: self._maintenance.pop(path, None))

    async def close(self) -> None:
        """End maintenance that is under way; git can be stopped there at any moment."""
        for task in (running := set(self._maintenance.values())):
            task.cancel()
        if running:
            await asyncio.wait(running)

    async def _collect(self, git: Git, path: Path) -> None:
        settings = (f"gc.autoPackLimit={MAX_PACKS}", "gc.autoDetach=false", "pack.threads=1")
        options = [word for each in settings for word in ("-c", each)]
        try:
            status, _, errors = await git.ask(path, *options, "gc", "--auto", "--quiet")
        except TimeoutError:
            status, errors = 1, b"it took too long"
        if status:
            log.warning("gc failed repository=%s error=%r", path, errors.decode(errors="replace")[-500:])


def _count_packs(path: Path) -> int:
    return sum(1 for _ in (path / "objects/pack").glob("*.pack"))


def _make(path: Path) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(prefix=_NEW_PREFIX, dir=path.parent))
    Repo.init_bare(str(fresh), default_branch=b"master").close()
    shutil.rmtree(fresh / "hooks", ignore_errors=True)
    fresh.rename(path)


def _remove_if_empty(path: Path) -> None:
    if not path.exists() or any(each.is_file() for each in (path / "refs").rglob("*")):
        return
    try:
        with BareRepository(str(path)) as repository:
            if repository.get_refs():
                return
    except NotGitRepository:
        if (path / "packed-refs").exists():
            log.exception("a repository is damaged, and left as it is path=%s", path)
            return
        # Half of one: somebody was killed while it was made, or removed.
        log.warning("removing half of a repository path=%s", path)
        shutil.rmtree(path, ignore_errors=True)
        return
    if not forgotten(path, AHEAD_OF_PUSH, time.time()):
        return
    shutil.rmtree(path, ignore_errors=True)
    with suppress(OSError):  # other services of the deployment have theirs there
        path.parent.rmdir()


def _sweep(folder: Path) -> None:
    for left in _leftovers(folder):
        log.info("removing leftover=%s", left)
        shutil.rmtree(left, ignore_errors=True)
    for lock in [*folder.glob("*/*.git/refs/**/*.lock"), *folder.glob("*/*.git/*.lock")]:
        lock.unlink(missing_ok=True)
    for path in list(folder.glob("*/*.git")):
        _remove_if_empty(path)


def _leftovers(folder: Path) -> Iterator[Path]:
    yield from folder.glob(f"*/{_NEW_PREFIX}*")
    yield from folder.glob(f"*/*.git/objects/{QUARANTINE_PREFIX}*")
    yield from folder.glob(f"*/*.git/{FOLDER}/{UNFINISHED_PREFIX}*")
    yield from folder.glob(f"*/*.git/modules/*/{UNFINISHED_PREFIX}*")
