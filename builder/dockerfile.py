"""Builds a source's Dockerfile on a container engine: by BuildKit where a docker command speaks it, else by the
engine's own builder. The artifact is an image that stays on the engine."""

import asyncio
import logging
import os
import re
import shutil
from collections.abc import Coroutine, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from builder import buildkit, classic_build
from builder.base import BuilderUnavailable, BuildFailed
from builder.buildkit_guard import Guard
from builder.images import ImageFacts, ImageStore
from builder.packlist import find_wanted
from builder.procfile import FILE, MAX_BYTES, parse_procfile
from builder.sandbox import Sandbox
from builder.steps import Step
from builder.threads import completed, run_blocking, time_limit
from builder.transcript import Transcript
from builder.tree import megabytes, open_folder, read_small, remove_tree
from builder.types import BuildOutput, BuildRequest
from builder.workspace import find_build_dir, sweep_workspaces, workspace
from controller.engine import Engine, EngineError
from controller.types import Artifact, ArtifactKind, BuilderChoice
from controller.views import BuildpackVerdict

log = logging.getLogger(__name__)

DEFAULT = "Dockerfile"
NAME = "Dockerfile"
"""What built it, to people."""
AUTO, BUILDKIT, CLASSIC = "auto", "buildkit", "classic"
UNFINISHED, STAGE = "unfinished", "stage-"
"""Tags of what a build of the engine's own builder leaves for the next one."""
MAX_DOCKERFILE = 1024**2
WATCH_INTERVAL = 0.5
_WARM = ".dockerfile"
"""In the service's cache: a build of it has been; without it, what the engine remembers does not count."""
_MOUNT = re.compile(rb"^\s*RUN\s+(\\\s*\n\s*)?--(mount|network|security)=", re.IGNORECASE | re.MULTILINE)


class DockerfileBuilder:
    """Implements Builder. One step of a Dockerfile runs as the root of a container of its own.

    The engine's own builder keeps memory, processors and processes of each step, and any network. BuildKit keeps
    none of these: a guard writes them to the steps' control groups, where this server is root and on the engine's
    machine. Time, disk and the size of the image are ours to watch with both.
    """

    def __init__(
        self,
        *,
        builds: Path,
        engine: Engine,
        realm: str,
        build_env: Mapping[str, str] | None = None,
        ca_bundle: Path | None = None,
        disk_reserve: int = 0,
        build_memory: int = 0,
        build_pids: int = 0,
        build_cpu: float = 0.0,
        build_network: str = "isolated",
        image_limit: int = 0,
        dockerfile_builder: str = AUTO,
        runs_images: bool = True,
    ) -> None:
        """`dockerfile_builder`: `auto`, `buildkit` or `classic`. `runs_images`: whether what is built here can run on
        this server, so that a Dockerfile is taken by itself. The others as for HostBuilder."""
        self._builds = builds
        self._engine = engine
        self._images = ImageStore(engine, realm, limit=image_limit)
        self._env = dict(build_env or {})
        self._ca_bundle = ca_bundle
        self._disk_reserve = disk_reserve
        self._limits = classic_build.Limits(memory=build_memory, cpu=build_cpu, pids=build_pids)
        self._network = build_network
        self._wanted = dockerfile_builder
        self._runs_images = runs_images
        self._program: buildkit.Program | None = None
        self._looked = False
        self._places: tuple[Path, ...] = ()
        self._running: set[asyncio.Task[object]] = set()

    async def sweep(self) -> None:
        """Remove what a server that was killed left behind. Call it once, before the first build."""
        await asyncio.to_thread(sweep_workspaces, self._builds)
        with suppress(EngineError):
            await self._images.sweep()

    async def wants(self, request: BuildRequest) -> bool:
        """Whether the source's Dockerfile is what is built, by what was set or by what the source has."""
        return await asyncio.to_thread(wants_dockerfile, request, auto=self._runs_images)

    async def inspect(self, request: BuildRequest) -> Sequence[BuildpackVerdict]:
        """See Builder."""
        try:
            return (await asyncio.to_thread(_verdict, request),)
        finally:
            await completed(asyncio.to_thread(remove_tree, request.source))

    async def build(self, request: BuildRequest, out: BuildOutput) -> Artifact:
        """See Builder. Nothing of the build runs any more when this returns or raises."""
        task = asyncio.current_task()
        assert task is not None
        self._running.add(task)
        folder = workspace(self._builds, request.id).root
        try:
            async with time_limit(request.timeout):
                return await self._watched(self._build(request, folder, out))
        except EngineError as error:
            raise BuilderUnavailable(str(error)) from error
        finally:
            try:
                await completed(asyncio.to_thread(_remove_all, folder, request.source))
            finally:
                self._running.discard(task)

    async def close(self) -> None:
        running = list(self._running)
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    async def _build(self, request: BuildRequest, folder: Path, out: BuildOutput) -> Artifact:
        secrets = secret_values(request)
        out = _Discreet(out, secrets.values())
        source = await completed(asyncio.to_thread(_fill, request, folder))
        dockerfile = find_dockerfile(source, request.dockerfile.path)
        types = process_types(source)
        await asyncio.to_thread(_write_secrets, folder, {**self._offered(), **secrets})
        out.step(f"{NAME} app detected" + (f" ({dockerfile})" if dockerfile != DEFAULT else ""))
        program = await self._buildkit()
        cached = await asyncio.to_thread((request.cache / _WARM).exists)
        if program is not None:
            image = await self._by_buildkit(program, request, folder, dockerfile, cached, out)
        else:
            image = await self._by_engine(request, folder, dockerfile, cached, out)
        await asyncio.to_thread(_warm, request)
        facts = await self._kept(request, image)
        _check_starts(facts, types)
        _say_types(types, facts, out)
        out.step(f"Built an image of {megabytes(facts.size)}")
        return Artifact(
            kind=ArtifactKind.IMAGE, reference=facts.id, size=facts.size, process_types=types, buildpack=NAME
        )

    async def _kept(self, request: BuildRequest, image: str) -> ImageFacts:
        try:
            return await self._images.keep(request.deployment, request.service, image)
        except BuildFailed:
            await self._images.discard([image])
            raise

    # The two ways

    async def _buildkit(self) -> buildkit.Program | None:
        """The command for it; None where the engine's own builder is to be taken."""
        if self._wanted == CLASSIC or self._engine.url.startswith("ssh://"):
            return None
        if self._network not in ("isolated", "none") and self._wanted == AUTO:
            return None  # BuildKit knows no networks of the engine
        if not self._looked:
            self._program = await buildkit.find_program()
            self._looked = True
        if self._program is None and self._wanted == BUILDKIT:
            raise BuilderUnavailable(
                "the setting dockerfile_builder is buildkit, and no docker command here speaks it: install the plugin "
                "buildx, or a docker command before version 23."
            )
        return self._program

    async def _by_buildkit(
        self,
        program: buildkit.Program,
        request: BuildRequest,
        folder: Path,
        dockerfile: str,
        cached: bool,
        out: BuildOutput,
    ) -> str:
        guard = Guard(self._limits, f"mooring-{self._images.realm}")
        guarded = self._engine.is_local and await asyncio.to_thread(lambda: guard.can_see)
        wish = buildkit.Wish(
            host=guard.host if guarded else "",
            dockerfile=dockerfile,
            target=request.dockerfile.target,
            args={**self._env, **request.dockerfile.args},
            labels=self._images.labels(request.deployment, request.service),
            secrets=(*self._offered(), *request.dockerfile.secrets),
            network="none" if self._network == "none" else "default",
            cached=cached,
        )
        shown = buildkit.BuildKitLog(out)
        transcript = Transcript(shown)
        sandbox = await Sandbox.open()
        watching = asyncio.create_task(guard.watch()) if guarded else None
        try:
            step = Step(
                argv=tuple(buildkit.build_command(program, wish, "build")),
                env=buildkit.environment(folder, self._engine.url),
                cwd=folder,
                uid=None,
                limits={},
            )
            status = await sandbox.run(step, transcript)
        finally:
            transcript.finish()
            if watching is not None:
                watching.cancel()
            await sandbox.close()
        if status != 0:
            raise BuildFailed(shown.failure(status, memory=self._limits.memory if guarded else 0))
        return await asyncio.to_thread(lambda: (folder / buildkit.IMAGE_ID).read_text().strip())

    async def _by_engine(
        self, request: BuildRequest, folder: Path, dockerfile: str, cached: bool, out: BuildOutput
    ) -> str:
        source, context = folder / "build", folder / "context.tar"
        content = read_small(source / PurePosixPath(dockerfile).parent, Path(dockerfile).name, MAX_DOCKERFILE)
        if _MOUNT.search(content or b""):
            raise BuildFailed(
                "The Dockerfile has a `RUN --mount` or the like, which BuildKit understands and the engine's own "
                "builder does not; this server has no docker command with BuildKit, or was told not to use it (its "
                "setting dockerfile_builder). Copy what is needed instead, or use a build argument."
            )
        if request.dockerfile.secrets:
            out.warn("Build secrets can't be read without BuildKit, and this server builds without it.")
        await run_blocking(partial(classic_build.write_context, source, dockerfile, context))
        wish = classic_build.Wish(
            dockerfile=dockerfile,
            target=request.dockerfile.target,
            args={**self._env, **request.dockerfile.args},
            labels=self._images.labels(request.deployment, request.service),
            network={"isolated": "default"}.get(self._network, self._network),
            cached=cached,
        )
        outcome = await classic_build.build(self._engine, wish, self._limits, context, out)
        await self._hold_parts(request, outcome)
        if not outcome.image:
            raise BuildFailed(outcome.error or "The engine ended the build without saying why.")
        return outcome.image

    async def _hold_parts(self, request: BuildRequest, outcome: classic_build.Outcome) -> None:
        """What the next build may go on from has names, so that it is found again, and goes with the service."""
        parts = {f"{STAGE}{number}": image for number, image in enumerate(outcome.stages, 1) if image}
        if outcome.unfinished:
            parts[UNFINISHED] = outcome.unfinished
        for tag, image in parts.items():
            with suppress(EngineError):  # a base that has a name already goes on living by that
                await self._images.hold(request.deployment, request.service, tag, image)

    def _offered(self) -> Mapping[str, str]:
        """What every build may read as a secret: the certificates that the server trusts."""
        if self._ca_bundle is None or not self._ca_bundle.is_file():
            return {}
        return {"ca-bundle": self._ca_bundle.read_text(errors="surrogateescape")}

    # Watching

    async def _watched(self, work: Coroutine[Any, Any, Artifact]) -> Artifact:
        """End it when it fills the disk."""
        task = asyncio.ensure_future(work)
        watch = asyncio.create_task(self._until_full())
        try:
            await asyncio.wait({task, watch}, return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                return task.result()
            raise BuilderUnavailable(watch.result())
        finally:
            for each in (task, watch):
                each.cancel()
            await completed(asyncio.wait({task, watch}))

    async def _until_full(self) -> str:
        if not self._places:
            self._places = (self._builds, *await self._engine_root())
        while True:
            for place in self._places:
                with suppress(OSError):
                    if shutil.disk_usage(place).free < self._disk_reserve:
                        return (
                            f"The build was ended because less than {megabytes(self._disk_reserve)} are free on "
                            f"the disk of {place}. Make the image smaller, or have space made on the server."
                        )
            await asyncio.sleep(WATCH_INTERVAL)

    async def _engine_root(self) -> tuple[Path, ...]:
        """Where the engine keeps images; nothing where it is not on this machine."""
        if not self._engine.is_local:
            return ()
        try:
            root = Path(await self._engine.call(lambda client: str(client.info()["DockerRootDir"])))
        except (EngineError, KeyError):
            return ()
        return (root,) if root.is_dir() else ()


def wants_dockerfile(request: BuildRequest, *, auto: bool) -> bool:
    """Whether its Dockerfile is what is built; `auto`: also where only the source says so. Blocking.

    Raises BuildFailed for a source that names its buildpacks in a way that can't be read.
    """
    if request.builder is not BuilderChoice.AUTO:
        return request.builder is BuilderChoice.DOCKERFILE
    if not auto or request.buildpacks:
        return False
    folder = request.source / find_build_dir(request.source, request.build_dir)
    file = folder / (request.dockerfile.path or DEFAULT)
    if file.is_symlink() or not file.is_file():
        return False
    return find_wanted(folder, chosen=request.buildpacks, env=request.env) is None


def find_dockerfile(source: Path, path: str) -> str:
    """Its path below `source`, once it is known to be a file reached without a link. Raises BuildFailed."""
    name = path or DEFAULT
    folder, parts = source, PurePosixPath(name).parts
    for part in parts[:-1]:
        folder /= part
        if part in ("..", "/") or folder.is_symlink() or not folder.is_dir():
            raise _no_dockerfile(name)
    content = read_small(folder, parts[-1], MAX_DOCKERFILE)
    if content is None:
        raise _no_dockerfile(name)
    if len(content) > MAX_DOCKERFILE:
        raise BuildFailed(f"{name!a} is larger than {megabytes(MAX_DOCKERFILE)}.")
    return name


def process_types(source: Path) -> Mapping[str, str]:
    """Those of the source's Procfile, run in the image in place of what it runs itself; none where there is none."""
    content = read_small(source, FILE, MAX_BYTES)
    return parse_procfile(content) if content is not None else {}


def secret_values(request: BuildRequest) -> Mapping[str, str]:
    """Raises BuildFailed for one that is not set."""
    for name in request.dockerfile.secrets:
        if name not in request.env:
            raise BuildFailed(
                f"The build may read the secret {name} (builder:secrets), and there is no config variable of that "
                f"name: set it with config:set {name}=…, or take it out of the secrets."
            )
    return {name: request.env[name] for name in request.dockerfile.secrets}


class _Discreet:
    """A BuildOutput that does not repeat secrets, whatever a step prints."""

    HIDDEN = "(hidden)"
    SHORTEST = 4
    """Anything shorter would hide half of the log."""

    def __init__(self, out: BuildOutput, values: Iterable[str]) -> None:
        lines = {line.strip() for value in values for line in value.splitlines()}
        self._secrets = sorted((each for each in lines if len(each) >= self.SHORTEST), key=len, reverse=True)
        self._out = out

    def step(self, text: str) -> None:
        self._out.step(self._without(text))

    def line(self, text: str) -> None:
        self._out.line(self._without(text))

    def warn(self, text: str) -> None:
        self._out.warn(self._without(text))

    def _without(self, text: str) -> str:
        for each in self._secrets:
            text = text.replace(each, self.HIDDEN)
        return text


def _verdict(request: BuildRequest) -> BuildpackVerdict:
    source = request.source / find_build_dir(request.source, request.build_dir)
    try:
        words, found = find_dockerfile(source, request.dockerfile.path), True
    except BuildFailed as error:
        words, found = str(error), False
    by = "builder:set" if request.builder is BuilderChoice.DOCKERFILE else ""
    return BuildpackVerdict(buildpack=NAME, by=by, matched=found, words=words, builds=found)


def _no_dockerfile(name: str) -> BuildFailed:
    return BuildFailed(
        f"There is no file {name!a} in what is built, and it is the Dockerfile that shall be: add it, name another one "
        "(builder:set dockerfile PATH), or let buildpacks build this app (builder:set selected buildpacks)."
    )


def _check_starts(facts: ImageFacts, types: Mapping[str, str]) -> None:
    if not types and not facts.starts:
        raise BuildFailed(
            "Nothing says what the image runs: add a CMD or an ENTRYPOINT to the Dockerfile, or a Procfile with a line "
            "such as `web: python app.py` beside it."
        )


def _say_types(types: Mapping[str, str], facts: ImageFacts, out: BuildOutput) -> None:
    out.step("Discovering process types")
    if types:
        out.line(f"Procfile declares types -> {', '.join(types)}")
    else:
        out.line("The image runs its own command")
    if facts.ports:
        out.line(f"It exposes {', '.join(facts.ports)}")


def _fill(request: BuildRequest, folder: Path) -> Path:
    """The source in its place; returns it. Blocking."""
    try:
        open_folder(folder.parent)
        remove_tree(folder)
        folder.mkdir(mode=0o700)
        (folder / "home").mkdir(mode=0o700)
        source = folder / "build"
        shutil.move(request.source / find_build_dir(request.source, request.build_dir), source)
        if (source / classic_build.IGNORE).is_symlink():
            (source / classic_build.IGNORE).unlink()  # it could name any file of the server
    except OSError as error:
        raise BuilderUnavailable(
            f"The build's folder could not be made: {error.strerror or error}."
        ) from error
    return source


def _write_secrets(folder: Path, values: Mapping[str, str]) -> None:
    place = folder / buildkit.SECRETS
    place.mkdir(mode=0o700)
    for name, value in values.items():
        opened = os.open(place / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with os.fdopen(opened, "wb") as file:
            file.write(value.encode("utf-8", "surrogateescape"))


def _warm(request: BuildRequest) -> None:
    """From the next build on, what the engine remembers counts. Blocking."""
    cache, uid = request.cache, request.uid
    for folder in reversed(cache.parents):
        if not folder.exists():
            open_folder(folder)
    if not cache.exists():
        cache.mkdir(mode=0o700)
        if uid is not None:
            os.chown(cache, uid, uid)
    with suppress(OSError):
        os.close(os.open(cache / _WARM, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
    os.utime(cache)


def _remove_all(folder: Path, source: Path) -> None:
    remove_tree(folder)
    remove_tree(source)
