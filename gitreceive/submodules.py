"""Submodules: the repositories that a commit names are fetched at the commits it names, into its source.

git's own submodule commands are not used: what stands in a `.gitmodules` is somebody else's word, of which
nothing but paths and URLs is taken. What was fetched is kept beside the repository, so that a submodule
that did not change is not fetched again.
"""

import asyncio
import hashlib
import logging
import os
import shutil
import stat
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from dulwich.repo import Repo

from builder.base import BuilderUnavailable, BuildFailed
from builder.source import MAX_BYTES, MAX_FILES, Exported, export_source
from builder.tree import shown
from builder.types import BuildOutput
from controller.config import Settings
from controller.errors import InvalidInput, Refused
from gitreceive.fetcher import Fetcher
from gitreceive.git import Git
from gitreceive.large import keeps_large_files
from gitreceive.remote import Remote, parse_remote

log = logging.getLogger(__name__)

FILE = ".gitmodules"
FOLDER = "modules"
"""Below a service's repository: `<hash of the URL>/<commit>`, each a bare repository with that commit."""
MAX_MODULES, MAX_DEPTH = 100, 5
TIMEOUT = 900.0
"""Seconds for all of them together: the build has its place meanwhile."""
KEPT = 2
"""Commits kept of each URL."""
_PLAIN_FILES = ("100644", "100755")


@dataclass(frozen=True)
class Submodule:
    """One of a commit."""

    path: str
    commit: str
    url: str | None
    """None: no `.gitmodules` names it."""


@dataclass
class _Round:
    """What one source has fetched so far, nested ones included."""

    top: Path
    """The service's repository."""
    out: BuildOutput
    files: int = 0
    size: int = 0
    count: int = 0
    above: list[str] = field(default_factory=list)
    """The paths that lead to the repository that is looked at."""

    def add(self, exported: Exported) -> None:
        self.files += exported.files
        self.size += exported.size


def parse_modules(text: str) -> Mapping[str, str]:
    """Path to URL, from `git config --get-regexp -z`."""
    values: dict[str, dict[str, str]] = {}
    for entry in text.split("\0"):
        key, _, value = entry.partition("\n")
        name, _, variable = key.removeprefix("submodule.").rpartition(".")
        if key.startswith("submodule.") and variable in ("path", "url"):
            values.setdefault(name, {})[variable] = value
    return {
        each["path"].rstrip("/"): each["url"] for each in values.values() if "path" in each and "url" in each
    }


def parse_links(listing: bytes) -> Mapping[str, str]:
    """Path to commit of each submodule, from `git ls-tree -r -z`."""
    found = {}
    for entry in listing.split(b"\0"):
        about, _, path = entry.partition(b"\t")
        if about.startswith(b"160000 commit "):
            found[path.decode("utf-8", "surrogateescape")] = about.split(b" ")[2].decode()
    return found


def remote_of(path: str, url: str) -> Remote:
    """Raises BuildFailed for a URL that is not fetched."""
    if url.startswith(("./", "../")):
        raise BuildFailed(
            f"The submodule {shown(path)} has the relative URL {shown(url)}, and the server does not know what it is "
            "relative to: give it a whole one (`git submodule set-url`), commit, and push again."
        )
    try:
        return parse_remote(url)
    except InvalidInput as error:
        raise BuildFailed(f"The submodule {shown(path)}: {error}") from error


class Submodules:
    """Fills the folders of submodules in an exported source."""

    def __init__(self, settings: Settings, git: Git) -> None:
        self._git = git
        self._fetcher = Fetcher(settings, git)

    async def fill(
        self, repository: Path, commit: str, source: Path, exported: Exported, *, env: Mapping[str, str],
        out: BuildOutput,
    ) -> None:  # fmt: skip
        """Fetch what the commit names into `source`, to which it was exported. Raises BuildFailed."""
        work = _Round(top=repository, out=out)
        work.add(exported)
        try:
            async with asyncio.timeout(TIMEOUT):
                await self._fill(repository, commit, source, env, work)
        except TimeoutError as error:
            raise BuildFailed(f"Fetching submodules took longer than {TIMEOUT:.0f} seconds.") from error

    async def _fill(
        self, repository: Path, commit: str, source: Path, env: Mapping[str, str], work: _Round
    ) -> None:
        for each in await self._listed(repository, commit, env):
            folder = await asyncio.to_thread(find_folder, source, each.path)
            if folder is None:  # `export-ignore`
                continue
            name = "/".join([*work.above, each.path])
            if each.url is None:
                work.out.warn(
                    f"{shown(name)} is a git repository inside of yours that {FILE} does not name: it stays empty."
                )
                continue
            work.count += 1
            if work.count > MAX_MODULES or len(work.above) >= MAX_DEPTH:
                raise BuildFailed(
                    f"The source has more than {MAX_MODULES} submodules, or they are nested more than {MAX_DEPTH} "
                    f"deep, at {shown(name)}."
                )
            await self._one(each, folder, name, work)

    async def _one(self, module: Submodule, folder: Path, name: str, work: _Round) -> None:
        assert module.url is not None
        remote = remote_of(name, module.url)
        try:
            mirror = await self._mirror(remote, module.commit, name, work)
        except Refused as error:
            raise BuildFailed(f"The submodule {shown(name)}: {error}") from error
        await asyncio.to_thread(folder.rmdir)
        work.add(
            await export_source(
                mirror,
                module.commit,
                folder,
                max_files=max(1, MAX_FILES - work.files),
                max_bytes=max(1, MAX_BYTES - work.size),
            )
        )
        await asyncio.to_thread(folder.chmod, 0o755)
        if await asyncio.to_thread(keeps_large_files, folder):
            work.out.warn(
                f"The large files of the submodule {shown(name)} are not fetched: their pointers stay."
            )
        work.above.append(module.path)
        await self._fill(mirror, module.commit, folder, {}, work)
        work.above.pop()

    async def _listed(self, repository: Path, commit: str, env: Mapping[str, str]) -> Sequence[Submodule]:
        """Those of the commit; none where it has no `.gitmodules` that is a file."""
        about = await self._ask(repository, env, "ls-tree", "-z", "--full-tree", commit, "--", FILE)
        if not about.decode(errors="replace").startswith(_PLAIN_FILES):
            return ()
        links = parse_links(await self._ask(repository, env, "ls-tree", "-r", "-z", "--full-tree", commit))
        if not links:
            return ()
        values = await self._ask(
            repository,
            env,
            *("config", "--no-includes", "--blob", f"{commit}:{FILE}", "-z", "--get-regexp", r"^submodule\."),
            may_fail=True,
        )
        urls = parse_modules(values.decode("utf-8", "surrogateescape"))
        return [Submodule(path, at, urls.get(path)) for path, at in sorted(links.items())]

    async def _ask(
        self, repository: Path, env: Mapping[str, str], *words: str, may_fail: bool = False
    ) -> bytes:
        status, output, errors = await self._git.ask(repository, *words, env=env)
        if status and not may_fail:
            log.warning("submodules not read repository=%s error=%r", repository, errors[-300:])
            raise BuilderUnavailable("git could not read which submodules the commit has.")
        return output

    async def _mirror(self, remote: Remote, commit: str, name: str, work: _Round) -> Path:
        """A bare repository that has that commit of the remote."""
        folder = work.top / FOLDER / hashlib.sha256(remote.url.encode()).hexdigest()[:16]
        place = folder / commit
        if await asyncio.to_thread(place.is_dir):
            work.out.step(f"Submodule {name} at {commit[:7]}, as before")
            await asyncio.to_thread(os.utime, place)
            return place
        work.out.step(f"Fetching submodule {name} at {commit[:7]} of {remote}")
        fresh = await asyncio.to_thread(_new_repository, folder)
        try:
            await self._fetch(remote, commit, fresh, work.out)
            await asyncio.to_thread(_settle, fresh, place)
        finally:
            await asyncio.shield(asyncio.to_thread(shutil.rmtree, fresh, ignore_errors=True))
        await asyncio.to_thread(_forget_older, folder)
        return place

    async def _fetch(self, remote: Remote, commit: str, repository: Path, out: BuildOutput) -> None:
        """The commit alone, where the remote gives that; else all branches and tags, one of which must have it."""
        into = repository / "objects"
        try:
            await self._fetcher.fetch(remote, [commit], repository, into=into, shallow=True, say=out.line)
        except Refused:
            everything = ["+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*"]
            await self._fetcher.fetch(remote, everything, repository, into=into, say=out.line)
        status, _, _ = await self._git.ask(repository, "cat-file", "-e", f"{commit}^{{commit}}")
        if status:
            raise Refused(
                f"{remote} has no commit {commit[:7]}: push it there (`git push --recurse-submodules=on-demand` does), "
                "then push again."
            )


def find_folder(source: Path, path: str) -> Path | None:
    """The empty folder of a submodule in an exported source, reached through folders alone; None: not there."""
    found = source
    for part in path.split("/"):
        if part in ("", ".", ".."):
            return None
        found /= part
        try:
            if not stat.S_ISDIR(found.lstat().st_mode):
                return None
        except OSError:
            return None
    return None if any(found.iterdir()) else found


def _new_repository(folder: Path) -> Path:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(prefix="tmp-", dir=folder))
    Repo.init_bare(str(fresh)).close()
    shutil.rmtree(fresh / "hooks", ignore_errors=True)
    return fresh


def _settle(fresh: Path, place: Path) -> None:
    try:
        fresh.rename(place)
    except OSError:
        if not place.is_dir():  # else another build had the same wish
            raise


def _forget_older(folder: Path) -> None:
    kept = [each for each in folder.iterdir() if not each.name.startswith("tmp-")]
    kept.sort(key=lambda each: each.stat().st_mtime, reverse=True)
    for each in kept[KEPT:]:
        shutil.rmtree(each, ignore_errors=True)
