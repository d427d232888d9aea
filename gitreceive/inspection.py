"""Asking the buildpacks about what was pushed, without building it."""

import asyncio
import secrets
import shutil

from builder.base import Builder, BuilderUnavailable, BuildFailed
from builder.types import BuildRequest
from controller.config import Settings
from controller.errors import NotFound, Refused
from controller.operations.sources import Look
from controller.views import BuildpackVerdict
from gitreceive.push import SOURCE_SUFFIX
from gitreceive.repos import BareRepository
from gitreceive.sources import ExportSource, Silent, Sources

TIMEOUT = 120.0
"""Seconds that all buildpacks together may take to answer."""


class Inspection:
    """One at a time: it is work of a build's kind, and nobody waits for it but whoever asked."""

    def __init__(self, settings: Settings, builder: Builder, export_source: ExportSource) -> None:
        self._settings = settings
        self._builder = builder
        self._sources = Sources(settings, export_source)
        self._turn = asyncio.Lock()

    async def inspect(self, look: Look) -> tuple[BuildpackVerdict, ...]:
        """See `operations.sources.Inspect`."""
        service = look.service
        folders = self._settings.folders
        repository = folders.repositories / service.deployment / f"{service.name}.git"
        branches = service.branches if look.branch is None else (look.branch,)
        commit = await asyncio.to_thread(_head, repository, branches) if repository.is_dir() else None
        if commit is None:
            raise NotFound(f"Nothing was pushed to {' or '.join(branches)} yet: push first, then ask again.")
        name = f"detect-{secrets.token_hex(6)}"
        source = folders.builds / f"{name}{SOURCE_SUFFIX}"
        async with self._turn:
            try:
                folders.builds.mkdir(mode=0o711, parents=True, exist_ok=True)
                await self._sources.write(repository, commit, source, env={}, out=Silent())
                request = BuildRequest(
                    id=name,
                    deployment=service.deployment,
                    service=service.name,
                    source=source,
                    commit=commit,
                    env=look.env,
                    buildpacks=service.buildpacks,
                    build_dir=service.build_dir,
                    builder=service.builder,
                    dockerfile=service.dockerfile,
                    cache=folders.caches / service.deployment / service.name,
                    uid=service.uid,
                    timeout=TIMEOUT,
                )
                return tuple(await self._builder.inspect(request))
            except (BuildFailed, BuilderUnavailable) as error:
                raise Refused(str(error)) from error
            finally:
                await asyncio.shield(asyncio.to_thread(shutil.rmtree, source, ignore_errors=True))


def _head(repository: object, branches: tuple[str, ...]) -> str | None:
    """The commit of the first of these branches that there is."""
    with BareRepository(str(repository)) as repo:
        refs = repo.get_refs()
    for branch in branches:
        commit = refs.get(f"refs/heads/{branch}".encode())  # type: ignore[call-overload]
        if commit is not None:
            return str(commit.decode())
    return None
