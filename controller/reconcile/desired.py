"""What should be, read from the state into plain values that planning can work on."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from controller.checks import check_of
from controller.environment import environment
from controller.formation import UNNAMED, due_processes, process_commands
from controller.types import NO_LIMITS, Deployment, HealthCheck, Limits, Service, Version

Key = tuple[str, str]
"""(deployment, service)"""
ROUTED = ("web", UNNAMED)
"""Process types that take requests; one may come in the other's place."""


@dataclass(frozen=True, kw_only=True)
class ProcessGroup:
    """One process type of one version: how many instances, and how each is run."""

    process_type: str
    quantity: int
    command: str
    env: Mapping[str, str]

    @property
    def serves_requests(self) -> bool:
        """`web`, and the unnamed type of a service without a Procfile, get a port and are routed to."""
        return self.process_type in ROUTED


@dataclass(frozen=True, kw_only=True)
class Release:
    """A version together with the generation of its instances: what a rollout moves from and to."""

    version: Version
    generation: int
    groups: tuple[ProcessGroup, ...]
    withdrawn: frozenset[str] = frozenset()
    """Ids of single instances that were stopped: `quantity` is without them."""
    replacing: frozenset[str] = frozenset()
    """Ids of instances that go as soon as another one is ready in their place."""

    def check(self, process_type: str) -> HealthCheck:
        """What an instance of that type has to pass."""
        return check_of(self.version, process_type)


@dataclass(frozen=True, kw_only=True)
class DesiredService:
    """One service as it should be."""

    service: Service
    domains: frozenset[str]
    goal: Release | None
    """What should run. None: nothing (stopped, held, or its first version failed)."""
    serving: Release | None
    """What serves until the goal is healthy; the same as `goal` when no rollout is under way."""
    limits: Limits = field(default_factory=Limits)
    """Of instances that have no limits of their own."""
    deployment: Deployment | None = None
    """Its own, where others of it may reach the service."""

    @property
    def key(self) -> Key:
        return (self.service.deployment, self.service.name)

    def find_version(self, number: int) -> Version | None:
        """Of the two that there are."""
        for release in (self.goal, self.serving):
            if release is not None and release.version.number == number:
                return release.version
        return None

    @property
    def rolling(self) -> bool:
        """Whether the goal has yet to take over."""
        return self.goal is not None and _identity(self.goal) != _identity(self.serving)

    @property
    def withdrawn(self) -> frozenset[str]:
        """Ids of single instances that were stopped."""
        return self.goal.withdrawn if self.goal else frozenset()

    @property
    def paused(self) -> bool:
        """Whether somebody holds the rollout that is under way."""
        return self.rolling and self.service.paused


def desired_service(
    service: Service,
    versions: Mapping[int, Version],
    domains: frozenset[str],
    limits: Limits = NO_LIMITS,
    deployment: Deployment | None = None,
) -> DesiredService:
    """Put together what should run. `versions` has at least the target and the current one, `limits` the
    server's defaults. `deployment`: its own, where others of it may reach the service."""
    goal = serving = None
    if not service.stopped:
        goal = _release(service, versions, service.target, service.generation)
        serving = _release(service, versions, service.current, service.current_generation)
    return DesiredService(
        service=service,
        domains=domains,
        goal=goal,
        serving=serving if goal else None,
        limits=limits,
        deployment=deployment,
    )


def _release(
    service: Service, versions: Mapping[int, Version], number: int | None, generation: int
) -> Release | None:
    version = versions.get(number) if number is not None else None
    if version is None or version.artifact is None:
        return None
    env = environment(version)
    commands = process_commands(version)
    groups = tuple(
        ProcessGroup(process_type=kind, quantity=quantity, command=commands[kind], env=env)
        for kind, quantity in sorted(due_processes(service, version).items())
    )
    return Release(
        version=version,
        generation=generation,
        groups=groups,
        withdrawn=frozenset(service.withdrawn),
        replacing=frozenset(service.replacing),
    )


def _identity(release: Release | None) -> tuple[int, int] | None:
    return (release.version.number, release.generation) if release else None
