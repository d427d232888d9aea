"""Buildpacks from git repositories: fetched by the build's own user, kept by commit in the service's cache."""

import asyncio
import hashlib
import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from builder.base import BuilderUnavailable, BuildFailed
from builder.steps import Steps
from builder.tree import walk
from controller.buildpacks import Repository

FOLDER = ".buildpacks"
"""Below a service's cache."""
FETCH_SECONDS = 120.0
MAX_BYTES = 64 * 1024**2
"""Of what is transferred, of any file, and of all of them."""
MAX_FILES = 20_000
ENVIRONMENT: Mapping[str, str] = {
    "GIT_ALLOW_PROTOCOL": "http:https",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_LFS_SKIP_SMUDGE": "1",
    "GIT_TERMINAL_PROMPT": "0",
}
_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


def resolve_command(source: Repository) -> list[str]:
    refs = [f"refs/heads/{source.ref}", f"refs/tags/{source.ref}", f"refs/tags/{source.ref}^{{}}"]
    return ["git", "ls-remote", "--", source.url, *(refs if source.ref else ["HEAD"])]


def fetch_commands(source: Repository, commit: str, place: Path) -> list[list[str]]:
    """What puts the files of that commit into the new folder `place`, submodules left out."""
    # One pack whatever its size, so that the limit on a file's size is one on the transfer.
    options = [
        "-c",
        "fetch.unpackLimit=1",
        "-c",
        "transfer.fsckObjects=true",
        "-c",
        "core.hooksPath=/dev/null",
    ]
    git = ["git", "-C", str(place), *options]
    return [
        ["mkdir", "-p", str(place.parent)],
        ["git", "init", "--quiet", "--template=", str(place)],
        [
            *git,
            "fetch",
            "--quiet",
            "--depth=1",
            "--no-tags",
            "--no-recurse-submodules",
            "--",
            source.url,
            commit,
        ],
        [*git, "checkout", "--quiet", "--detach", "FETCH_HEAD"],
        ["rm", "-rf", str(place / ".git")],
    ]


def parse_refs(text: str, source: Repository) -> str:
    """The commit among the lines of `ls-remote`; a branch before a tag of its name. Raises BuildFailed."""
    found = {name: commit for commit, _, name in (line.partition("\t") for line in text.splitlines())}
    for name in (
        f"refs/heads/{source.ref}",
        f"refs/tags/{source.ref}^{{}}",
        f"refs/tags/{source.ref}",
        "HEAD",
    ):
        if _COMMIT.fullmatch(found.get(name, "")):
            return found[name]
    if not source.ref:
        raise BuildFailed(f"The buildpack {source} has no commits.")
    raise BuildFailed(
        f"The buildpack {source.url} has no branch or tag {source.ref!r}; "
        "a commit is named by all of its 40 characters."
    )


async def ensure_clone(steps: Steps, source: Repository, cache: Path) -> tuple[Path, str]:
    """The folder with the repository's files, and their commit. Raises BuildFailed, BuilderUnavailable."""
    clone = _Clone(steps, source)
    try:
        commit = source.ref if _COMMIT.fullmatch(source.ref) else await clone.resolve()
        key = hashlib.sha256(str(source).encode()).hexdigest()[:16]
        place = cache / FOLDER / key / commit
        if not place.is_dir():
            await clone.fetch(commit, place)
    except TimeoutError as error:
        # The step still runs; the end of the build, which this is, takes it along.
        raise BuildFailed(
            f"Fetching the buildpack {source} took longer than {FETCH_SECONDS:.0f} seconds."
        ) from error
    return place, commit


class _Clone:
    """What it takes to get one, in a time that all of it shares."""

    def __init__(self, steps: Steps, source: Repository) -> None:
        self._steps = steps
        self._source = source
        self._end = time.monotonic() + FETCH_SECONDS

    async def resolve(self) -> str:
        return parse_refs(await self._run(resolve_command(self._source)), self._source)

    async def fetch(self, commit: str, place: Path) -> None:
        """Only one commit of each source is kept."""
        half = place.with_name("half")
        await self._run(["rm", "-rf", str(place.parent)])
        for command in fetch_commands(self._source, commit, half):
            await self._run(command)
        await asyncio.to_thread(_check_size, half, self._source)
        await self._run(["mv", "-T", str(half), str(place)])

    async def _run(self, command: Sequence[str]) -> str:
        left = max(0.0, self._end - time.monotonic())
        status, printed = await self._steps.command(
            command, env=ENVIRONMENT, limits={"FSIZE": MAX_BYTES}, timeout=left
        )
        if status == 127:
            raise BuilderUnavailable(
                "Buildpacks from git need git where builds run: install the Debian package git there."
            )
        if status != 0:
            lines = [line for line in printed.strip().splitlines() if line.strip()]
            why = f": {lines[-1][:300]}" if lines else "."
            raise BuildFailed(f"The buildpack {self._source} could not be fetched{why}")
        return printed


def _check_size(folder: Path, source: Repository) -> None:
    files = size = 0
    for node in walk(folder):
        files, size = files + 1, size + node.info.st_size
        if files > MAX_FILES or size > MAX_BYTES:
            raise BuildFailed(
                f"The buildpack {source} is larger than {MAX_BYTES // 1024**2} MB, or has more than {MAX_FILES} files."
            )
