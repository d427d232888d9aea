"""One command that somebody is attached to: `python -I -m controller.backends.keeper.session`, a child of the server.

It is no instance: nobody keeps it, it ends with whoever began it. It is here because what an app finds
around itself (environment, `.profile.d`, user, limits) shall be the same for both.

The first line on standard input is the order (see `Order`), with the descriptors that the command gets as
its streams. Later lines are wishes: {"signal": N} or {"end": SECONDS}. Standard output answers {"started":
PID} or {"error": "why not"}, then {"status": N, "detail": "…"} once the command and all that it began are
gone. When the input ends, because the server died in whatever way, everything is ended too.
"""

import contextlib
import ctypes
import fcntl
import json
import os
import select
import shutil
import signal
import sys
import termios
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn

from controller.backends.keeper.child import join, restore_signals, turn_into_app
from controller.backends.keeper.exits import describe_exit, exit_code
from controller.backends.keeper.groups import Groups, attached_groups
from controller.backends.keeper.limits import LimitKeeper, Watch
from controller.backends.keeper.processes import Census, send
from controller.backends.keeper.request import Files, Request

GRACE = 3.0
"""Seconds between SIGTERM and SIGKILL where nobody says."""
KILL_LIMIT = 20.0
"""Seconds after which what can't be killed (stuck in the kernel) is left."""


@dataclass(frozen=True)
class Order:
    """What to run, and with which streams."""

    request: Request
    files: Files
    marker: str
    port: int | None
    streams: tuple[int, int, int]
    """Descriptors of its input, output and errors; the same one three times for a terminal."""
    terminal: bool
    beside: tuple[int, int] | None
    """Process id and start time of the instance that it shall end with."""

    @classmethod
    def parse(cls, data: dict[str, Any]) -> "Order":
        folder = Path(data["folder"])
        realm = (folder / "realm").read_text()
        request = Request.parse(data["request"])
        inside = data.get("inside")
        files, marker, port, beside = Files(folder, request.id), f"{realm}:{request.id}", None, None
        if inside is not None:
            files = Files(folder, inside)
            saved = json.loads(files.running.read_text())
            instance = Request.parse(saved["request"])
            env = {**instance.env, **request.env}
            request = replace(instance, command=request.command, env=env)
            # Marked as the instance's own, so that whatever becomes of us, it ends with the instance.
            marker, port = f"{realm}/{inside}", saved["port"]
            beside = next(iter(files.leaders()), None)
            if beside is None:
                raise ValueError("it does not run now")
        first, second, third = data["streams"]
        return cls(request, files, marker, port, (first, second, third), data["terminal"], beside)

    def groups_of_instance(self) -> list[str]:
        """What it takes counts as the instance's."""
        if self.beside is None:
            return []
        found = Groups.find(self.marker.partition("/")[0]).folders
        files = [folder / self.files.id / "cgroup.procs" for folder in sorted(found)]
        return [str(each) for each in files if each.exists()]


class Session:
    def __init__(self, order: Order) -> None:
        self._order = order
        self._wake, wake = os.pipe()
        for end in (self._wake, wake):
            os.set_blocking(end, False)
            os.set_inheritable(end, False)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        for number in (signal.SIGCHLD, signal.SIGTERM):
            signal.signal(number, lambda *_: None)
        for number in (signal.SIGINT, signal.SIGHUP, signal.SIGPIPE):
            signal.signal(number, signal.SIG_IGN)
        set_subreaper()
        self._watch: Watch | None = None
        self._child = 0
        self._status: int | None = None
        self._detail = ""

    def run(self) -> None:
        try:
            self._start()
            self._attend()
        finally:
            self._end_all(0.0)
            self._tidy()
        if self._status is not None:
            detail = self._detail or describe_exit(self._status)
            say({"status": exit_code(self._status), "detail": detail})

    def _start(self) -> None:
        groups = self._order.groups_of_instance()
        limits = self._order.request.limits
        if self._order.beside is None and any(each is not None for each in limits.values()):
            realm = self._order.marker.partition(":")[0]
            self._watch = Watch(
                LimitKeeper(Groups.find(attached_groups(realm))), self._order.files.id, limits
            )
            groups = self._watch.begin()
        reader, writer = os.pipe()  # closes itself at exec, and carries the reason where there is none
        self._child = os.fork()
        if self._child == 0:
            become_attached(self._order, groups, writer)
        os.close(writer)
        for each in set(self._order.streams):
            os.close(each)
        failure = os.read(reader, 4096).decode(errors="replace")
        os.close(reader)
        if failure:
            raise ValueError(failure)
        say({"started": self._child})

    def _attend(self) -> None:
        """Until the command has ended, or is to end."""
        instance = open_process(self._order.beside)
        sources = [0, self._wake, *([] if instance is None else [instance])]
        pending = b""
        while self._status is None:
            ready, _, _ = select.select(sources, [], [], 1.0 if self._watch else None)
            if self._wake in ready:
                if signal.SIGTERM in os.read(self._wake, 4096):
                    return self._end_all(GRACE)
                self._reap()
            if instance in ready:
                self._detail = "the instance that it was in has ended"
                return self._end_all(1.0)
            if self._watch is not None and (why := self._watch.look(self._members)):
                self._detail = why
                return self._end_all(0.0)
            if 0 in ready:
                data = os.read(0, 65536)
                *lines, pending = (pending + data).split(b"\n")
                for wish in map(json.loads, lines):
                    if "end" in wish:
                        return self._end_all(wish["end"])
                    self._signal(wish["signal"])
                if not data:
                    return self._end_all(GRACE)
        if self._watch is not None:
            self._detail = self._watch.cause_of_end()
        return None

    def _signal(self, number: int) -> None:
        """To the command's own group; what it began elsewhere is its business."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._child, number)

    def _members(self) -> set[int]:
        """All that descend from us: we are the reaper of those whose parents died."""
        census = Census.take()
        return census.living(census.below({os.getpid()}))

    def _end_all(self, grace: float) -> None:
        living = self._members()
        if grace and living:
            for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGCONT):
                send(number, living)
            limit = time.monotonic() + grace
            while time.monotonic() < limit and self._status is None:
                select.select([self._wake], [], [], 0.1)
                self._drain_wake()
                self._reap()
        limit = time.monotonic() + KILL_LIMIT
        while time.monotonic() < limit and (living := self._members()):
            send(signal.SIGKILL, living)
            time.sleep(0.005)
            self._reap()
        self._reap()

    def _drain_wake(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self._wake, 4096)

    def _reap(self) -> None:
        while True:
            try:
                process, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if process == 0:
                return
            if process == self._child:
                self._status = status

    def _tidy(self) -> None:
        if self._watch is not None:
            self._watch.forget()
        if self._order.beside is None:
            shutil.rmtree(self._order.files.temporary, ignore_errors=True)


def become_attached(order: Order, groups: list[str], failures: int) -> NoReturn:
    """In the child: everything that needs our rights first, then the app's rights, then the command."""
    try:
        join(groups)
        os.setsid()
        signal.set_wakeup_fd(-1)
        restore_signals()
        if order.terminal:
            fcntl.ioctl(order.streams[0], termios.TIOCSCTTY, 0)
            if order.request.uid is not None and os.geteuid() == 0:
                os.fchown(order.streams[0], order.request.uid, -1)
        for target, source in enumerate(order.streams):
            os.dup2(source, target)
        os.dup2(failures, 3, inheritable=False)
        os.closerange(4, 65536)
        turn_into_app(
            order.request, order.files, port=order.port, marker=order.marker, before_exec=die_with_parent
        )
    except BaseException as error:
        os.write(3, str(error).encode(errors="replace")[:4000] or b"it could not be started")
    os._exit(127)


def die_with_parent() -> None:
    """We end it in order; this is for when we are killed."""
    ctypes.CDLL(None).prctl(1, int(signal.SIGKILL), 0, 0, 0)


def set_subreaper() -> None:
    ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)


def open_process(known: tuple[int, int] | None) -> int | None:
    """A descriptor that becomes readable when that process ends; None where there is none to wait for."""
    if known is None:
        return None
    pid, started = known
    descriptor = os.pidfd_open(pid)
    process = Census.take().processes.get(pid)
    if process is None or process.started != started or process.zombie:
        raise ValueError("it does not run now")
    return descriptor


def say(answer: dict[str, Any]) -> None:
    with contextlib.suppress(OSError):
        os.write(1, json.dumps(answer).encode() + b"\n")


def first_line() -> dict[str, Any]:
    data = b""
    while not data.endswith(b"\n"):
        more = os.read(0, 1)
        if not more:
            sys.exit(0)
        data += more
    found: dict[str, Any] = json.loads(data)
    return found


def main() -> None:
    os.umask(0o077)
    try:
        Session(Order.parse(first_line())).run()
    except (OSError, ValueError, LookupError, TypeError) as error:
        say({"error": str(error) or type(error).__name__})


if __name__ == "__main__":
    main()
