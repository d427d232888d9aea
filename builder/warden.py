"""The warden: a small process that runs the steps of one build and lets none of them outlive it.

Run alone, as `python -I -S warden.py OUTPUT_FD`; it imports nothing of ours. Each line on its
standard input is a step as JSON (argv, env, cwd, uid, limits, groups, quiet), each line on its standard
output the step's end: {"status": N} (negative: ended by signal N) or {"error": "why it did not
start"}. Steps print into OUTPUT_FD.

When its input ends (the build was cancelled, or the server died in whatever way) or on SIGTERM, it
kills all that still runs and exits. It is the reaper of its descendants, so a process that
detached itself becomes the warden's child, not init's, and is found. After each step nothing of
that step is left.
"""

import ctypes
import json
import os
import resource
import select
import signal
import sys
import time
from typing import Any, NoReturn

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_PR_SET_NO_NEW_PRIVS = 38
_KILL_SECONDS = 20.0
_NICE = 10
"""Apps and the server go first where processors are short."""

_prctl = ctypes.CDLL(None, use_errno=True).prctl


class Warden:
    def __init__(self, output: int) -> None:
        os.set_inheritable(output, False)
        self._output = output
        self._step: int | None = None
        self._wake, wake = os.pipe()
        for end in (self._wake, wake):
            os.set_blocking(end, False)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        for number in (signal.SIGCHLD, signal.SIGTERM):
            signal.signal(number, lambda *_: None)
        for number in (signal.SIGINT, signal.SIGHUP, signal.SIGPIPE):
            signal.signal(number, signal.SIG_IGN)
        _prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)

    def run(self) -> None:
        pending = b""
        try:
            while True:
                ready, _, _ = select.select([0, self._wake], [], [])
                if self._wake in ready:
                    if signal.SIGTERM in os.read(self._wake, 4096):
                        return
                    self._reap()
                if 0 in ready:
                    data = os.read(0, 65536)
                    if not data:
                        return
                    *lines, pending = (pending + data).split(b"\n")
                    for line in lines:
                        self._start(json.loads(line))
        finally:
            self._end_all()

    def _start(self, step: dict[str, Any]) -> None:
        # The pipe closes itself when exec succeeds, and carries the reason when it does not.
        reader, writer = os.pipe()
        self._step = os.fork()
        if self._step == 0:
            _become(step, self._output, writer)
        os.close(writer)
        failure = os.read(reader, 4096).decode("utf-8", "replace")
        os.close(reader)
        if failure:
            os.waitpid(self._step, 0)
            self._step = None
            _answer({"error": failure})

    def _reap(self) -> None:
        while True:
            try:
                process, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if process == 0:
                return
            if process == self._step:
                self._step = None
                self._end_all()
                _answer({"status": os.waitstatus_to_exitcode(status)})

    def _end_all(self) -> None:
        """Kill every descendant. Stopped first: what stands still starts nothing new meanwhile."""
        deadline = time.monotonic() + _KILL_SECONDS
        while not _childless() and time.monotonic() < deadline:
            known: set[int] = set()
            while (new := descendants(os.getpid()) - known) and time.monotonic() < deadline:
                _signal_all(new, signal.SIGSTOP)
                known |= new
            _signal_all(known, signal.SIGKILL)
            time.sleep(0.002)


def _childless() -> bool:
    """Reap what has ended; whether nothing is left."""
    while True:
        try:
            process, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return True
        if process == 0:
            return False


def descendants(root: int) -> set[int]:
    parents: dict[int, int] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat", "rb") as file:
                    fields = file.read().rpartition(b")")[2].split()
            except OSError:
                continue
            # A "zombie" counts too: it may be a process whose first thread alone has ended.
            parents[int(name)] = int(fields[1])
    found: set[int] = set()
    layer = {root}
    while layer:
        layer = {process for process, parent in parents.items() if parent in layer} - found
        found |= layer
    return found


def _signal_all(processes: set[int], number: signal.Signals) -> None:
    for process in processes:
        try:
            os.kill(process, number)
        except ProcessLookupError:
            pass


def _become(step: dict[str, Any], output: int, failures: int) -> NoReturn:
    """In the child: drop everything of ours and turn into the step's program."""
    try:
        os.setsid()
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGINT, signal.SIGHUP, signal.SIGPIPE, signal.SIGTERM, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        _prefer_as_victim()
        for file in step["groups"]:
            _enter(file)
        null = os.open("/dev/null", os.O_RDWR)
        os.dup2(null, 0)
        os.dup2(output, 1)
        os.dup2(null if step["quiet"] else output, 2)
        for name, value in step["limits"].items():
            _limit(getattr(resource, f"RLIMIT_{name}"), value)
        if step["uid"] is not None:
            os.setgroups([])
            os.setgid(step["uid"])
            os.setuid(step["uid"])
        os.umask(0o022)
        os.nice(_NICE)
        _prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        _prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
        os.chdir(step["cwd"])
        os.execve(step["argv"][0], step["argv"], step["env"])
    except BaseException as error:
        os.write(failures, str(error).encode("utf-8", "replace")[:4000])
    os._exit(127)


def _prefer_as_victim() -> None:
    """When memory runs out, the kernel shall take the build, not the server or the apps."""
    try:
        with open("/proc/self/oom_score_adj", "w") as file:
            file.write("800")
    except OSError:
        pass


def _enter(group: str) -> None:
    # In one piece and without creating: it is no file.
    descriptor = os.open(group, os.O_WRONLY)
    try:
        os.write(descriptor, b"0")
    finally:
        os.close(descriptor)


def _limit(which: int, value: int) -> None:
    """Lower a limit, or raise it as far as we may."""
    _, hard = resource.getrlimit(which)
    if hard != resource.RLIM_INFINITY:
        value = min(value, hard)
    resource.setrlimit(which, (value, value))


def _answer(answer: dict[str, Any]) -> None:
    try:
        os.write(1, json.dumps(answer).encode() + b"\n")
    except BrokenPipeError:
        pass


if __name__ == "__main__":
    Warden(int(sys.argv[1])).run()
