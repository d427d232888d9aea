"""The contract of a backend: it runs instances, keeps them alive, and tells what runs.

Every call is idempotent. What a backend is told about an instance it gives back in `observe`, also
after the controller was killed and started again, so that instances are adopted by their labels.
"""

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from controller.logs.query import LogQuery, LogStream
from controller.types import Artifact, Instance, Limits


class BackendError(Exception):
    """The backend could not do it. `retryable` says whether trying again may help."""

    def __init__(self, message: str, *, retryable: bool = True) -> None:
        super().__init__(message)
        self.retryable = retryable


@dataclass(frozen=True, kw_only=True)
class InstanceSpec:
    """All that is needed to run one instance."""

    id: str
    deployment: str
    service: str
    version: int
    process_type: str
    number: int
    generation: int
    artifact: Artifact
    command: str
    """A shell command line, run in the artifact's folder after its `.profile.d` scripts."""
    env: Mapping[str, str] = field(default_factory=dict)
    """Complete but for PORT, which the backend adds when it gives the instance a port."""
    wants_port: bool = False
    uid: int | None = None
    """User and group id to run as; None: as the server does."""
    limits: Limits = field(default_factory=Limits)
    """None in it means no limit."""
    volumes: Mapping[str, str] = field(default_factory=dict)
    """Name to the folder at which a container has it. It is the service's, and stays when instances go. The
    variable `VOLUME_NAME` tells where it is, also where an instance has no file system of its own."""
    publish: Mapping[str, int] = field(default_factory=dict)
    """Where instances have a network of their own: `HOST:PORT` of this machine (`:PORT`: of all its addresses) to the
    port of the instance that answers there, 0 for its PORT. Elsewhere it means nothing: an instance listens on the
    machine itself."""
    once: bool = False
    """Start it a single time, whatever becomes of it: once it has ended by itself it is observed as EXITED,
    with its exit code, until it is stopped. Also when the machine or the backend goes down meanwhile."""


@dataclass(frozen=True, kw_only=True)
class Observation:
    """What runs. Silence about a host in `unreachable` says nothing about what runs there."""

    instances: Sequence[Instance] = ()
    """All of them, or (where not `complete`) those that changed."""
    unreachable: frozenset[str] = frozenset()
    """Hosts that did not answer."""
    cursor: str = ""
    """To be given to the next look, which then may tell only what has changed; empty: it never does."""
    complete: bool = True
    gone: frozenset[str] = frozenset()
    """Where not `complete`: ids of instances that are there no more."""


class Backend(Protocol):
    """Required calls. Raise BackendError only."""

    async def observe(self, *, after: str = "") -> Observation:
        """Everything of ours that exists, in any state. An instance that stopped and was removed is absent.

        `after`: the cursor of an earlier observation. The answer may then hold only what changed since.
        """

    async def start(self, spec: InstanceSpec) -> Instance:
        """Make it exist and run; returns as soon as it was started (healthy or not).

        Starting an id that exists already with the same spec changes nothing and returns it.
        """

    async def stop(self, instance: str, *, grace: float) -> None:
        """SIGTERM, `grace` seconds, SIGKILL; then forget it. Returns when it is gone. Unknown: nothing."""

    async def close(self) -> None:
        """Let go of connections. Instances keep running."""


@runtime_checkable
class SupportsLogs(Protocol):
    """Keeps what instances print, and what it notices of them."""

    def logs(self, query: LogQuery) -> LogStream:
        """The lines of matching instances, also of those that are gone: of sources `app` and `system`.

        Instances that appear later join in while it is followed.
        """


@runtime_checkable
class SupportsLimits(Protocol):
    """Keeps instances within their limits, each in a way that depends on the machine."""

    def limits(self) -> Mapping[str, str]:
        """Each limit (cpu, memory, pids, nofile) to how it is kept, in words, as of the last look."""


@dataclass(frozen=True, kw_only=True)
class Terminal:
    """The terminal at the other end."""

    columns: int = 80
    rows: int = 24
    kind: str = "xterm"
    """Its TERM."""


class Attached(Protocol):
    """A command that somebody is attached to. Everything that it began ends with it, and it with `end`."""

    def output(self) -> AsyncGenerator[tuple[int, bytes], None]:
        """What it prints: 1 and 2 for its output and its errors (with a terminal always 1), until both have ended.

        It waits while nobody takes any. To be called once.
        """

    async def write(self, data: bytes) -> None:
        """To its standard input; returns once there is room for more. What comes after its end is dropped."""

    async def close_input(self) -> None:
        """The end of its standard input; with a terminal, as if Ctrl-D was typed."""

    def resize(self, columns: int, rows: int) -> None:
        """Of its terminal; nothing without one."""

    async def signal(self, number: int) -> None:
        """Send a signal to its process group."""

    async def wait(self) -> tuple[int | None, str]:
        """Its exit code (as a shell tells it; None: not known) once it has ended by itself, and that in words."""

    async def end(self, *, grace: float = 3.0) -> None:
        """SIGHUP and SIGTERM to all of it, SIGKILL after `grace` seconds. Returns when nothing of it is left."""


@runtime_checkable
class SupportsRun(Protocol):
    """Runs commands that somebody is attached to. Raises BackendError."""

    async def run(self, spec: InstanceSpec, *, terminal: Terminal | None) -> Attached:
        """Run this, which is not observed as an instance, and ends with the controller."""

    async def enter(
        self, instance: str, command: str, *, env: Mapping[str, str], terminal: Terminal | None
    ) -> Attached:
        """Run a command beside an instance: in its folder, with its environment (and `env` over it) and user.

        It ends with the instance.
        """


@runtime_checkable
class SupportsPublishing(Protocol):
    """Its instances have a network of their own, and are reached where they are published."""

    async def inner_address(self) -> str:
        """An address of this machine that all instances reach, and nobody from elsewhere. Raises BackendError."""


@runtime_checkable
class SupportsShutdown(Protocol):
    """Owns a process of its own that outlives the controller, and can end it."""

    async def shutdown(self) -> None:
        """Stop all instances and the process that keeps them. For removing an installation and for demos."""
