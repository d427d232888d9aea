"""Builds with buildpacks in a container: the source goes in as a tar, the log and the slug come out.

The form is that of flynn/slugbuilder: told `-`, a container takes the source on its standard input, prints its log
on standard error and the slug on standard output. An image of ours (see `builder.inside`) is given an order before
the source, and says how it went before the slug.
"""

import asyncio
import errno
import gzip
import io
import logging
import os
import shutil
import tarfile
import zlib
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, cast

from builder import container
from builder.base import BuilderUnavailable, BuildFailed
from builder.builder_image import BuilderImage, ImageMaker
from builder.buildpack import BUNDLED, Release, checked_release, parse_release
from builder.certificates import ca_environment
from builder.container import Container, Wish
from builder.early import Early, EarlyContainers, Ready, identity
from builder.inside.order import MAX_OUTCOME, MEMORY, PIDS, Outcome
from builder.inside.parts import CERTIFICATES
from builder.limits import too_little_disk, too_many_processes, too_much_memory
from builder.ordering import order_of, plain_feed, with_order
from builder.phases import Phases
from builder.processes import process_types
from builder.restore import Damaged
from builder.slugignore import ignore_files
from builder.slugs import Progress, Slug, SlugStore
from builder.source import MAX_FILES
from builder.storage import measure
from builder.threads import completed, run_blocking, time_limit
from builder.transcript import Transcript
from builder.tree import megabytes, open_folder, read_small, remove_tree
from builder.types import BuildOutput, BuildRequest, Expected, Silent
from builder.unpack import TreeWriter, unpack_tar
from builder.workspace import find_build_dir, open_cache, sweep_workspaces, workspace
from controller.engine import Engine, EngineError
from controller.types import Artifact, ArtifactKind
from controller.views import BuildpackVerdict

log = logging.getLogger(__name__)

CACHE = "/tmp/cache"  # noqa: S108 - inside of a container
RELEASE_FILE = ".release"
MAX_RELEASE = 256 * 1024
MAX_NAME = 200
"""Characters of what was detected."""
WATCH_INTERVAL = 0.5
SIZE_INTERVAL = 2.0
SIZE_SHARE = 10
"""Counting what a container has written may take a tenth of the time."""
_GZIP = b"\x1f\x8b"
_KILLED = 137


@dataclass(frozen=True)
class _Built:
    """What came out, but for the slug's own tree."""

    outcome: Outcome | None
    """None of a foreign image."""
    has_slug: bool = False
    slug: Slug | None = None
    """None of a foreign image, whose tree is still to be packed."""

    @property
    def complete(self) -> bool:
        """Whether all that was asked for has come, but for how the container ends."""
        return self.outcome is not None and (self.has_slug or bool(self.outcome.verdicts))


@dataclass(frozen=True)
class _Run:
    """A build whose container has said all that it has to say."""

    built: _Built
    ending: "asyncio.Future[None]"
    """Raises what the container's end means, if that is no good one."""


class SlugBuilder:
    """Implements Builder: each build in a container of its own, as the service's own user."""

    def __init__(
        self,
        *,
        builds: Path,
        slugs: SlugStore,
        engine: Engine,
        realm: str,
        builder_image: str,
        buildpacks: Path = BUNDLED,
        build_env: Mapping[str, str] | None = None,
        ca_bundle: Path | None = None,
        disk_reserve: int = 0,
        buildpack_folders: Sequence[Path] = (),
        build_memory: int = 0,
        build_pids: int = 0,
        build_cpu: float = 0.0,
        build_disk: int = 0,
        build_network: str = container.ISOLATED,
        build_ready: float = 0.0,
    ) -> None:
        """`builds`: our folder for what is unpacked. The others as the settings of the same names, 0 for no limit."""
        self._builds = builds
        self._slugs = slugs
        self._engine = engine
        self._realm = realm
        self._images = ImageMaker(engine, builder_image, buildpacks=buildpacks, ca_bundle=ca_bundle)
        self._certificates = ca_environment(ca_bundle, PurePosixPath(CERTIFICATES))
        self._env = dict(build_env or {})
        self._disk_reserve = disk_reserve
        self._folders = tuple(buildpack_folders)
        self._memory = build_memory
        self._pids = build_pids
        self._cpu = build_cpu
        self._disk = build_disk
        self._network = build_network
        self._engine_disk: Path | None = None
        self._running: set[asyncio.Task[object]] = set()
        self._early = EarlyContainers(self._start_early, self._take_away, kept_after=build_ready)
        self._leaving = dict[str, asyncio.Task[None]]()
        """Builds whose containers are on their way out."""

    def expect(self, expected: Expected) -> None:
        """See SupportsExpecting. A container waits for the source."""
        self._early.expect(expected)

    async def sweep(self) -> None:
        """Remove what a server that was killed left behind. Call it once, before the first build."""
        await asyncio.to_thread(sweep_workspaces, self._builds)
        await self._slugs.sweep()
        try:
            await container.sweep(self._engine, self._realm)
            await self._images.sweep()
            await self._images.ensure()
        except (EngineError, BuilderUnavailable) as error:
            log.warning("builds in containers are not possible now: %s", error)

    async def inspect(self, request: BuildRequest) -> Sequence[BuildpackVerdict]:
        """See Builder. Asked as in a build."""
        async with self._counted(request) as early, time_limit(request.timeout):
            image = await self._images.ensure()
            if not image.ours:
                raise BuildFailed(
                    f"The builder image {image.reference} is not ours: what its buildpacks say shows a build."
                )
            run = await self._run(request, image, early, Silent())
            await run.ending
            assert run.built.outcome is not None
            return run.built.outcome.verdicts

    async def build(self, request: BuildRequest, out: BuildOutput) -> Artifact:
        """See Builder. The container is gone when this returns or raises."""
        async with self._counted(request) as early:
            phases = Phases(out)
            packing = partial(_tell_packing, phases)
            async with time_limit(request.timeout):
                image = await self._images.ensure()
                run = await self._run(request, image, early, phases, packing)
                name, release = await asyncio.to_thread(self._released, self._tree(request), run.built)
                types = process_types(self._tree(request), release, name, out)
            slug = await self._kept(request, run.built, packing)
            await run.ending
            self._early.linger(request.expected)
            out.step(f"Compiled slug size is {megabytes(slug.size)} ({phases.text()})")
            return Artifact(
                kind=ArtifactKind.SLUG,
                reference=slug.reference,
                size=slug.size,
                process_types=types,
                env=release.env,
                buildpack=name,
            )

    async def close(self) -> None:
        """End what still runs."""
        running = list(self._running)
        for task in running:
            task.cancel()
        await asyncio.gather(self._early.close(), *running, *self._leaving.values(), return_exceptions=True)
        await container.remove_network(self._engine, self._realm)

    @asynccontextmanager
    async def _counted(self, request: BuildRequest) -> AsyncIterator[Early | None]:
        """Known as one that runs, so that `close` ends it; its folders and its container go in any case."""
        task = asyncio.current_task()
        assert task is not None
        self._running.add(task)
        early = self._early.take(request.deployment, request.service)
        try:
            with self._in_words():
                try:
                    if (removing := self._leaving.get(request.id)) is not None:
                        await completed(removing)  # as after a look at the same source
                    await asyncio.to_thread(self._open_folder, request)
                    yield early
                except BaseException:
                    await completed(asyncio.gather(self._remove(request, early), self._clear(request)))
                    raise
                # One that has ended by itself goes while nobody waits for it.
                self._remove_later(request, early)
                await completed(self._clear(request))
        finally:
            self._running.discard(task)

    @contextmanager
    def _in_words(self) -> Iterator[None]:
        try:
            yield
        except EngineError as error:
            raise BuilderUnavailable(str(error)) from error
        except OSError as error:
            if shutil.disk_usage(self._builds).free < self._disk_reserve or error.errno == errno.ENOSPC:
                raise BuilderUnavailable(too_little_disk(self._disk_reserve)) from error
            raise BuilderUnavailable(
                f"What was built could not be taken: {error.strerror or error}."
            ) from error

    def _remove_later(self, request: BuildRequest, early: Early | None) -> None:
        removing = self._leaving[request.id] = asyncio.create_task(self._remove(request, early))
        removing.add_done_callback(lambda _: self._leaving.pop(request.id, None))

    async def _remove(self, request: BuildRequest, early: Early | None) -> None:
        """Its container, and the one that was started ahead of it."""
        if early is not None:
            await _settled(early.ready)  # one that is still being made must not come up afterwards
        names = [request.id, *([early.name] if early else [])]
        await asyncio.gather(*map(self._take_away, names))

    async def _take_away(self, name: str) -> None:
        try:
            await container.remove(self._engine, self._name(name))
        except EngineError as error:
            log.warning("build container not removed, the next start sweeps it: %s", error)

    async def _clear(self, request: BuildRequest) -> None:
        def clear() -> None:
            remove_tree(self._folder(request))
            remove_tree(request.source)
            self._slugs.discard(request.id)

        await asyncio.to_thread(clear)

    def _name(self, build: str) -> str:
        return f"mooring-build-{self._realm}-{build}"

    def _folder(self, request: BuildRequest) -> Path:
        return workspace(self._builds, request.id).root

    def _tree(self, request: BuildRequest) -> Path:
        return self._folder(request) / "slug"

    def _open_folder(self, request: BuildRequest) -> None:
        open_folder(self._builds)
        remove_tree(self._folder(request))
        self._slugs.discard(request.id)
        self._folder(request).mkdir(mode=0o700)

    async def _run(
        self,
        request: BuildRequest,
        image: BuilderImage,
        early: Early | None,
        out: BuildOutput,
        packing: Progress | None = None,
    ) -> _Run:
        """The container from its start to its last word. Raises BuildFailed, BuilderUnavailable, EngineError.

        `packing` is told how the slug comes; None: there will be none, the buildpacks are only asked.
        """
        loop = asyncio.get_running_loop()

        def tell(size: int, limit: int) -> None:
            if packing is not None:
                loop.call_soon_threadsafe(packing, size, limit)

        starting = asyncio.ensure_future(self._started(request, image, early))
        watching: asyncio.Task[BuildFailed | BuilderUnavailable] | None = None
        transcript = Transcript(out)
        try:
            source = await completed(asyncio.to_thread(self._prepared, request))
            if image.ours:
                order = await asyncio.to_thread(
                    order_of, request, source, self._folders, inspect=packing is None
                )
                feed = with_order(order, source)
            else:
                feed = plain_feed(source)
                if request.buildpacks:
                    out.warn(
                        f"The builder image {image.reference} chooses buildpacks itself: those set are not used."
                    )
            running = await asyncio.shield(starting)
            talking = asyncio.ensure_future(
                running.converse(
                    feed,
                    lambda stream: self._receive(stream, request, image, tell),
                    transcript,
                    keep_open=image.ours,
                )
            )
            watching = asyncio.create_task(self._watch(running, request.cache))
            await _either(talking, watching)
            if watching.done():
                raise watching.result()
            built = talking.result()
            # It takes a moment to end, in which its slug can be kept.
            ending = asyncio.ensure_future(self._judge(running, built, transcript))
            ending.add_done_callback(_noticed)  # also where nobody gets to ask it any more
            if not built.complete:
                await ending
            return _Run(built, ending)
        finally:
            transcript.finish()
            if watching is not None:
                watching.cancel()
            # What is still being made must not come up after it was taken away.
            await completed(_settled(starting))

    async def _started(self, request: BuildRequest, image: BuilderImage, early: Early | None) -> Container:
        """The one that waits, where it is as one made now would be; else one made now."""
        if early is not None:
            try:
                ready = await asyncio.shield(early.ready)
                if ready.fits(image.reference, request.uid, request.cache):
                    return ready.container
            except (EngineError, BuilderUnavailable, OSError) as error:
                log.info("no container ahead of the build build=%s error=%s", request.id, error)
        # A foreign image has no other way to get config.
        env = {} if image.ours else request.env
        cache = await self._cache_of(request.expected)
        return await self._start(request.id, request.expected, image, env, cache)

    async def _start_early(self, name: str, expected: Expected) -> Ready:
        image = await self._images.ensure()
        if not image.ours:
            raise BuilderUnavailable(f"The builder image {image.reference} is told config at its start.")
        cache = await self._cache_of(expected)
        # Of the one that it will have: it may be purged while the container starts.
        known = identity(expected.cache)
        running = await self._start(name, expected, image, {}, cache)
        return Ready(running, image.reference, expected.uid, known)

    async def _start(
        self, name: str, service: Expected, image: BuilderImage, env: Mapping[str, str], cache: str
    ) -> Container:
        uid = os.getuid() if service.uid is None else service.uid
        wish = Wish(
            name=self._name(name),
            image=image.reference,
            user=f"{uid}:{uid}" if image.ours else "",
            # A foreign image has no certificates of ours.
            env={**(self._certificates if image.ours else env), **self._env},
            binds=(f"{cache}:{CACHE}",),
            network=await container.ensure_network(self._engine, self._realm, self._network),
            confined=image.ours,
            memory=self._memory,
            pids=self._pids,
            cpu=self._cpu,
        )
        return await Container.start(self._engine, self._realm, wish)

    async def _cache_of(self, service: Expected) -> str:
        """The service's own folder; on an engine that does not see our files, a volume there, whose content counts
        for as long as that folder is here: whoever purges the cache takes it away."""
        purged = not service.cache.exists()
        await asyncio.to_thread(open_cache, service.cache, service.uid)
        if self._engine.is_local:
            # Itself and nothing below it: the service's user could put a link in the place of what is below.
            return str(service.cache.absolute())
        name = f"mooring-cache-{self._realm}-{service.deployment}-{service.service}"
        return await container.ensure_volume(self._engine, self._realm, name, anew=purged)

    def _prepared(self, request: BuildRequest) -> Path:
        source = request.source / find_build_dir(request.source, request.build_dir)
        ignore_files(source)
        return source

    def _receive(
        self, stream: io.BufferedReader, request: BuildRequest, image: BuilderImage, packing: Progress
    ) -> _Built:
        """Read what comes out, and write the slug's tree. In a thread."""
        outcome = _outcome(stream) if image.ours else None
        if image.ours and (outcome is None or not outcome.built):
            return _Built(outcome)
        if outcome is not None:
            return self._received(stream, request, outcome, packing)
        first = stream.peek(2)[:2]
        if not first:
            return _Built(None)
        plain = cast(io.BufferedReader, gzip.GzipFile(fileobj=stream)) if first == _GZIP else stream
        writer = TreeWriter(
            self._tree(request),
            max_files=10 * MAX_FILES,
            max_bytes=self._slugs.largest_tree,
            links_inside=False,
        )
        try:
            unpack_tar(plain, writer, lambda: None, path_of=_from_dot, hard_links=True)
            while plain.read(65536):
                pass  # the end of what is compressed is checked too
        except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile) as error:
            # Cut off, where the build was ended; how it ended says more.
            log.info("slug not read build=%s error=%s", request.id, error)
            return _Built(None)
        return _Built(None, has_slug=True)

    def _received(
        self, stream: io.BufferedReader, request: BuildRequest, outcome: Outcome, packing: Progress
    ) -> _Built:
        """Ours comes as it is kept: packed and sealed while it does."""
        packing(0, 0)
        try:
            slug = self._slugs.receive(
                stream,
                self._tree(request),
                build=request.id,
                deployment=request.deployment,
                service=request.service,
                uid=request.uid,
                progress=packing,
            )
        except Damaged as error:
            log.info("slug not read build=%s error=%s", request.id, error)
            return _Built(outcome)
        return _Built(outcome, has_slug=True, slug=slug)

    async def _kept(self, request: BuildRequest, built: _Built, progress: Progress) -> Slug:
        place = {"deployment": request.deployment, "service": request.service}
        if built.slug is None:
            progress(0, 0)
            tree = self._tree(request)
            return await self._slugs.keep(tree, uid=request.uid, progress=progress, **place)
        await self._slugs.adopt(built.slug, self._tree(request), build=request.id, **place)
        return built.slug

    async def _judge(self, running: Container, built: _Built, transcript: Transcript) -> None:
        """Raise what the end of the container means."""
        end = await running.end()
        outcome = built.outcome
        if outcome is not None and outcome.limit == PIDS:
            raise BuildFailed(too_many_processes(self._pids))
        if end.out_of_memory or (outcome is not None and outcome.limit == MEMORY):
            raise BuildFailed(too_much_memory(self._memory))
        if outcome is not None and outcome.failed:
            raise BuildFailed(outcome.failed)
        if outcome is not None and outcome.unavailable:
            raise BuilderUnavailable(outcome.unavailable)
        if end.status == 0 and (built.complete or (outcome is None and built.has_slug)):
            return
        if end.status == 0:
            raise BuilderUnavailable("The connection to the build's container broke, or it gave no slug.")
        raise BuildFailed(transcript.verdict or _failure(end.status))

    async def _watch(self, running: Container, cache: Path) -> BuildFailed | BuilderUnavailable:
        """Returns, once the build must end for its use of disks, why."""
        places = [self._builds, *([disk] if (disk := await self._disk_of_engine()) else [])]
        clock = asyncio.get_running_loop().time
        before: int | None = None
        next_size = clock() + SIZE_INTERVAL
        told = False
        while True:
            await asyncio.sleep(WATCH_INTERVAL)
            try:
                if any(shutil.disk_usage(each).free < self._disk_reserve for each in places):
                    return BuilderUnavailable(too_little_disk(self._disk_reserve))
                if self._disk and clock() >= next_size:
                    begun = clock()
                    kept = await run_blocking(partial(measure, cache))
                    before = kept if before is None else before
                    if await running.written() + max(0, kept - before) > self._disk or kept > self._disk:
                        return BuildFailed(
                            f"The build was ended because it wrote more than {megabytes(self._disk)}, the limit of "
                            "this server (build_disk)."
                        )
                    next_size = clock() + max(SIZE_INTERVAL, SIZE_SHARE * (clock() - begun))
                told = False
            except (OSError, EngineError) as error:  # a look that fails is no reason to stop looking
                if not told:
                    log.warning("build not looked at name=%s error=%s", running.name, error)
                told = True

    async def _disk_of_engine(self) -> Path | None:
        if self._engine_disk is None and self._engine.is_local:
            info = await self._engine.call(lambda client: client.info())
            place = Path(info["DockerRootDir"])
            self._engine_disk = place if place.is_dir() else self._builds
        return self._engine_disk

    def _released(self, tree: Path, built: _Built) -> tuple[str, Release]:
        """What was detected, and what the buildpacks declare. Blocking."""
        if built.outcome is not None:
            name = "".join(filter(str.isprintable, built.outcome.built))[:MAX_NAME]
            return name, checked_release(
                Release(process_types=built.outcome.process_types, env=built.outcome.env)
            )
        content = read_small(tree, RELEASE_FILE, MAX_RELEASE) or b""
        return "Buildpack", parse_release(content.decode("utf-8", "replace"))


def _tell_packing(out: Phases, size: int, limit: int) -> None:
    if size:
        out.line(f"Packing: {megabytes(size)} so far, at most {megabytes(limit)}")
    else:
        out.begin("slug")


def _outcome(stream: io.BufferedReader) -> Outcome | None:
    """None where nothing came, or nothing that an honest container says."""
    line = stream.readline(MAX_OUTCOME)
    try:
        return Outcome.parse(line) if line.endswith(b"\n") else None
    except ValueError:
        return None


def _from_dot(name: str) -> str:
    return "" if name == "." else name.removeprefix("./")


def _failure(status: int) -> str:
    if status == _KILLED:
        return "The build was killed (SIGKILL): most likely the server ran out of memory."
    return f"The build ended with status {status}; its last lines above say why."


async def _either(*waiting: "asyncio.Future[Any]") -> None:
    """Wait for one of them; the first is cancelled where we are, or where the other was the one."""
    try:
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    finally:
        if not waiting[0].done():
            waiting[0].cancel()
            await completed(asyncio.wait({waiting[0]}))


async def _settled(work: "asyncio.Future[Any]") -> None:
    await asyncio.wait({work})
    _noticed(work)


def _noticed(work: "asyncio.Future[Any]") -> None:
    if not work.cancelled():
        work.exception()
