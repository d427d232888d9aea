"""From a commit in a bare repository to a folder with its files."""

import asyncio
import re
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from dulwich.object_store import DiskObjectStore, OverlayObjectStore
from dulwich.objects import Blob, Commit, ObjectID, Tag
from dulwich.repo import Repo

from builder.base import BuilderUnavailable, BuildFailed
from builder.threads import Check, completed, run_blocking
from builder.tree import remove_tree, shown
from builder.unpack import TreeWriter, unpack_tar

MAX_FILES = 200_000
MAX_BYTES = 4 * 1024**3
_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_INVALID_PATH = re.compile(r"invalid path '(.*)'$")
_SUBMODULE = 0o160000
_LINK = 0o120000
_FOLDER = 0o040000


@dataclass(frozen=True)
class Exported:
    """What was written."""

    files: int
    """Folders and links among them."""
    size: int


async def export_source(
    repository: Path,
    commit: str,
    destination: Path,
    *,
    env: Mapping[str, str] | None = None,
    timeout: float = 300.0,
    max_files: int = MAX_FILES,
    max_bytes: int = MAX_BYTES,
) -> Exported:
    """Write the files of `commit` (a full id) into the new folder `destination`.

    `env` is for git: the quarantine of a push (GIT_OBJECT_DIRECTORY and
    GIT_ALTERNATE_OBJECT_DIRECTORIES). `.gitattributes` works as for `git archive` (export-ignore,
    export-subst); submodules are empty folders. `timeout` is in seconds.

    Raises BuildFailed for content that we refuse (a path or link that leads out of the tree, too
    many files, too many bytes) and BuilderUnavailable when git fails. Nothing is left behind then,
    nor after a cancel.
    """
    if not _COMMIT.fullmatch(commit):
        raise BuilderUnavailable(f"{commit!r} is no full commit id.")

    def export(check: Check) -> Exported:
        writer = TreeWriter(destination, max_files=max_files, max_bytes=max_bytes, links_inside=True)
        git = shutil.which("git")
        if git:
            _export_by_git([git, *archive_command(repository, commit)], env or {}, writer, check)
        else:
            _export_by_dulwich(repository, commit, env or {}, writer, check)
        return Exported(writer.files, writer.size)

    try:
        async with asyncio.timeout(timeout):
            return await run_blocking(export)
    except BaseException as error:
        await completed(asyncio.to_thread(remove_tree, destination))
        if isinstance(error, TimeoutError):
            raise BuilderUnavailable(f"Reading the source took longer than {timeout:.0f} seconds.") from error
        if isinstance(error, OSError):
            raise BuilderUnavailable(f"The source could not be written: {error.strerror}.") from error
        raise


def archive_command(repository: Path, commit: str) -> list[str]:
    """The arguments for git that print the commit as a tar stream."""
    return ["-c", "safe.directory=*", "--git-dir", str(repository), "archive", "--format=tar", commit]


def git_environment(env: Mapping[str, str]) -> Mapping[str, str]:
    """What git sees: nothing of the server's own, no settings of the machine or the user."""
    clean = {
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "HOME": "/nonexistent",
        "LC_ALL": "C.UTF-8",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_TERMINAL_PROMPT": "0",
    }
    return {**clean, **env}


def _export_by_git(command: list[str], env: Mapping[str, str], writer: TreeWriter, check: Check) -> None:
    with tempfile.TemporaryFile() as errors:
        with subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            env=dict(git_environment(env)),
            cwd="/",
            start_new_session=True,
        ) as process:
            assert process.stdout is not None
            try:
                damage = _unpack(process.stdout, writer, check)
            except BaseException:
                process.kill()
                raise
        if refused := _INVALID_PATH.search(_last_line(errors)):
            raise BuildFailed(
                f"The commit holds a path that git never writes to a disk: {shown(refused[1])}."
            )
        # tarfile calls git's archive of a commit without files damaged.
        if process.returncode != 0 or (damage and not writer.is_empty):
            raise BuilderUnavailable(f"git could not read the commit: {_last_line(errors)}") from damage


def _unpack(stream: IO[bytes], writer: TreeWriter, check: Check) -> tarfile.TarError | None:
    """Unpack, and read to the end: a tar ends before its padding, and git must not die of a closed pipe."""
    damage = None
    try:
        unpack_tar(stream, writer, check)
    except tarfile.TarError as error:
        damage = error
    while stream.read(65536):
        check()
    return damage


def _last_line(errors: IO[bytes]) -> str:
    errors.seek(0)
    lines = errors.read(4096).decode("utf-8", "replace").strip().splitlines()
    return lines[-1] if lines else "it printed nothing."


def _export_by_dulwich(
    repository: Path, commit: str, env: Mapping[str, str], writer: TreeWriter, check: Check
) -> None:
    """The same without git on the machine. `.gitattributes` has no effect here."""
    with Repo(str(repository)) as repo:
        quarantine = env.get("GIT_OBJECT_DIRECTORY")
        stores = [DiskObjectStore(quarantine)] if quarantine else []
        store = OverlayObjectStore([*stores, repo.object_store])
        try:
            found = store[ObjectID(commit.encode())]
            while isinstance(found, Tag):
                found = store[found.object[1]]
            if not isinstance(found, Commit):
                raise BuilderUnavailable(f"{commit} is no commit.")
            for entry in store.iter_tree_contents(found.tree):
                check()
                path = entry.path.decode("utf-8", "surrogateescape")
                if entry.mode in {_SUBMODULE, _FOLDER}:
                    writer.directory(path)
                    continue
                blob = store[entry.sha]
                assert isinstance(blob, Blob)
                if entry.mode == _LINK:
                    writer.link(path, blob.data.decode("utf-8", "surrogateescape"))
                else:
                    writer.file(path, executable=bool(entry.mode & 0o100), chunks=blob.chunked)
        except KeyError as error:
            raise BuilderUnavailable(f"The repository lacks an object of {commit}.") from error
        writer.finish()
