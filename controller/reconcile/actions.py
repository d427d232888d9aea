"""The steps that planning may ask for. Each one says why, in words that log, API and people share."""

from dataclasses import dataclass
from datetime import datetime

from controller.backends.base import InstanceSpec
from controller.reconcile.desired import Key
from controller.types import Run, RunStatus, VersionStatus
from router.types import Pool


@dataclass(frozen=True, kw_only=True)
class Start:
    """Start one instance."""

    key: Key
    spec: InstanceSpec
    reason: str


@dataclass(frozen=True, kw_only=True)
class Stop:
    """Take one instance away for good."""

    key: Key
    instance: str
    grace: float
    reason: str


@dataclass(frozen=True, kw_only=True)
class Route:
    """Make the router's pool for a service equal to `pool`; None takes the pool and its domains away."""

    key: Key
    pool: Pool | None
    reason: str


@dataclass(frozen=True, kw_only=True)
class Promote:
    """The goal serves: make it the current one."""

    key: Key
    version: int
    generation: int
    reason: str


@dataclass(frozen=True, kw_only=True)
class GiveUp:
    """The goal did not become healthy: go back to what serves."""

    key: Key
    version: int
    generation: int
    instances: tuple[str, ...]
    """Whose last log lines tell more."""
    reason: str
    status: VersionStatus = VersionStatus.FAILED
    """What the version ends as: FAILED, or CANCELED where nothing was wrong with it."""


@dataclass(frozen=True, kw_only=True)
class KeepReplaced:
    """Nothing healthy came up in place of these instances: they stay."""

    key: Key
    instances: tuple[str, ...]
    reason: str


@dataclass(frozen=True, kw_only=True)
class ClearWishes:
    """What was wished for these single instances is fulfilled, or they belong to an older version."""

    key: Key
    instances: tuple[str, ...]
    reason: str


@dataclass(frozen=True, kw_only=True)
class StartRun:
    """Start a one-off, this once. Its record is written first, where there is none yet."""

    key: Key
    run: Run
    spec: InstanceSpec
    reason: str


@dataclass(frozen=True, kw_only=True)
class EndRun:
    """Make a one-off end; how it ended is noted once it is gone."""

    key: Key
    run: Run
    grace: float
    reason: str


@dataclass(frozen=True, kw_only=True)
class NoteRun:
    """Write down what became of a one-off."""

    key: Key
    run: str
    status: RunStatus
    detail: str
    exit_code: int | None
    reason: str


@dataclass(frozen=True, kw_only=True)
class ForgetRun:
    """Let the backend forget a one-off whose end was written down."""

    key: Key
    instance: str
    reason: str


Action = (
    Start
    | Stop
    | Route
    | Promote
    | GiveUp
    | KeepReplaced
    | ClearWishes
    | StartRun
    | EndRun
    | NoteRun
    | ForgetRun
)


@dataclass(frozen=True)
class Plan:
    """What to do now for one service, and what it waits for."""

    actions: tuple[Action, ...] = ()
    waiting: str | None = None
    """What must happen by itself before the service has settled, in words; None: nothing."""
    awaiting: str | None = None
    """What a person has to decide before the rollout goes on, in words; None: nothing. It may take hours."""
    again_at: datetime | None = None
    """When to plan again although nothing changes until then; None: needless."""

    @property
    def pending(self) -> str | None:
        """What keeps the service from being settled; None when it is."""
        return self.actions[0].reason if self.actions else self.waiting
