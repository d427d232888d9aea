"""What the controller may ask of the keeper: an XML-RPC namespace in supervisord's own server.

Arguments and answers are JSON text: supervisord marshals structures slowly, and XML-RPC knows no None.
Calls run in supervisord's main loop, one after another, so that nothing here needs a lock.
"""

import base64
import contextlib
import json
import random
import socket
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from supervisor.states import SupervisorStates  # type: ignore[import-untyped]
from supervisor.xmlrpc import RPCError  # type: ignore[import-untyped]

from controller.backends.keeper import (
    FAULT_CONFLICT,
    FAULT_NO_PORT,
    FAULT_SHUTDOWN,
    FAULT_STOPPING,
    FAULT_SYSTEM,
    PROTOCOL,
)
from controller.backends.keeper.groups import Groups
from controller.backends.keeper.limits import LimitKeeper
from controller.backends.keeper.processes import CensusTaker
from controller.backends.keeper.program import InstanceProcess, Keeping
from controller.backends.keeper.request import Files, Request
from router.changelog import ChangeLog


class Door:
    """The namespace `mooring`."""

    def __init__(self, supervisord: Any, groups: Groups) -> None:
        self._supervisord = supervisord
        self._folder = Path(supervisord.options.here)
        realm = (self._folder / "realm").read_text()
        self._limits = LimitKeeper(groups)
        self._keeping = Keeping(supervisord, self._folder, realm, CensusTaker(), self._limits)
        self._cursor = random.random()  # noqa: S311 - spreads ports, guards nothing
        self._told: dict[str, dict[str, Any]] = {}
        """What was last told of each instance, by its id."""
        self._changes = ChangeLog()
        self._reserved = set[int]()
        """Ports of instances that are being brought back."""
        self._bring_back()

    def observe(self, after: str = "") -> str:
        """What `KeeperClient.observe` reads, packed: supervisord sends 4 KiB a turn of its loop.

        With the cursor of an earlier answer, only what has changed since, where that can be told.
        """
        # A state may be due to change since the loop last looked.
        for process in self._processes():
            process.transition()
        self._note_changes()
        changed = self._changes.since(after) if after else None
        answer = {
            "protocol": PROTOCOL,
            "limits": dict(self._limits.ways),
            "cursor": self._changes.cursor,
            "complete": changed is None,
            "instances": [
                self._told[each]
                for each in (self._told if changed is None else changed)
                if each in self._told
            ],
            "gone": [each for each in changed or () if each not in self._told],
        }
        return base64.b64encode(zlib.compress(json.dumps(answer).encode(), level=1)).decode()

    def _note_changes(self) -> None:
        now = {each.config.name: each.info() for each in self._processes()}
        for name in self._told.keys() | now.keys():
            if self._told.get(name) != now.get(name):
                self._changes.note(name)
        self._told = now

    def start(self, text: str) -> str:
        """Run what the request says; what runs by it already stays as it is. Returns its info."""
        self._refuse_when_ending()
        request = Request.parse(json.loads(text))
        process = self._find(request.id)
        if process is None:
            process = self._begin(request)
        elif process.retired_until is not None:
            raise RPCError(FAULT_STOPPING, f"{request.id} is still stopping.")
        elif process.config.request != request:
            raise RPCError(FAULT_CONFLICT, f"{request.id} runs with another specification; stop it first.")
        return json.dumps(process.info())

    def stop(self, name: str, grace: float) -> bool:
        """Begin to stop it, or look how far that is. True once it is gone."""
        process = self._find(name)
        if process is not None:
            process.retire(grace)
        return self._find(name) is None

    def stop_all(self, grace: float) -> bool:
        """The same for all of them."""
        for process in self._processes():
            process.retire(grace)
        return not self._processes()

    def shutdown(self) -> bool:
        """End the keeper once this was answered."""
        self._supervisord.options.mood = SupervisorStates.SHUTDOWN
        return True

    def _bring_back(self) -> None:
        saved = list[tuple[Request, int | None]]()
        for path in sorted((self._folder / "instances").glob("*.json")):
            try:
                found = json.loads(path.read_text())
                saved.append((Request.parse(found["request"]), found["port"]))
            except (OSError, ValueError, TypeError, LookupError) as error:
                # One file that can't be read must not keep all others down.
                self._supervisord.options.logger.critical(f"{path} is passed over: {error!r}")
        self._reserved = {port for _, port in saved if port is not None}
        for request, port in saved:
            try:
                self._add(request, self._port_again(request, port))
            except (OSError, ValueError, RPCError) as error:
                self._supervisord.options.logger.critical(f"{request.id} is passed over: {error!r}")
        self._reserved = set()

    def _port_again(self, request: Request, port: int | None) -> int | None:
        """The port that it had, or another one where somebody else has taken that meanwhile."""
        if port is None or request.address is None or can_bind(request.address, port):
            return port
        other = self._free_port(request)
        Files(self._folder, request.id).write(request, other)
        self._supervisord.options.logger.warn(
            f"{request.id} moves from port {port}, which is taken, to {other}"
        )
        return other

    def _begin(self, request: Request) -> InstanceProcess:
        """Written first, so that a keeper that is killed from here on brings it back."""
        port = self._free_port(request) if request.address is not None else None
        try:
            Files(self._folder, request.id).write(request, port)
        except OSError as error:
            raise RPCError(FAULT_SYSTEM, f"{request.id} can't be started: {error}") from error
        process = self._add(request, port)
        process.transition()
        return process

    def _add(self, request: Request, port: int | None) -> InstanceProcess:
        self._supervisord.add_process_group(self._keeping.group(request, port))
        process = self._find(request.id)
        assert process is not None
        return process

    def _find(self, name: str) -> InstanceProcess | None:
        group = self._supervisord.process_groups.get(name)
        return group.processes[name] if group else None

    def _processes(self) -> list[InstanceProcess]:
        return [
            process
            for group in self._supervisord.process_groups.values()
            for process in group.processes.values()
        ]

    def _refuse_when_ending(self) -> None:
        if self._supervisord.options.mood < SupervisorStates.RUNNING:
            raise RPCError(FAULT_SHUTDOWN, "The keeper is ending.")

    def _free_port(self, request: Request) -> int:
        assert request.address is not None
        taken = {each.config.port for each in self._processes()} | self._reserved
        for port in self._ports_in_turn(*request.ports):
            if port not in taken and can_bind(request.address, port):
                self._cursor = (port + 1 - request.ports[0]) / (request.ports[1] - request.ports[0])
                return port
        first, end = request.ports
        raise RPCError(FAULT_NO_PORT, f"No port from {first} to {end - 1} is free.")

    def _ports_in_turn(self, first: int, end: int) -> Iterator[int]:
        """Round the range: a port just given back may still be in somebody's routing table."""
        start = int(self._cursor * (end - first))
        return (first + (start + step) % (end - first) for step in range(end - first))


def can_bind(address: str, port: int) -> bool:
    """Whether nobody listens there; connections of an earlier listener that linger do no harm."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with contextlib.closing(socket.socket(family, socket.SOCK_STREAM)) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError:
            return False
    return True


def make_door(supervisord: Any, groups: str = "yes", **_options: str) -> Door:
    """Named in supervisord.conf, with what the keeper was started with."""
    realm = (Path(supervisord.options.here) / "realm").read_text()
    return Door(supervisord, Groups.find(realm) if groups == "yes" else Groups({}))
