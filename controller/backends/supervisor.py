"""Runs instances on this machine, without any engine: supervisord keeps them (see `keeper`).

The keeper is a daemon of its own. It outlives the controller, which finds its instances again by asking;
where it does not run (first use, reboot, killed), the next call starts it, and it brings back what it had.
"""

import asyncio
import contextlib
import os
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from controller.backends.attached import AttachedProcess
from controller.backends.base import BackendError, InstanceSpec, Observation, Terminal
from controller.backends.keeper.client import KeeperClient
from controller.backends.keeper.groups import Groups, attached_groups
from controller.backends.labels import to_instance, to_labels
from controller.backends.logs import instance_logs
from controller.backends.volumes import ensure_volumes, volume_folders
from controller.logs.query import LogQuery, LogStream
from controller.servicefile.keys import volume_variable
from controller.types import Instance, InstanceState

Prepare = Callable[[InstanceSpec], Awaitable[Path]]
"""Returns the folder with the unpacked artifact; may raise BackendError."""

SHUTDOWN_GRACE = 10.0
"""Seconds that instances get to end when the whole installation goes."""
KILL_MARGIN = 10.0
"""Seconds after its grace in which an instance must be gone; SIGKILL needs some where the disk is slow."""
LIMITS = ("cpu", "memory", "pids", "nofile")
LONGEST_VALUE = 128 * 1024 - 1
"""Bytes of `NAME=value` that Linux takes in one piece."""


class SupervisorBackend:
    """Implements Backend, SupportsLogs, SupportsLimits, SupportsRun and SupportsShutdown."""

    def __init__(
        self,
        *,
        folder: Path,
        logs: Path,
        prepare: Prepare,
        volumes: Path,
        address: str = "127.0.0.1",
        ports: range = range(20000, 30000),
        groups: bool = True,
    ) -> None:
        """`volumes`: the folder below which those of all services lie.
        `groups` False: limits are kept without the kernel's control groups, as far as that goes."""
        self._folder = folder
        self._keeper = KeeperClient(folder, groups=groups)
        self._logs = logs
        self._prepare = prepare
        self._volumes = volumes
        self._address = address
        self._ports = ports

    async def observe(self, *, after: str = "") -> Observation:
        answer = await self._keeper.observe(after=after)
        return Observation(
            instances=tuple(_instance(each) for each in answer["instances"]),
            cursor=answer.get("cursor", ""),
            complete=answer.get("complete", True),
            gone=frozenset(answer.get("gone", ())),
        )

    async def start(self, spec: InstanceSpec) -> Instance:
        check_runnable(spec)
        folder = await self._prepare(spec)
        await ensure_volumes(self._volumes, spec)
        if self._keeper.limits is None:
            await self._keeper.observe()  # whether it knows limits decides what it is told
        return _instance(await self._keeper.start(self._request(spec, folder)))

    def limits(self) -> Mapping[str, str]:
        return self._keeper.limits or dict.fromkeys(LIMITS, "not kept")

    async def stop(self, instance: str, *, grace: float) -> None:
        try:
            async with asyncio.timeout(grace + KILL_MARGIN):
                pause = 0.01
                while not await self._keeper.stop(instance, grace):
                    await asyncio.sleep(pause)
                    pause = min(0.2, pause * 1.5)
        except TimeoutError as error:
            raise BackendError(f"{instance} does not end, not even by SIGKILL.") from error

    async def run(self, spec: InstanceSpec, *, terminal: Terminal | None) -> AttachedProcess:
        check_runnable(spec)
        folder = await self._prepare(spec)
        await ensure_volumes(self._volumes, spec)
        await self._keeper.observe()  # it makes the folders that a command needs too
        request = self._request(spec, folder) | {"limits": asdict(spec.limits)}
        return await self._attach(request, None, terminal)

    async def enter(
        self, instance: str, command: str, *, env: Mapping[str, str], terminal: Terminal | None
    ) -> AttachedProcess:
        inside = {each["id"]: each["state"] for each in (await self._keeper.observe())["instances"]}
        if inside.get(instance) not in ("running", "starting"):
            raise BackendError(f"{instance} does not run now.", retryable=False)
        request: dict[str, Any] = {
            "id": instance,
            "labels": {},
            "command": command,
            "folder": "",
            "env": dict(env),
        }
        request |= {"uid": None, "log": "", "address": None, "ports": [0, 0]}
        return await self._attach(request, instance, terminal)

    async def _attach(
        self, request: dict[str, Any], inside: str | None, terminal: Terminal | None
    ) -> AttachedProcess:
        if terminal is not None:
            request = request | {"env": {**request["env"], "TERM": terminal.kind}}
        order = {"folder": str(self._folder.absolute()), "request": request, "inside": inside}
        return await AttachedProcess.start(order, terminal=terminal)

    async def close(self) -> None:
        """Nothing to let go of: each call has a connection of its own."""

    async def shutdown(self) -> None:
        try:
            async with asyncio.timeout(SHUTDOWN_GRACE + KILL_MARGIN):
                while not await self._keeper.stop_all(SHUTDOWN_GRACE):  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
        except TimeoutError as error:
            raise BackendError("Some instances do not end, not even by SIGKILL.") from error
        await self._keeper.end()
        await asyncio.to_thread(self._forget_groups)

    def logs(self, query: LogQuery) -> LogStream:
        return instance_logs(self._logs / query.deployment / query.service, query)

    def _forget_groups(self) -> None:
        """The folder that the control groups of attached commands were in: each of them may have needed it."""
        with contextlib.suppress(FileNotFoundError):
            Groups.find(attached_groups((self._folder / "realm").read_text())).close()

    def _volume_variables(self, spec: InstanceSpec) -> Mapping[str, str]:
        """Nothing is mounted for a plain process: it is told the folder itself."""
        places = volume_folders(self._volumes.absolute(), spec)
        return {volume_variable(name): str(place) for name, place in places.items()}

    def _request(self, spec: InstanceSpec, folder: Path) -> dict[str, Any]:
        """What `keeper.program.Request` parses."""
        return {
            "id": spec.id,
            "labels": dict(to_labels(spec)),
            "command": spec.command,
            "folder": str(folder.absolute()),
            "env": {**spec.env, **self._volume_variables(spec)},
            "uid": spec.uid,
            "log": str((self._logs / spec.deployment / spec.service / f"{spec.id}.log").absolute()),
            "address": self._address if spec.wants_port else None,
            "ports": [self._ports.start, self._ports.stop],
            **({} if self._keeper.limits is None else {"limits": asdict(spec.limits)}),
            **({"once": True} if spec.once else {}),  # a keeper that is older than we knows no such key
        }


def _time(seconds: float | None) -> datetime | None:
    return datetime.fromtimestamp(seconds, UTC) if seconds else None


def check_runnable(spec: InstanceSpec) -> None:
    """Raise BackendError, not retryable, for what the system would never take."""
    if spec.uid is not None and os.geteuid() not in (0, spec.uid):
        raise BackendError(
            f"{spec.id} shall run as user id {spec.uid}, which only root can do.", retryable=False
        )
    for name, value in {**spec.env, "its command": spec.command}.items():
        try:
            size = len(os.fsencode(f"{name}={value}"))
        except UnicodeEncodeError:
            size = -1
        if "\0" in value or "\0" in name or not 0 <= size <= LONGEST_VALUE:
            raise BackendError(
                f"{spec.id} can't be started: {name} is longer than {LONGEST_VALUE} bytes, "
                "holds a NUL character or is no valid text.",
                retryable=False,
            )


def _instance(info: Mapping[str, Any]) -> Instance:
    return to_instance(
        info["id"],
        info["labels"],
        state=InstanceState(info["state"]),
        address=info["address"],
        port=info["port"],
        started_at=_time(info["started_at"]),
        restarts=info["restarts"],
        next_start_at=_time(info.get("next_start_at")),
        detail=info["detail"],
        exit_code=info.get("exit_code"),
    )
