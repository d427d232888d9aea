"""Runs instances as containers of the Docker engine on this machine, one for each.

The engine keeps them: it starts them again when they end, while we are down, and after a reboot. What must be
remembered of one is in its labels, so that whoever comes after us finds it again by asking the engine.
"""

import asyncio
import contextlib
import math
import secrets
from collections.abc import Awaitable, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from controller.backends.base import BackendError, InstanceSpec, Observation, Terminal
from controller.backends.docker.attached import (
    AttachedCommand,
    InContainer,
    OwnContainer,
    There,
    remove_container,
)
from controller.backends.docker.container import (
    ARTIFACT,
    ATTACHED,
    ID,
    KIND,
    OWNER,
    Place,
    attached_config,
    check_runnable,
    digest_of,
    instance_config,
    owner,
    sized,
)
from controller.backends.docker.guard import Guard
from controller.backends.docker.image import Image, ensure_image
from controller.backends.docker.launching import Launcher
from controller.backends.docker.networks import POOL, Networks
from controller.backends.docker.scribes import Scribes
from controller.backends.docker.seen import Seen
from controller.backends.docker.users import Users
from controller.backends.docker.volumes import Volumes
from controller.backends.docker.watch import Watch
from controller.backends.docker.wire import Wire, ask, close_all, open_wire
from controller.backends.keeper.processes import MARKER
from controller.backends.logs import instance_logs
from controller.engine import REALM, Engine, EngineError, EngineUnreachable, NotThere, Taken
from controller.logs.query import LogQuery, LogStream
from controller.types import ArtifactKind, Instance
from router.base import SupportsInnerPorts

Prepare = Callable[[InstanceSpec], Awaitable[Path]]
"""Returns the folder with the unpacked artifact; may raise BackendError."""

SHUTDOWN_GRACE = 10.0
"""Seconds that instances get to end when the whole installation goes."""
KILL_MARGIN = 15.0
"""Seconds after its grace in which an instance must have ended; SIGKILL needs some where the disk is slow."""
ATTACHED_READ_AHEAD = 32 * 1024
LIMITS = ("cpu", "memory", "pids")
_RETIRE_ATTEMPTS, _RETIRE_PAUSE = 10, 0.1  # seconds


class DockerBackend:
    """Implements Backend, SupportsLogs, SupportsLimits, SupportsRun, SupportsPublishing and SupportsShutdown."""

    def __init__(
        self,
        *,
        folder: Path,
        logs: Path,
        prepare: Prepare,
        engine: Engine,
        realm: str,
        runner_image: str,
        volumes: Path,
        networks: str = POOL,
        inner: SupportsInnerPorts | None = None,
    ) -> None:
        """`realm` marks what is ours. `volumes`: the folder below which those of all
        services lie. `networks`: the range that our networks are parts of. `inner`: leads containers of a deployment to
        each other, and is told which addresses they have."""
        self._logs = logs
        self._prepare = prepare
        self._engine = engine
        self._realm = realm
        self._runner_image = runner_image
        self._scribes = Scribes(engine.socket or "", folder)
        self._watch = Watch(engine, realm, self._scribes, logs)
        self._networks = Networks(engine, realm, pool=networks, inner=inner)
        self._launcher = Launcher(engine, realm, self._networks)
        # Of us alone: another server on the same engine has others.
        token = secrets.token_hex(4)
        self._marker, self._owner = f"{realm}:{token}/", f"{owner()} {token}"
        ours = {REALM: realm, KIND: ATTACHED, OWNER: self._owner}
        self._guard = Guard(engine.socket or "", ours, self._marker)
        self._volumes = Volumes(volumes, engine, realm, Users(engine, realm, {**ours, ID: "user"}))
        self._limits: Mapping[str, str] = {}

    async def observe(self, *, after: str = "") -> Observation:
        with self._as_ours():
            await self._watch.ensure()
            if not after:
                await self._networks.tell()
                await self._watch.look_at_all()
            if not self._limits:
                self._limits = await self._engine.call(_limits)
            return self._watch.observation(after)

    async def start(self, spec: InstanceSpec) -> Instance:
        check_runnable(spec)
        with self._as_ours():
            await self._watch.ensure()
            found = await self._watch.look(spec.id)
            if found is None:
                image, folder = await self._artifact(spec)
                await self._start(spec, image, folder)
            else:
                await self._continue(spec, found)
            return await self._started(spec)

    async def stop(self, instance: str, *, grace: float) -> None:
        with self._as_ours():
            await self._watch.ensure()
            seen = await self._watch.look(instance)
            if seen is None:
                return
            with contextlib.suppress(NotThere):
                if seen.kept:
                    # First of all, so that an engine that is killed meanwhile does not start it again, and a
                    # server that is killed finds that it was to be stopped.
                    await self._retire(seen.container)
                    await self._watch.look(instance)
                await self._end(seen.container, grace)
                await self._watch.look(instance)
                await self._scribes.finish(seen.container)
                await remove_container(self._socket, seen.container)
            self._networks.release(seen.address)
            self._watch.forget(instance)

    async def _retire(self, container: str) -> None:
        """The engine is not to start it again. One whose program ends this very moment can't be changed: the engine
        says so, and can a moment later."""
        for left in reversed(range(_RETIRE_ATTEMPTS)):
            try:
                await self._engine.call(lambda client: _retire(client, container))
            except EngineError as error:
                if not left or not error.retryable or isinstance(error, EngineUnreachable):
                    raise
            else:
                return
            await asyncio.sleep(_RETIRE_PAUSE)

    async def run(self, spec: InstanceSpec, *, terminal: Terminal | None) -> AttachedCommand:
        check_runnable(spec)
        with self._as_ours():
            await self._watch.ensure()
            image, folder = await self._artifact(spec)

            def describe(place: Place) -> dict[str, Any]:
                return attached_config(
                    spec,
                    image,
                    place,
                    realm=self._realm,
                    folder=folder,
                    volumes=self._volumes.folders(spec),
                    terminal=terminal,
                    owned_by=self._owner,
                )

            await self._guarded()
            name = f"{spec.id}-{secrets.token_hex(3)}"
            async with self._volumes.held(spec, image):
                return await self._run(name, spec.deployment, describe, terminal)

    async def enter(
        self, instance: str, command: str, *, env: Mapping[str, str], terminal: Terminal | None
    ) -> AttachedCommand:
        with self._as_ours():
            await self._watch.ensure()
            seen = await self._watch.look(instance)
            if seen is None or not seen.runs or seen.retired:
                raise BackendError(f"{instance} does not run now.", retryable=False)
            return await self._enter(seen, command, env, terminal)

    async def inner_address(self) -> str:
        with self._as_ours():
            return await self._networks.gateway()

    def limits(self) -> Mapping[str, str]:
        return self._limits or dict.fromkeys((*LIMITS, "nofile"), "container")

    async def close(self) -> None:
        await self._guard.close()
        await self._watch.close()
        await self._scribes.close()
        await self._engine.close()

    async def shutdown(self) -> None:
        with self._as_ours():
            await self._watch.ensure()
            await self._watch.look_at_all()
            names = [each.id for each in self._watch.observation("").instances]
            await asyncio.gather(*(self.stop(each, grace=SHUTDOWN_GRACE) for each in names))
            left = await self._engine.call(
                lambda client: client.containers(all=True, quiet=True, filters={"label": self._label})
            )
            await asyncio.gather(*(remove_container(self._socket, each["Id"]) for each in left))
            await self._networks.remove()

    def logs(self, query: LogQuery) -> LogStream:
        return instance_logs(self._logs / query.deployment / query.service, query)

    # Starting

    async def _artifact(self, spec: InstanceSpec) -> tuple[Image, Path | None]:
        if spec.artifact.kind is ArtifactKind.IMAGE:
            return await ensure_image(self._engine, spec.artifact.reference), None
        folder = await self._prepare(spec)
        runner = spec.artifact.runner
        try:
            return await ensure_image(self._engine, runner or self._runner_image), folder
        except BackendError as error:
            what, setting = (
                ("servers of resources", "resource_image") if runner else ("slugs", "runner_image")
            )
            raise BackendError(
                f"{error}. It is what {what} run in: make it with contrib/stack/build, or name another one "
                f"by the setting {setting}.",
                retryable=error.retryable,
            ) from error

    async def _start(self, spec: InstanceSpec, image: Image, folder: Path | None) -> None:
        def describe(place: Place) -> dict[str, Any]:
            return instance_config(
                spec,
                image,
                place,
                realm=self._realm,
                folder=folder,
                volumes=self._volumes.folders(spec),
            )

        try:
            async with self._volumes.held(spec, image):
                await self._launcher.launch(spec.id, spec.deployment, describe)
        except Taken:
            found = await self._watch.look(spec.id)  # somebody was faster
            if found is None:
                raise
            await self._continue(spec, found)

    async def _continue(self, spec: InstanceSpec, found: Seen) -> None:
        """It is there already, maybe made by a server that was killed before it was started."""
        if found.digest != digest_of(spec):
            raise BackendError(f"{spec.id} runs with another specification; stop it first.", retryable=False)
        if found.retired:
            raise BackendError(f"{spec.id} is being stopped.")
        if found.status == "created":
            # Others may have had its volumes since it was made.
            image, _ = await self._artifact(spec)
            async with self._volumes.held(spec, image):
                await self._engine.call(lambda client: client.start(found.container))

    async def _started(self, spec: InstanceSpec) -> Instance:
        await self._watch.look(spec.id)
        started = self._watch.instance(spec.id)
        if started is None:
            raise BackendError(f"{spec.id} was removed while it was started.")
        return started

    # Stopping

    async def _end(self, container: str, grace: float) -> None:
        """The engine goes on with it when we are gone."""
        seconds = math.ceil(grace)
        query, timeout = {"t": seconds}, seconds + KILL_MARGIN
        await ask(self._socket, "POST", f"/containers/{container}/stop", query, timeout=timeout)

    # Attaching

    async def _run(
        self,
        name: str,
        deployment: str,
        describe: Callable[[Place], dict[str, Any]],
        terminal: Terminal | None,
    ) -> AttachedCommand:
        wires: list[Wire] = []

        async def attach(container: str) -> None:
            close_all(wires)
            path, streams = (
                f"/containers/{container}",
                dict.fromkeys(("stream", "stdin", "stdout", "stderr"), 1),
            )
            wires.append(
                await open_wire(
                    self._socket, "POST", f"{path}/attach", streams, both_ways=True, limit=ATTACHED_READ_AHEAD
                )
            )
            wires.append(await open_wire(self._socket, "POST", f"{path}/wait", {"condition": "next-exit"}))

        try:
            container, place = await self._launcher.launch(name, deployment, describe, before_start=attach)
        except BaseException:
            close_all(wires)
            raise
        streams, ending = wires
        own = OwnContainer(
            self._engine, container, ending, gone=lambda: self._networks.release(place.address)
        )
        return _attached(streams, own, terminal)

    async def _enter(
        self, seen: Seen, command: str, env: Mapping[str, str], terminal: Terminal | None
    ) -> AttachedCommand:
        await self._guarded()
        marker = f"{self._marker}{secrets.token_hex(8)}"
        wanted = {**env, **({"TERM": terminal.kind} if terminal else {}), MARKER: marker}
        line = sized(command, terminal) if terminal else command
        exec_id = await self._engine.call(
            lambda client: _create_exec(client, seen, line, wanted, terminal=terminal is not None)
        )
        self._watch.expect_exec(exec_id)
        try:
            wire = await open_wire(
                self._socket,
                "POST",
                f"/exec/{exec_id}/start",
                body={"Detach": False, "Tty": terminal is not None},
                both_ways=True,
                limit=ATTACHED_READ_AHEAD,
            )
        except BaseException:
            self._watch.forget_exec(exec_id)
            raise
        there = InContainer(self._engine, self._watch, exec_id, seen.container, marker)
        return _attached(wire, there, terminal)

    async def _guarded(self) -> None:
        try:
            await self._guard.ensure()
        except OSError as error:
            raise BackendError(f"No process could be started: {error.strerror}.") from error

    # Reaching the engine

    @property
    def _label(self) -> str:
        return f"{REALM}={self._realm}"

    @property
    def _socket(self) -> str:
        assert self._engine.socket is not None
        return self._engine.socket

    @contextlib.contextmanager
    def _as_ours(self) -> Iterator[None]:
        """The engine's faults as BackendError."""
        if not self._engine.is_local:
            raise BackendError(
                f"The backend docker runs instances on this machine only, and its engine is at {self._engine.url}: "
                "set docker_host to a unix:// address, or choose another backend.",
                retryable=False,
            )
        try:
            yield
        except EngineError as error:
            raise BackendError(str(error), retryable=error.retryable) from error


def _retire(client: Any, container: str) -> None:
    client.update_container(container, restart_policy={"Name": "no"})


def _limits(client: Any) -> Mapping[str, str]:
    version = client.info().get("CgroupVersion") or "1"
    return {**dict.fromkeys(LIMITS, f"container cgroup v{version}"), "nofile": "rlimit"}


def _create_exec(client: Any, seen: Seen, line: str, env: Mapping[str, str], *, terminal: bool) -> str:
    """As the instance itself was started: a slug by its runner, which gives it its surroundings."""
    start = ["/bin/sh", "-c"]
    if seen.labels.get(ARTIFACT) == ArtifactKind.SLUG:
        start = client.inspect_container(seen.container)["Config"]["Entrypoint"] or start
    made = client.exec_create(seen.container, [*start, line], stdin=True, tty=terminal, environment=dict(env))
    return str(made["Id"])


def _attached(wire: Wire, there: There, terminal: Terminal | None) -> AttachedCommand:
    attached = AttachedCommand(wire, there, terminal=terminal is not None)
    if terminal is not None:
        attached.resize(terminal.columns, terminal.rows)
    return attached
