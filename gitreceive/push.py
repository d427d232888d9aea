"""The pipeline: from a pushed commit to a version that serves. `deploy` is its table of contents."""

import asyncio
import logging
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from builder.base import Builder, BuilderUnavailable, BuildFailed, SupportsExpecting
from builder.types import BuildRequest, Expected
from controller.client import Change, Client, ServiceInfo
from controller.config import Settings
from controller.errors import MooringError
from controller.names import Address
from controller.types import Artifact, Service, Version, VersionStatus
from gitreceive.manifest import Setup, read_manifest, set_up, set_variables
from gitreceive.quarantine import Quarantine
from gitreceive.record import BuildCanceled, BuildRecord, Refusal, build_record
from gitreceive.sources import Sources
from gitreceive.turns import Line, Turns, behind_others, for_a_place

log = logging.getLogger(__name__)

SOURCE_SUFFIX = "-source.tmp"
"""Of the folder below `builds/` that a build's source is unpacked to."""
FOLLOW_TIMEOUT = 3600.0
"""Seconds that we follow a rollout; its own limits (health check, drain) end it long before."""
SHOWN_LOG_LINES = 30
STATUS_TIMEOUT = 5.0
"""Seconds that the server may take to say what fills its disk."""


class PushRefused(Refusal):
    """This branch does not move. `short` goes into git's report, the text is shown before it."""

    def __init__(self, short: str, text: str, *, log_lines: tuple[str, ...] = ()) -> None:
        super().__init__(text)
        self.short = short
        self.log_lines = log_lines


class Printer(Protocol):
    """Whoever delivers reads it: `gitreceive.progress.Progress` for a push."""

    def step(self, text: str) -> None: ...
    def section(self, text: str) -> None:
        """A bigger heading."""

    def line(self, text: str) -> None: ...
    def warn(self, text: str) -> None: ...


class Landing(Protocol):
    """Something on its way to serve, whichever way it came."""

    @property
    def address(self) -> Address: ...
    @property
    def client(self) -> Client: ...
    @property
    def out(self) -> Printer: ...


class Branch(Protocol):
    """The branch that is pushed to."""

    name: str

    async def check(self) -> str | None:
        """Its commit now, None when it is new; raises PushRefused when moving it would lose commits."""

    async def move(self, commit: str) -> None:
        """Keep the push's objects and point the branch at the commit; raises PushRefused."""


@dataclass(frozen=True, kw_only=True)
class Push:
    """What somebody pushed to a deploy branch."""

    address: Address
    user: str
    branch: Branch
    commit: str
    quarantine: Quarantine
    client: Client
    """Acts as that user."""
    out: Printer
    finish: Callable[[], None]
    """To be called when the push must be done to its end, also for a client that has gone."""
    kind: str = "push"
    """What it is to people: a push, an archive, a sync."""
    origin: str = ""
    """As in Version."""

    @property
    def short(self) -> str:
        return self.commit[:7]

    @property
    def what(self) -> str:
        return f"{self.kind} of {self.short} to {self.branch.name}"


@dataclass(frozen=True, kw_only=True)
class Workshop:
    """What the pipeline works with, the same for all pushes."""

    settings: Settings
    builder: Builder
    sources: Sources
    turns: Turns
    """Of deploys: those to one service wait for each other."""
    places: Line
    """Of builds, over all services."""


async def deploy(push: Push, workshop: Workshop) -> None:
    """Build the commit and release it. Returns when it serves and the branch has moved.

    Raises PushRefused when not: then the branch stays, and the version that served before goes on.
    Cancelled: the build ends and leaves nothing. After `push.finish` the release is under way and
    a client that goes changes nothing any more.
    """
    with refused_in_words(push), workshop.turns.join(push.address, f"{push.user}'s {push.what}") as turn:
        async with build_record(
            push.client, push.address, commit=push.commit, reason=push.what, out=push.out
        ) as record:
            if not turn.has_come:
                await push.client.ensure_service(push.address)
                await record.wait(turn, lambda: behind_others(turn))
            await say_when_history_changes(push)
            await refuse_full_disk(workshop.settings, push.client)
            info = await push.client.ensure_service(push.address)
            if version := await find_wanted_version(push, info):
                push.finish()
                await rejoin(push, version)
            else:
                setup = await prepare(push, info)
                artifact = await make_artifact(push, info, setup, workshop, record)
                push.finish()
                change = await release(push, artifact, setup, record.id)
                await follow(push, change)
        await push.branch.move(push.commit)
        await announce(push)


def expect_build(service: Service, workshop: Workshop) -> None:
    """Somebody was let in to push: what the builder can make ready before the source has come, it may make now."""
    if service.created_at is None or not isinstance(workshop.builder, SupportsExpecting):
        return  # it is the first push that makes the service, and its user
    workshop.builder.expect(
        Expected(
            deployment=service.deployment,
            service=service.name,
            cache=_cache(service.deployment, service.name, workshop.settings),
            uid=service.uid,
            builder=service.builder,
        )
    )


def _cache(deployment: str, service: str, settings: Settings) -> Path:
    return settings.folders.caches / deployment / service


async def say_when_history_changes(push: Push) -> None:
    before = await push.branch.check()
    if before and before != push.commit and not await push.quarantine.contains(before, push.commit):
        push.out.step(
            f"Other history: {push.branch.name} no longer contains {before[:7]}, which it had before"
        )


async def refuse_full_disk(settings: Settings, client: Client) -> None:
    """Raises PushRefused while the data folder's disk has less free space than its reserve."""
    free = shutil.disk_usage(settings.data).free
    if free < settings.disk_reserve:
        raise PushRefused(
            "server disk is full",
            f"The server has {_mib(free)} of disk space left and keeps {_mib(settings.disk_reserve)} in reserve "
            f"(its setting disk_reserve). {await _uses_of_disk(client)}Its administrator must make room, then push "
            "again: `disk` shows what uses it, `disk:collect` removes what nothing needs, and apps that nobody needs "
            "may be destroyed.",
        )


async def _uses_of_disk(client: Client) -> str:
    """What of it is Mooring's own, in a sentence; empty where that is not known now."""
    disk = None
    with suppress(MooringError, TimeoutError):
        async with asyncio.timeout(STATUS_TIMEOUT):
            disk = (await client.status()).disk
    if disk is None or not disk.usage:
        return ""
    largest = sorted(disk.usage.items(), key=lambda each: each[1], reverse=True)[:4]
    return f"Mooring's own files: {', '.join(f'{kind} {_mib(size)}' for kind, size in largest)}. "


def _mib(size: int) -> str:
    return f"{size / 1024**2:.0f} MiB"


async def find_wanted_version(push: Push, info: ServiceInfo) -> Version | None:
    """The version that serves or is on its way there, when it came from this very commit.

    On its way: the server, or the client, went away after the version was written. None where config
    is staged: a push releases it.
    """
    if info.service.target is None or info.staged:
        return None
    version = await push.client.version(push.address, info.service.target)
    return version if version.commit == push.commit else None


async def rejoin(push: Push, version: Version) -> None:
    """Nothing has to be built; but the push is done only when that version serves."""
    if version.status is VersionStatus.PENDING:
        push.out.step(f"No changes: {push.short} is on its way already, as v{version.number}")
        await follow_version(push, version)
    else:
        push.out.step(f"No changes: {push.short} runs already, as v{version.number}")


@contextmanager
def refused_in_words(push: Landing) -> Iterator[None]:
    """Turn the ways in which a build ends badly into PushRefused."""
    try:
        yield
    except BuildFailed as error:
        raise PushRefused("build failed", f"{error}") from error
    except BuildCanceled as error:
        raise PushRefused("build cancelled", f"{error}") from error
    except BuilderUnavailable as error:
        log.warning("builder unavailable address=%s error=%s", push.address, error)
        raise PushRefused(
            "builder unavailable", f"The server could not build, through no fault of yours: {error}"
        ) from error


async def prepare(push: Push, info: ServiceInfo) -> Setup:
    """What the code wants set. Raises PushRefused where it requires what nobody has set."""
    app = await read_manifest(push.quarantine, push.commit, info.service.build_dir)
    try:
        setup = await set_up(push.client, push.address, app)
    except Refusal as error:
        raise PushRefused("config is missing", str(error)) from error
    if setup.variables:
        push.out.step(f"Setting {', '.join(setup.variables)}, as app.json says")
    for note in app.notes:
        push.out.line(f"{note}")
    return setup


async def make_artifact(
    push: Push, info: ServiceInfo, setup: Setup, workshop: Workshop, record: BuildRecord
) -> Artifact:
    """Build, once there is a place for it."""
    with workshop.places.join(str(push.address)) as turn:
        await record.wait(turn, lambda: for_a_place(turn, workshop.places.places))
        return await record.run(lambda: _build(push, info, setup, workshop, record))


async def _build(
    push: Push, info: ServiceInfo, setup: Setup, workshop: Workshop, record: BuildRecord
) -> Artifact:
    folders = workshop.settings.folders
    source = folders.builds / f"{record.id}{SOURCE_SUFFIX}"
    try:
        folders.builds.mkdir(mode=0o711, parents=True, exist_ok=True)
        await workshop.sources.write(
            push.quarantine.repository, push.commit, source, env=push.quarantine.environment, out=record
        )
        request = BuildRequest(
            id=record.id,
            deployment=push.address.deployment,
            service=push.address.service,
            source=source,
            commit=push.commit,
            env={**setup.variables, **await set_variables(push.client, push.address)},
            buildpacks=info.service.buildpacks,
            build_dir=info.service.build_dir,
            builder=info.service.builder,
            dockerfile=info.service.dockerfile,
            cache=_cache(push.address.deployment, push.address.service, workshop.settings),
            uid=info.service.uid,
            timeout=workshop.settings.build_timeout,
        )
        return setup.of(await workshop.builder.build(request, record))
    finally:
        await asyncio.shield(asyncio.to_thread(shutil.rmtree, source, ignore_errors=True))


async def release(push: Push, artifact: Artifact, setup: Setup, build: str) -> Change:
    return await push.client.release(
        push.address,
        artifact,
        commit=push.commit,
        origin=push.origin,
        build=build,
        reason=push.what,
        variables=setup.variables,
        formation=setup.app.formation,
    )


async def follow(push: Landing, change: Change) -> None:
    """See the release through, whatever it came to. Raises PushRefused when it does not come to serve."""
    if change.version is None:
        if change.held:
            push.out.warn(f"{push.address} is held: {change.held.rstrip('.')}. It starts once that is there.")
        else:
            push.out.step("No changes")
        return
    push.out.step(f"Releasing v{change.version.number}")
    if change.version.staged:
        push.out.line(f"with the staged config {', '.join(change.version.staged)}")
    await follow_version(push, change.version)


async def follow_version(push: Landing, version: Version) -> None:
    """Print its rollout as it goes. Raises PushRefused when it does not come to serve."""
    ended = await _last_step(push, version)
    match ended.status:
        case VersionStatus.LIVE:
            return
        case VersionStatus.PENDING:
            return  # it waits for somebody's word, or the service is stopped, as its last step has said
        case VersionStatus.SUPERSEDED:
            push.out.warn(f"v{ended.number} was overtaken by a newer version before it came to serve.")
        case VersionStatus.CANCELED:
            raise PushRefused("canceled", f"v{ended.number} does not come to serve: {ended.failure}.")
        case _:
            raise PushRefused(
                "release failed",
                f"v{ended.number} failed: {ended.failure or 'it did not come to serve.'}",
                log_lines=ended.failure_log[-SHOWN_LOG_LINES:],
            )


async def _last_step(push: Landing, version: Version) -> Version:
    try:
        async with asyncio.timeout(FOLLOW_TIMEOUT):
            async for step in push.client.follow(push.address, version.number):
                if step.text:
                    push.out.line(step.text)
                if step.done and step.version is not None:
                    return step.version
    except (MooringError, TimeoutError) as error:
        log.warning(
            "rollout not followed address=%s version=%d error=%s", push.address, version.number, error
        )
    raise PushRefused(
        "outcome unknown",
        f"v{version.number} is released, but how it goes can't be seen from here: it may still come to serve. "
        "Look at its releases; the same push again does no harm.",
    )


async def announce(push: Landing) -> None:
    try:
        info = await push.client.service(push.address)
    except MooringError as error:
        push.out.warn(f"Deployed; its addresses can't be shown now: {error}")
        return
    if info.held or info.service.stopped or info.rollout or not info.urls:
        return
    push.out.section("Application deployed:")
    for url in info.urls:
        push.out.line(url)


def sweep_sources(builds: Path) -> None:
    """Remove the source trees of builds that the server died under. Only before the first push."""
    for left in builds.glob(f"*{SOURCE_SUFFIX}"):
        shutil.rmtree(left, ignore_errors=True)
