"""The host builder: runs buildpacks as processes of this machine. It needs no container engine."""

import asyncio
import logging
import shutil
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from builder.base import BuilderUnavailable, BuildFailed
from builder.buildpack import BUNDLED
from builder.certificates import ca_environment
from builder.chain import Chain, Shelf
from builder.limits import BuildLimits, LimitedBuild, Limiter, too_little_disk
from builder.phases import Phases
from builder.processes import process_types
from builder.sandbox import Sandbox
from builder.slugs import SlugStore
from builder.steps import Steps
from builder.threads import completed, time_limit
from builder.tools import Tools, publish_tools, sweep_tools, system_path
from builder.tree import megabytes, remove_tree
from builder.types import BuildOutput, BuildRequest, Silent
from builder.workspace import Workspace, sweep_workspaces, workspace
from controller.types import Artifact, ArtifactKind
from controller.views import BuildpackVerdict

log = logging.getLogger(__name__)

_WATCH_INTERVAL = 0.5


class HostBuilder:
    """Builds with classic buildpacks, each build as its own user where the server is root.

    A buildpack is a folder with `bin/detect BUILD`, `bin/compile BUILD CACHE ENV_DIR` and, if it
    likes, `bin/release BUILD` (YAML: default_process_types, config_vars). What it writes to
    `.profile.d/*.sh` is sourced before each process starts, with the app's folder as working
    directory. It must not rely on the path of BUILD: the app runs elsewhere.
    """

    def __init__(
        self,
        *,
        builds: Path,
        tools: Path,
        slugs: SlugStore,
        buildpacks: Path = BUNDLED,
        build_env: Mapping[str, str] | None = None,
        ca_bundle: Path | None = None,
        disk_reserve: int = 0,
        buildpack_folders: Sequence[Path] = (),
        build_memory: int = 0,
        build_pids: int = 0,
        build_cpu: float = 0.0,
    ) -> None:
        """`builds` and `tools` are folders of ours below the data folder.

        `buildpacks`: a folder of buildpacks; by default the bundled ones. `build_env`: variables for
        every build. `ca_bundle`: trusted certificates, left out where the file does not exist.
        `disk_reserve`: a build is ended while fewer bytes are free. `buildpack_folders`: of the server,
        below which services may choose buildpacks. `build_…`: what one build may take, 0 for no limit.
        """
        self._builds = builds
        self._tools_folder = tools
        self._slugs = slugs
        self._buildpacks_source = buildpacks
        self._env = {**ca_environment(ca_bundle), **(build_env or {})}
        self._disk_reserve = disk_reserve
        self._buildpack_folders = tuple(buildpack_folders)
        self._limiter = Limiter(BuildLimits(memory=build_memory, pids=build_pids, cpu=build_cpu), builds)
        self._publishing = asyncio.Lock()
        self._tools: Tools | None = None
        self._running: set[asyncio.Task[object]] = set()

    async def sweep(self) -> None:
        """Remove what a server that was killed left behind. Call it once, before the first build."""
        await self._limiter.sweep()
        await asyncio.to_thread(sweep_workspaces, self._builds)
        await self._slugs.sweep()
        tools = await self._published()
        await asyncio.to_thread(sweep_tools, self._tools_folder, tools)

    async def inspect(self, request: BuildRequest) -> Sequence[BuildpackVerdict]:
        """See Builder. Asked as in a build: by the service's own user, within its limits."""
        async with self._counted(request) as folders:
            tools = await self._published()
            async with self._steps(request, folders, tools) as steps, time_limit(request.timeout):
                return await self._chain(steps, tools, folders, request).inspect(Silent())

    async def build(self, request: BuildRequest, out: BuildOutput) -> Artifact:
        """See Builder. Every process of the build has ended when this returns or raises."""
        async with self._counted(request) as folders:
            return await self._build(request, folders, out)

    @asynccontextmanager
    async def _counted(self, request: BuildRequest) -> AsyncIterator[Workspace]:
        """Known as one that runs, so that `close` ends it; its folders go in any case."""
        task = asyncio.current_task()
        assert task is not None
        self._running.add(task)
        folders = workspace(self._builds, request.id)
        try:
            yield folders
        finally:
            try:
                await completed(asyncio.to_thread(_remove_all, folders, request.source))
            finally:
                self._running.discard(task)

    async def close(self) -> None:
        """End what still runs."""
        running = list(self._running)
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        await self._limiter.close()

    async def _build(self, request: BuildRequest, folders: Workspace, out: BuildOutput) -> Artifact:
        phases = Phases(out)
        tools = await self._published()
        async with self._steps(request, folders, tools) as steps, time_limit(request.timeout):
            chain = self._chain(steps, tools, folders, request)
            chosen = await chain.detect(out)
            phases.begin("build")
            release = await chain.compile(chosen, phases)
            name = " + ".join(each.words for each in chosen)
            types = process_types(folders.build, release, name, out)
        phases.begin("slug")
        slug = await self._slugs.keep(
            folders.build,
            deployment=request.deployment,
            service=request.service,
            uid=request.uid,
            progress=lambda size, limit: out.line(
                f"Packing: {megabytes(size)} so far, at most {megabytes(limit)}"
            ),
        )
        out.step(f"Compiled slug size is {megabytes(slug.size)} ({phases.text()})")
        return Artifact(
            kind=ArtifactKind.SLUG,
            reference=slug.reference,
            size=slug.size,
            process_types=types,
            env=release.env,
            buildpack=name,
        )

    def _chain(self, steps: Steps, tools: Tools, folders: Workspace, request: BuildRequest) -> Chain:
        shelf = Shelf(bundled=tools.buildpacks, folders=self._buildpack_folders)
        return Chain(steps, shelf, folders, request)

    @asynccontextmanager
    async def _steps(self, request: BuildRequest, folders: Workspace, tools: Tools) -> AsyncIterator[Steps]:
        """A filled workspace with a warden beside it; nothing of the build runs any more afterwards."""
        opening = asyncio.create_task(Sandbox.open())
        limited: LimitedBuild | None = None
        try:
            await completed(asyncio.to_thread(folders.fill, request))
            sandbox = await asyncio.shield(opening)
            limited = await self._limiter.begin(request.id)
            ending = _Ending()
            watcher = asyncio.create_task(self._watch(sandbox, limited, ending))
            try:
                env = {**self._environment(tools), **folders.environment(request)}
                sandbox.groups = limited.files
                yield Steps(sandbox, env, cwd=folders.build, uid=request.uid, cause=limited.cause_of_end)
            except (BuilderUnavailable, BuildFailed) as error:
                if ending.reason is not None:
                    raise ending.reason from None
                # A build may fill the disk, and fail of it, between two looks of the watcher.
                if self._is_full():
                    raise BuilderUnavailable(too_little_disk(self._disk_reserve)) from None
                if isinstance(error, BuilderUnavailable) and (cause := limited.cause_of_end()):
                    raise BuildFailed(cause) from None
                raise
            finally:
                watcher.cancel()
        finally:
            await completed(_close_opened(opening))
            if limited is not None:
                await completed(asyncio.to_thread(limited.end))

    async def _watch(self, sandbox: Sandbox, limited: LimitedBuild, ending: "_Ending") -> None:
        """End a build that fills the disk or passes a limit: say why, and take its warden away."""
        while ending.reason is None:
            await asyncio.sleep(_WATCH_INTERVAL)
            try:
                if self._is_full():
                    ending.reason = BuilderUnavailable(too_little_disk(self._disk_reserve))
                elif over := await asyncio.to_thread(lambda: limited.look(sandbox.members())):
                    ending.reason = BuildFailed(over)
            except OSError as error:  # a look that fails is no reason to stop looking
                log.warning("build not looked at build=%s error=%s", limited.name, error)
        await sandbox.close()

    def _is_full(self) -> bool:
        return shutil.disk_usage(self._builds).free < self._disk_reserve

    async def _published(self) -> Tools:
        async with self._publishing:
            if self._tools is None or not self._tools.buildpacks.is_dir():
                self._tools = await asyncio.to_thread(
                    publish_tools, self._tools_folder, self._buildpacks_source
                )
        return self._tools

    def _environment(self, tools: Tools) -> Mapping[str, str]:
        return {
            "PATH": system_path(tools),
            "LANG": "C.UTF-8",
            "STACK": "host",
            **self._env,
        }


@dataclass
class _Ending:
    """Why we ended a build, once we have."""

    reason: BuildFailed | BuilderUnavailable | None = None


async def _close_opened(opening: "asyncio.Task[Sandbox]") -> None:
    try:
        sandbox = await opening
    except BuilderUnavailable:
        return
    await sandbox.close()


def _remove_all(folders: Workspace, source: Path) -> None:
    folders.remove()
    remove_tree(source)
