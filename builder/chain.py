"""The buildpacks of one build, in their order: found, made ready, asked, run one after the other."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from builder.base import BuilderUnavailable, BuildFailed
from builder.buildpack import Buildpack, Release, find_buildpacks
from builder.clone import ensure_clone
from builder.detect import NOTHING_DETECTED, Detected, check_named, choose, judge
from builder.packlist import Wanted, find_wanted, inline_missing, is_inline
from builder.steps import Steps
from builder.types import BuildOutput, BuildRequest
from builder.workspace import Workspace
from controller.buildpacks import INLINE, Bundled, Folder, Repository, Source
from controller.types import BuilderChoice
from controller.views import BuildpackVerdict

SHARED = "lib"
"""Beside the bundled buildpacks: what they share. A copy of one finds it beside itself too."""

NO_ENGINE = (
    "The app's Dockerfile shall be built (builder:set), and this server has no container engine that runs images. Let "
    "buildpacks build it (builder:set selected buildpacks), or have the server use its backend and its builder docker."
)
NOT_TAKEN = (
    " There is a Dockerfile, which is built by itself only where the server has a container engine that runs images "
    "and nothing says that buildpacks build the app."
)


@dataclass(frozen=True, kw_only=True)
class Shelf:
    """Where buildpacks come from."""

    bundled: Path
    """A folder of them, readable for the build's user."""
    folders: tuple[Path, ...] = ()
    """Those of the server below which a buildpack may lie."""
    below: Path | None = None
    """In a container, where copies of the buildpacks from such folders lie, by their whole path."""


class Chain:
    """Nothing here knows where the steps run."""

    def __init__(self, steps: Steps, shelf: Shelf, folders: Workspace, request: BuildRequest) -> None:
        self._steps = steps
        self._shelf = shelf
        self._folders = folders
        self._request = request

    async def detect(self, out: BuildOutput) -> Sequence[Detected]:
        """Those that build, in their order. Raises BuildFailed where there are none."""
        wanted = self._find_wanted()
        if wanted is None:
            chosen = await choose(self._candidates(), self._steps.ask)
            if chosen is None:
                empty = not any(self._folders.build.iterdir())
                raise BuildFailed("The commit has no files." if empty else NOTHING_DETECTED + self._hint())
            return (chosen,)
        return [
            await check_named(await self._provide(source, out), wanted.by, self._steps.ask)
            for source in wanted.sources
        ]

    async def inspect(self, out: BuildOutput) -> Sequence[BuildpackVerdict]:
        """What each that would be asked says."""
        wanted = self._find_wanted()
        if wanted is None:
            return await judge(self._candidates(), "", self._steps.ask)
        named = [await self._provide(source, out) for source in wanted.sources]
        return await judge(named, wanted.by, self._steps.ask)

    async def compile(self, chosen: Sequence[Detected], out: BuildOutput) -> Release:
        """Run all of them; what the app gets of them: variables of all, process types of the last."""
        env: dict[str, str] = {}
        types: Mapping[str, str] = {}
        for number, detected in enumerate(chosen):
            out.step(f"{detected.words} app detected")
            buildpack = await self._own_copy(detected.buildpack, number)
            await self._steps.compile(buildpack, self._request.cache, self._folders.env, out)
            release = await self._steps.release(buildpack)
            env.update(release.env)
            types = release.process_types
            if number + 1 < len(chosen):
                await self._steps.export(buildpack)
        return Release(process_types=types, env=env)

    def _find_wanted(self) -> Wanted | None:
        if self._request.builder is BuilderChoice.DOCKERFILE:
            raise BuildFailed(NO_ENGINE)
        return find_wanted(self._folders.build, chosen=self._request.buildpacks, env=self._request.env)

    def _hint(self) -> str:
        name = self._request.dockerfile.path or "Dockerfile"
        return NOT_TAKEN if (self._folders.build / name).is_file() else ""

    def _candidates(self) -> Sequence[Buildpack]:
        inline = [self._inline()] if is_inline(self._folders.build) else []
        return [*inline, *find_buildpacks(self._shelf.bundled)]

    async def _provide(self, source: Source, out: BuildOutput) -> Buildpack:
        match source:
            case Bundled(name) if name == INLINE:
                if not is_inline(self._folders.build):
                    raise BuildFailed(inline_missing())
                return self._inline()
            case Bundled(name):
                found = Buildpack(self._shelf.bundled / name)
                if not found.is_whole():
                    known = ", ".join(
                        sorted(each.parent.parent.name for each in self._shelf.bundled.glob("*/bin/compile"))
                    )
                    raise BuildFailed(f"This server has no buildpack {name!r}. It has {known}, and {INLINE}.")
            case Folder():
                found = Buildpack(self._located(source), str(source))
            case Repository():
                path, commit = await ensure_clone(self._steps, source, self._request.cache)
                out.line(f"Buildpack {source} at {commit[:7]}")
                found = Buildpack(path, str(source))
        if not found.is_whole():
            raise BuildFailed(f"{source} is no buildpack: it lacks bin/detect or bin/compile.")
        return found

    def _inline(self) -> Buildpack:
        return Buildpack(self._folders.build, INLINE)

    def _located(self, source: Folder) -> Path:
        if self._shelf.below is not None:
            return self._shelf.below / str(source.path).lstrip("/")
        return allowed_folder(source, self._shelf.folders)

    async def _own_copy(self, buildpack: Buildpack, number: int) -> Buildpack:
        """What it writes beside its programs (`export`) is for this build alone. Copied by the build's user: a
        clone is that user's, and so are the links in it."""
        if buildpack.name == INLINE:
            return buildpack
        place = self._folders.packs / f"{number + 1}"
        await self._copy(buildpack.path, place, buildpack.name)
        shared = buildpack.path.parent / SHARED
        if buildpack.path.parent == self._shelf.bundled and shared.is_dir():
            # Again for each: the same content over itself.
            await self._copy(shared, self._folders.packs, buildpack.name)
        return Buildpack(place, buildpack.name)

    async def _copy(self, origin: Path, place: Path, name: str) -> None:
        command = ["cp", "-R", "-P", "--preserve=mode", "--", str(origin), str(place)]
        status, printed = await self._steps.command(command)
        if status != 0:
            raise BuilderUnavailable(f"The buildpack {name} could not be copied: {printed.strip()[-300:]}")


def allowed_folder(source: Folder, folders: Sequence[Path]) -> Path:
    """Where it lies on this machine. Raises BuildFailed where that is below none of these folders."""
    path = Path(source.path).resolve()
    if not any(path.is_relative_to(folder.resolve()) for folder in folders):
        raise BuildFailed(
            f"The buildpack {source} lies in no folder that this server takes buildpacks from "
            "(its setting buildpack_folders)."
        )
    return path
