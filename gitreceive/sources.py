"""The source of a commit as a build gets it: its files, its submodules, its large files."""

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from builder.source import Exported
from builder.types import BuildOutput
from controller.config import Settings
from gitreceive.git import find_git
from gitreceive.large import LargeFiles
from gitreceive.submodules import Submodules


class ExportSource(Protocol):
    """As `builder.source.export_source`."""

    async def __call__(
        self, repository: Path, commit: str, destination: Path, *, env: Mapping[str, str]
    ) -> Exported: ...


class Sources:
    """Writes sources. Without git on the server a commit's own files are all there is."""

    def __init__(self, settings: Settings, export: ExportSource) -> None:
        self._settings = settings
        self._export = export
        git = find_git()
        self._submodules = Submodules(settings, git) if git is not None else None

    async def write(
        self, repository: Path, commit: str, destination: Path, *, env: Mapping[str, str], out: BuildOutput
    ) -> None:
        """Into the new folder `destination`. Raises BuildFailed, BuilderUnavailable."""
        exported = await self._export(repository, commit, destination, env=env)
        filled = await LargeFiles(repository, self._settings).fill(destination, size=exported.size)
        if filled:
            out.step(f"Large files: {filled} of Git LFS")
        if self._submodules is not None:
            await self._submodules.fill(repository, commit, destination, exported, env=env, out=out)


class Silent:
    """A BuildOutput for a source that nobody builds."""

    def step(self, text: str) -> None:
        """Nobody reads it."""

    line = warn = step
