"""Runs nothing and says it does: a backend for tests and for a server that is all in memory.

It obeys the contract like any other. What a real backend may do to its callers (start slowly, never
answer, crash, be out of reach) can be switched on, so that a loop can be tried against it.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from controller.backends.base import BackendError, InstanceSpec, Observation, Terminal
from controller.backends.echo import Echo
from controller.backends.keeper.endurance import Endurance
from controller.backends.labels import process_name, to_instance, to_labels
from controller.logs.query import LogQuery, LogStream
from controller.types import Instance, InstanceState, LogLine, LogSource
from router.changelog import ChangeLog

HOST = "local"
FIRST_PORT, PORTS = 20000, 40000
BACKOFF = timedelta(seconds=1)
"""How long a crashed instance stays down at least."""


@dataclass(frozen=True, kw_only=True)
class Behaviour:
    """What becomes of an instance. The default is a good one that runs at once."""

    starts_after: float = 0.0
    """Seconds that it says `starting`."""
    healthy: bool = True
    """What `answers` says of it once it runs."""
    dies: str = ""
    """It crashes at every start, with these words."""
    refused: str = ""
    """It can't be started at all: `start` raises BackendError with these words."""
    exits: int | None = None
    """One that is started once exits with this status as soon as it runs; None: it goes on."""


@dataclass
class MemoryWorld:
    """What outlives the driver, as processes outlive a controller."""

    instances: dict[str, "_Running"] = field(default_factory=dict)
    lines: list[LogLine] = field(default_factory=list)
    reachable: bool = True
    history: list[tuple[str, str]] = field(default_factory=list)
    """Each change that was made: ("start" or "stop", instance id)."""
    changes: ChangeLog = field(default_factory=ChangeLog)
    moving: set[str] = field(default_factory=set)
    """Ids of instances that may look different by themselves at the next look."""
    places: int = 0
    """How many were given out."""


@dataclass
class _Running:
    spec: InstanceSpec
    behaviour: Behaviour
    place: tuple[str, int] | None
    """Address and port; None for one without a port."""
    started_at: datetime
    restarts: int = 0
    crash: str = ""
    last_exit: str = ""
    exit_code: int | None = None
    endurance: Endurance = field(default_factory=Endurance)
    next_start: datetime | None = None
    """When it comes back, of one that crashed."""
    shown: Instance | None = None
    """As it was last observed."""


class _Printed:
    """What instances were told to print."""

    def __init__(self, query: LogQuery, lines: list[LogLine], more: asyncio.Event) -> None:
        self._query = query
        self._lines = lines
        self._more = more
        self._read = 0

    async def past(self) -> AsyncGenerator[LogLine, None]:
        found = self._fresh()
        skipped = 0 if self._query.lines is None else max(0, len(found) - self._query.lines)
        for line in found[skipped:]:
            yield line

    async def following(self) -> AsyncGenerator[LogLine, None]:
        while True:
            for line in self._fresh():
                yield line
            while self._read == len(self._lines):
                self._more.clear()
                await self._more.wait()

    def _fresh(self) -> list[LogLine]:
        first, self._read = self._read, len(self._lines)
        prefix = f"{self._query.deployment}-{self._query.service}-"
        return [
            each
            for each in self._lines[first : self._read]
            if each.instance.startswith(prefix) and self._query.accepts(each)
        ]


class MemoryBackend:
    """Implements Backend, SupportsLogs, SupportsRun and SupportsShutdown."""

    def __init__(
        self,
        *,
        world: MemoryWorld | None = None,
        behaviour: Callable[[InstanceSpec], Behaviour] = lambda _: Behaviour(),
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.world = world or MemoryWorld()
        self._behaviour = behaviour
        self._now = now
        self._printed = asyncio.Event()

    async def observe(self, *, after: str = "") -> Observation:
        if not self.world.reachable:
            return Observation(unreachable=frozenset({HOST}))
        running = self.world.instances
        for name in list(self.world.moving):
            self._look_at(running[name])
        changed = self.world.changes.since(after) if after else None
        names = running.keys() if changed is None else [each for each in changed if each in running]
        return Observation(
            instances=tuple(shown for each in names if (shown := running[each].shown) is not None),
            cursor=self.world.changes.cursor,
            complete=changed is None,
            gone=frozenset(each for each in changed or () if each not in running),
        )

    async def start(self, spec: InstanceSpec) -> Instance:
        self._check_reachable()
        running = self.world.instances.get(spec.id)
        if running is not None and running.spec != spec:
            raise BackendError(f"{spec.id} runs with another specification; stop it first.", retryable=False)
        if running is None:
            running = self._begin(spec)
        return self._look_at(running)

    async def stop(self, instance: str, *, grace: float) -> None:
        self._check_reachable()
        if self.world.instances.pop(instance, None):
            self.world.history.append(("stop", instance))
            self.world.moving.discard(instance)
            self.world.changes.note(instance)

    async def run(self, spec: InstanceSpec, *, terminal: Terminal | None) -> Echo:
        self._check_reachable()
        behaviour = self._behaviour(spec)
        if behaviour.refused:
            raise BackendError(behaviour.refused)
        self.world.history.append(("run", spec.id))
        return Echo(behaviour.exits or 0, terminal)

    async def enter(
        self, instance: str, command: str, *, env: Mapping[str, str], terminal: Terminal | None
    ) -> Echo:
        self._check_reachable()
        if instance not in self.world.instances:
            raise BackendError(f"{instance} does not run now.", retryable=False)
        return Echo(0, terminal)

    async def close(self) -> None:
        """Nothing to let go of."""

    async def shutdown(self) -> None:
        for name in list(self.world.instances):
            await self.stop(name, grace=0)

    def logs(self, query: LogQuery) -> LogStream:
        return _Printed(query, self.world.lines, self._printed)

    # Switches for tests

    def set_reachable(self, reachable: bool) -> None:
        """Out of reach: `observe` names the host, changes raise BackendError."""
        self.world.reachable = reachable

    def crash(self, instance: str, detail: str = "exited with status 1") -> None:
        """It exits by itself, and is started again after BACKOFF."""
        running = self.world.instances[instance]
        if running.spec.once:
            raise ValueError(f"{instance} is started once: it exits")
        self._go_down(running, detail)
        self._look_at(running)

    def exit(self, instance: str, code: int) -> None:
        """One that was started once ends by itself."""
        running = self.world.instances[instance]
        running.exit_code = code
        self._look_at(running)

    def answers(self, instance: Instance) -> bool:
        """What a health check would find out."""
        running = self.world.instances.get(instance.id)
        if running is None or not self.world.reachable:
            return False
        return self._look_at(running).state is InstanceState.RUNNING and running.behaviour.healthy

    def say(self, instance: str, text: str) -> None:
        """The instance prints a line."""
        spec = self.world.instances[instance].spec
        process = process_name(spec.process_type, spec.service, spec.number)
        self.world.lines.append(
            LogLine(time=self._now(), source=LogSource.APP, instance=instance, process=process, text=text)
        )
        self._printed.set()

    def _begin(self, spec: InstanceSpec) -> _Running:
        behaviour = self._behaviour(spec)
        if behaviour.refused:
            raise BackendError(behaviour.refused)
        running = _Running(spec, behaviour, self._free_place() if spec.wants_port else None, self._now())
        if spec.once:
            running.exit_code = 1 if behaviour.dies and behaviour.exits is None else behaviour.exits
        else:
            self._come_up(running)
        self.world.instances[spec.id] = running
        self.world.history.append(("start", spec.id))
        return running

    def _free_place(self) -> tuple[str, int]:
        """A loopback address and port that nobody had before: no machine has as many ports as this has instances."""
        address, port = divmod(self.world.places, PORTS)
        self.world.places += 1
        return f"127.0.{address}.1", FIRST_PORT + port

    def _check_reachable(self) -> None:
        if not self.world.reachable:
            raise BackendError(f"Host {HOST} does not answer.")

    def _look_at(self, running: _Running) -> Instance:
        seen = self._seen(running)
        settled = seen.state is InstanceState.EXITED or (
            seen.state is InstanceState.RUNNING and not running.behaviour.dies
        )
        (self.world.moving.discard if settled else self.world.moving.add)(seen.id)
        if seen != running.shown:
            running.shown = seen
            self.world.changes.note(seen.id)
        return seen

    def _seen(self, running: _Running) -> Instance:
        self._revive(running)
        age = (self._now() - running.started_at).total_seconds()
        state = InstanceState.RUNNING if age >= running.behaviour.starts_after else InstanceState.STARTING
        instance = to_instance(
            running.spec.id,
            to_labels(running.spec),
            state=self._ended(running) or state,
            host=HOST,
            address=running.place[0] if running.place else None,
            port=running.place[1] if running.place else None,
            started_at=running.started_at,
            restarts=running.restarts,
            next_start_at=running.next_start,
        )
        if running.exit_code is not None:
            detail = f"exited with status {running.exit_code}"
            return replace(instance, detail=detail, exit_code=running.exit_code)
        if running.restarts and not running.crash:
            return replace(
                instance,
                detail=f"{running.last_exit} ({running.restarts} restart{'s' * (running.restarts > 1)})",
            )
        return replace(instance, detail=running.crash)

    def _ended(self, running: _Running) -> InstanceState | None:
        if running.exit_code is not None:
            return InstanceState.EXITED
        if running.endurance.loops(self._now().timestamp()):
            return InstanceState.CRASH_LOOPING
        return InstanceState.CRASHED if running.crash else None

    def _revive(self, running: _Running) -> None:
        if running.next_start is not None and self._now() >= running.next_start:
            running.restarts += 1
            self._come_up(running)

    def _come_up(self, running: _Running) -> None:
        running.started_at, running.next_start, running.crash = self._now(), None, ""
        running.endurance.began(running.started_at.timestamp())
        if running.behaviour.dies:
            self._go_down(running, running.behaviour.dies)

    def _go_down(self, running: _Running, detail: str) -> None:
        now = self._now()
        running.crash = running.last_exit = detail
        running.endurance.ended(now.timestamp())
        rest = timedelta(seconds=running.endurance.rests_until - now.timestamp())
        running.next_start = now + max(rest, BACKOFF)
