"""The folders of one build: made for its user, and gone with it."""

import os
import shutil
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from builder.base import BuilderUnavailable, BuildFailed
from builder.slugignore import ignore_files
from builder.tree import hand_over, open_folder, remove_tree
from builder.types import BuildRequest
from controller.names import check_env_name

_SUFFIX = ".tmp"


@dataclass(frozen=True)
class Workspace:
    """`<builds>/<id>.tmp/`. Blocking calls."""

    root: Path

    @property
    def build(self) -> Path:
        """The source tree, becoming the slug."""
        return self.root / "build"

    @property
    def env(self) -> Path:
        """The service's env, a file each (ENV_DIR)."""
        return self.root / "env"

    @property
    def home(self) -> Path:
        return self.root / "home"

    @property
    def temporary(self) -> Path:
        return self.root / "tmp"

    @property
    def packs(self) -> Path:
        """Copies of the buildpacks of this build: what they write beside their programs is for it alone."""
        return self.root / "packs"

    def environment(self, request: BuildRequest) -> Mapping[str, str]:
        """The variables of a build that follow from its request and its folders."""
        return {
            "HOME": str(self.home),
            "TMPDIR": str(self.temporary),
            "REQUEST_ID": request.id,
            "SOURCE_VERSION": request.commit or "",
        }

    def fill(self, request: BuildRequest) -> None:
        """Make the folders, and move the source in. Raises BuilderUnavailable."""
        try:
            self._fill(request)
        except OSError as error:
            raise BuilderUnavailable(
                f"The build's folder could not be made: {error.strerror or error}."
            ) from error

    def _fill(self, request: BuildRequest) -> None:
        open_folder(self.root.parent)
        remove_tree(self.root)
        self.root.mkdir(mode=0o711)
        source = request.source / find_build_dir(request.source, request.build_dir)
        ignore_files(source)
        shutil.move(source, self.build)
        for folder in (self.env, self.home, self.temporary, self.packs):
            folder.mkdir()
        for name, value in request.env.items():
            (self.env / check_env_name(name)).write_text(value)
        for folder in (self.build, self.env, self.home, self.temporary, self.packs):
            if request.uid is not None:
                hand_over(folder, request.uid)
            folder.chmod(0o700)
        open_cache(request.cache, request.uid)
        if request.uid is not None:
            for folder in (self.build, request.cache):
                _check_way(folder, request.uid)

    def remove(self) -> None:
        remove_tree(self.root)


def find_build_dir(source: Path, folder: str) -> str:
    """`folder` once it is known to be a real one of this source. Raises BuildFailed."""
    found = source
    for part in PurePosixPath(folder).parts:
        found /= part
        if part in ("..", "/") or found.is_symlink() or not found.is_dir():
            raise BuildFailed(
                f"There is no folder {folder!a} in this commit, and build-dir says that it is what is built. "
                "Change that with git:set build-dir."
            )
    return folder


def workspace(builds: Path, build: str) -> Workspace:
    return Workspace(builds / f"{build}{_SUFFIX}")


def sweep_workspaces(builds: Path) -> None:
    """Remove the folders of builds that a killed server left. Only before the first build."""
    for left in builds.glob(f"*{_SUFFIX}"):
        remove_tree(left)


def _check_way(folder: Path, uid: int) -> None:
    closed = closed_folder(folder, uid)
    if closed is not None:
        mode = stat.S_IMODE(closed.stat().st_mode)
        raise BuilderUnavailable(
            f"Builds run as user id {uid}, which can't pass the folder {closed} (mode {mode:04o}). "
            f"Open it with `chmod o+x {closed}`, or put the data folder elsewhere."
        )


def open_cache(cache: Path, uid: int | None) -> None:
    """Make the folder where it is missing. It is the build's user's; one that was another user's is begun anew."""
    if cache.exists() and uid is not None and cache.stat().st_uid != uid:
        remove_tree(cache)
    if not cache.exists():
        for folder in reversed(cache.parents):
            if not folder.exists():
                open_folder(folder)
        cache.mkdir(mode=0o700)
        if uid is not None:
            hand_over(cache, uid)
    os.utime(cache)  # those that were not used for the longest time are collected first


def closed_folder(path: Path, uid: int) -> Path | None:
    """The outermost folder on the way to `path` that user and group `uid` can't pass; None: all open."""
    for folder in (*reversed(path.parents), path):
        info = folder.stat()
        if info.st_uid == uid:
            needed = 0o100
        elif info.st_gid == uid:
            needed = 0o010
        else:
            needed = 0o001
        if not info.st_mode & needed:
            return folder
    return None
