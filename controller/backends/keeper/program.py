"""An instance, in supervisord's terms: a program of one process that is started again for ever.

supervisord's own classes do the keeping (fork, pipes, back-off, kill after the grace). What is ours:
the child becomes the app with nothing of ours in it, its lines are stamped, its stray processes end
with it, and a stop is remembered over a restart of the keeper.
"""

import contextlib
import os
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from supervisor.datatypes import RestartUnconditionally  # type: ignore[import-untyped]
from supervisor.dispatchers import POutputDispatcher  # type: ignore[import-untyped]
from supervisor.events import ProcessCommunicationStdoutEvent  # type: ignore[import-untyped]
from supervisor.options import ProcessConfig, ProcessException, ProcessGroupConfig  # type: ignore[import-untyped]
from supervisor.process import Subprocess  # type: ignore[import-untyped]
from supervisor.states import ProcessStates  # type: ignore[import-untyped]

from controller.backends.keeper.child import RESTORED_SIGNALS, become_app, join, shell_command
from controller.backends.keeper.endurance import Endurance
from controller.backends.keeper.exits import describe_exit, exit_code
from controller.backends.keeper.limits import LimitKeeper, Watch
from controller.backends.keeper.output import Output
from controller.backends.keeper.processes import CensusTaker, Family, living, send
from controller.backends.keeper.request import Files, Request

SETTLED_AFTER = 1
"""Seconds that a process must stay up to count as running; one that exits sooner waits before its next start."""
LONGEST_BACKOFF = 60.0
"""Seconds; supervisord waits one more after each early exit, and by itself without end."""
SHUTDOWN_GRACE = 10
"""Seconds between SIGTERM and SIGKILL when the machine (not the controller) ends the keeper."""


@dataclass(frozen=True)
class Keeping:
    """What all instances of a keeper share."""

    supervisord: Any
    folder: Path
    realm: str
    census: CensusTaker
    limits: LimitKeeper

    def group(self, request: Request, port: int | None) -> Any:
        """The program group of one instance, for `add_process_group`."""
        config = InstanceConfig(self, request, port)
        return ProcessGroupConfig(self.supervisord.options, request.id, 999, [config])


class InstanceConfig(ProcessConfig):  # type: ignore[misc]
    """How supervisord shall keep it."""

    def __init__(self, keeping: Keeping, request: Request, port: int | None) -> None:
        values: dict[str, Any] = dict.fromkeys(ProcessConfig.req_param_names)
        values |= {
            "name": request.id,
            "priority": 999,
            "autostart": True,
            "autorestart": False if request.once else RestartUnconditionally,
            "startsecs": 0 if request.once else SETTLED_AFTER,
            "startretries": sys.maxsize,
            "stopsignal": signal.SIGTERM,
            "stopwaitsecs": SHUTDOWN_GRACE,
            "stopasgroup": True,
            "killasgroup": True,
            "exitcodes": [],
            "redirect_stderr": True,
        }
        super().__init__(keeping.supervisord.options, **values)
        self.keeping = keeping
        self.request = request
        self.port = port
        self.files = Files(keeping.folder, request.id)
        self.marker = f"{keeping.realm}/{request.id}"

    def make_process(self, group: Any = None) -> "InstanceProcess":
        process = InstanceProcess(self)
        process.group = group
        return process

    def make_dispatchers(self, proc: "InstanceProcess") -> tuple[dict[int, Any], dict[str, int | None]]:
        # One pipe for stdout and stderr, in their order; stdin is /dev/null.
        out, child_out = os.pipe()
        os.set_blocking(out, False)
        pipes = {"stdin": None, "child_stdin": None, "stdout": out, "child_stdout": child_out}
        pipes |= {"stderr": None, "child_stderr": None}
        return {out: StampingDispatcher(proc, ProcessCommunicationStdoutEvent, out)}, pipes


class StampingDispatcher(POutputDispatcher):  # type: ignore[misc]
    """Takes what comes through the pipe."""

    def _log(self, data: bytes) -> None:
        self.process.output.write(data)


class InstanceProcess(Subprocess):  # type: ignore[misc]
    """One instance: its process now, and those before it."""

    dispatchers: dict[int, Any]
    pipes: Any
    delay: float
    """When (as time.time) the next start or SIGKILL is due; supervisord's."""

    def __init__(self, config: InstanceConfig) -> None:
        super().__init__(config)
        self.output = Output(Path(config.request.log))
        self.starts = 0
        self.last_exit = ""
        self.retired_until: float | None = None
        """Set once it was told to stop: the time (monotonic) at which SIGKILL is due."""
        self.spawned_at = 0.0
        """When its process was started last (monotonic)."""
        self.endurance = Endurance()
        self.next_start = 0.0
        """When it is due to be started again (time.time)."""
        self.watch = Watch(config.keeping.limits, config.request.id, config.request.limits)
        self.groups: list[str] = []
        """Files that take the next process into the instance's control groups."""
        self.exit_status: int | None = None
        """The wait status of one that is started once and has ended by itself."""
        if config.request.once:
            self._remember_once()

    # What the door asks

    def info(self) -> dict[str, Any]:
        """What `observe` tells of it."""
        restarts = max(0, self.starts - 1)
        state = self._state_word()
        request = self.config.request
        return {
            "id": request.id,
            "labels": request.labels,
            "state": state,
            "address": request.address,
            "port": self.config.port,
            "started_at": self.laststart or None,
            "restarts": restarts,
            "next_start_at": self.next_start if self._rests() else None,
            "detail": "" if state == "stopping" else self._detail(restarts),
            "exit_code": None if self.exit_status is None else exit_code(self.exit_status),
        }

    def _state_word(self) -> str:
        if self.retired_until is not None or self.state == ProcessStates.STOPPING:
            return "stopping"
        if self.endurance.loops(time.monotonic()):
            return "crash-looping"
        if self.state == ProcessStates.RUNNING:
            return "running"
        if self.state == ProcessStates.EXITED and self.config.request.once:
            return "exited"
        started = self.state in (ProcessStates.STARTING, ProcessStates.STOPPED)
        return "starting" if started else "crashed"

    def _detail(self, restarts: int) -> str:
        why = self.last_exit or self.spawnerr or ""
        if not why or not restarts:
            return why
        return f"{why} ({restarts} restart{'s' if restarts > 1 else ''})"

    def _rests(self) -> bool:
        """Whether its process has ended and another one is to be started."""
        down = self.state in (ProcessStates.EXITED, ProcessStates.BACKOFF)
        return down and self.retired_until is None and not self.config.request.once

    def retire(self, grace: float) -> None:
        """Begin to stop it for good; told again, the earlier end counts."""
        first = self.retired_until is None
        until = time.monotonic() + grace
        self.retired_until = until if self.retired_until is None else min(until, self.retired_until)
        if first:
            # From here on a keeper that starts anew ends it rather than starting it.
            with contextlib.suppress(FileNotFoundError):
                self.config.files.running.rename(self.config.files.stopping)
        if self.state in (ProcessStates.STARTING, ProcessStates.RUNNING):
            self.config.stopwaitsecs = grace
            census = self.config.keeping.census.recent(since=self.spawned_at)
            # The group is told by `stop`; twice would look like impatience to many a program. But one
            # that was forked this moment may not have its group yet.
            targets = {self.pid} | self._family().members(census)
            send(signal.SIGTERM, targets - set(census.groups.get(self.pid, ())))
            self.stop()
        elif self.state == ProcessStates.STOPPING:
            self.delay = min(self.delay, time.time() + grace)
        self.transition()

    # What supervisord calls

    def spawn(self) -> int | None:
        if self.config.request.once and not self._begin_once():
            return None
        self.starts += 1
        # Until it has given up our handlers, the child would take a SIGTERM for supervisord's and go on.
        signal.pthread_sigmask(signal.SIG_BLOCK, RESTORED_SIGNALS)
        try:
            pid: int | None = super().spawn()
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, RESTORED_SIGNALS)
        self.spawned_at = time.monotonic()
        if pid:
            self.endurance.began(self.spawned_at)
        return pid

    def get_execv_args(self) -> tuple[str, list[str]]:
        try:
            self.groups = self.watch.begin()
        except OSError as error:
            raise ProcessException(f"its limits can't be set: {error}") from error
        return shell_command(self.config.request.command)

    def change_state(self, new_state: int, expected: bool = True) -> None:
        super().change_state(new_state, expected)
        if new_state == ProcessStates.BACKOFF:
            self.delay = min(self.delay, time.time() + LONGEST_BACKOFF)

    def transition(self) -> None:
        if self.retired_until is not None and self.state not in (
            ProcessStates.STARTING,
            ProcessStates.RUNNING,
            ProcessStates.STOPPING,
        ):
            with self._going_on():
                self._finish_retirement()
        elif not self._rests() or time.monotonic() >= self.endurance.rests_until:
            super().transition()
            if self.pid:
                with self._going_on():
                    self._keep_limits()

    def finish(self, pid: int, sts: int) -> None:
        self.last_exit = self.watch.cause_of_end() or describe_exit(sts)
        if self.config.request.once and self.retired_until is None:
            self._end_once(sts)
        if self.retired_until is not None:
            self._finish_but_listen(pid, sts)
        else:
            super().finish(pid, sts)
        now = time.monotonic()
        if not self.config.request.once:
            self.endurance.ended(now)
        self.next_start = max(self.delay, time.time() + self.endurance.rests_until - now)
        self.output.say(self.last_exit)
        if self.retired_until is not None:
            self.transition()
        else:
            # Workers whose master died hold its port; daemonised helpers would be there twice.
            with self._going_on():
                send(signal.SIGKILL, self._living(since=time.monotonic()))

    def _finish_but_listen(self, pid: int, sts: int) -> None:
        """A shell ends at the signal before the program that it has started, which may finish its work: without its
        pipe it would end at its next word."""
        pipes, dispatchers = self.pipes, self.dispatchers
        self.pipes = {}  # that it closes
        super().finish(pid, sts)
        self.pipes, self.dispatchers = pipes, dispatchers
        for each in dispatchers.values():
            each.closed = False  # it takes a pipe without anything to read for one that has ended

    def _listen_no_more(self) -> None:
        """Nobody can write any more: what is left in the pipe comes at once, and then its end."""
        while any(each.readable() for each in self.dispatchers.values()):
            self.drain()
        self.config.options.close_parent_pipes(self.pipes)
        self.pipes, self.dispatchers = {}, {}

    def _spawn_as_child(self, filename: str, argv: list[str]) -> NoReturn:
        try:
            config = self.config
            output = self.pipes["child_stdout"]
            join(self.groups)
            become_app(config.request, config.files, port=config.port, marker=config.marker, output=output)
        except BaseException as error:
            os.write(2, f"can't be started: {error}\n".encode(errors="replace"))
        finally:
            os._exit(127)

    # What is started once

    def _remember_once(self) -> None:
        """A keeper before us may have begun it, and seen its end or not."""
        noted = self.config.files.read_once()
        if noted is None:
            return
        # Of no earlier start, so that supervisord does not take it for one that is still to be started.
        self.laststart = time.time()
        self.state = ProcessStates.EXITED
        self.last_exit = "its keeper ended while it ran, so that its outcome is not known"
        if noted.isdecimal():
            self.exit_status = int(noted)
            self.last_exit = describe_exit(self.exit_status)

    def _begin_once(self) -> bool:
        """Whether it may start: no start without a note of it."""
        try:
            self.config.files.note_once("begun")
        except OSError as error:
            self.spawnerr = f"can't be started: {error}"
            return False
        return True

    def _end_once(self, status: int) -> None:
        self.exit_status = status
        with self._going_on():
            self.config.files.note_once(str(status))

    def _keep_limits(self) -> None:
        if told := self.watch.news():
            self.output.say(told)
        if self.watch.look(lambda: self._living(since=self.spawned_at)):
            send(signal.SIGKILL, self._living(since=time.monotonic()))

    # How nothing of it stays

    @contextlib.contextmanager
    def _going_on(self) -> Iterator[None]:
        """What fails in supervisord's loop would end supervisord; the next turn tries again."""
        try:
            yield
        except Exception as error:
            self.config.options.logger.critical(f"{self.config.name}: {error!r}")

    def _family(self) -> Family:
        return Family(self.config.marker, self.config.files.leaders())

    def _living(self, *, since: float) -> set[int]:
        """Also what has left its family, where its control group still knows it."""
        family = self._family().members(self.config.keeping.census.recent(since=since))
        return family | (living(self.watch.members()) - {os.getpid()})

    def _finish_retirement(self) -> None:
        """The main process is gone; wait for the rest as long as the grace lasts, then forget all of it."""
        groups = self.config.keeping.supervisord.process_groups
        if groups.get(self.config.name) is not self.group:
            # Forgotten by a call in this turn of supervisord's loop, whose list of groups is older.
            # The name may have been given again since.
            return
        now = time.monotonic()
        assert self.retired_until is not None
        # A census from before its last start can't know it. In any later one nobody living means
        # nobody ever again: only members beget members.
        if left := self._living(since=self.spawned_at):
            if now >= self.retired_until:
                send(signal.SIGKILL, left)
            return
        self._listen_no_more()
        self.output.close()
        self.watch.forget()
        self.config.files.forget()
        self.state = ProcessStates.STOPPED
        self.config.keeping.supervisord.remove_process_group(self.config.name)
