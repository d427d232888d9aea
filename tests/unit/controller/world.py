"""A whole server but for the reconcile loop: state in memory, a runtime that says what a test tells it to."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from builder.slugs import SlugStore
from builder.storage import DiskStorage
from controller.config import Listen, Settings
from controller.names import Address
from controller.operations.access import Actor
from controller.operations.credentials import Sessions
from controller.operations.operations import Operations, make_operations
from controller.operations.server import Doorplate
from controller.operations.sources import Look
from controller.plugins.manager import Plugins
from controller.resources.postgres import PostgresDriver
from controller.state import EventDraft, State, put
from controller.store.memory import MemoryStore
from controller.types import Artifact, Instance, Right, User, VersionStatus
from controller.views import BuildpackVerdict
from tests.factories import slug

FOO = Address("foo")
ADMIN = Actor(User(name="ann", admin=True))


class FakeRuntime:
    """Answers what was put into it."""

    def __init__(self) -> None:
        self.backend: Any = object()
        self.running: list[Instance] = []
        self.busy: dict[tuple[str, str], str] = {}
        self.asking: dict[tuple[str, str], str] = {}
        self.troubles: list[str] = []
        self.leaving: dict[str, datetime] = {}
        self.woken = 0

    def instances(self, deployment: str, service: str | None = None) -> Sequence[Instance]:
        return [
            each for each in self.running if each.deployment == deployment and service in (None, each.service)
        ]

    def pending(self, deployment: str, service: str) -> str | None:
        return self.busy.get((deployment, service))

    def awaiting(self, deployment: str, service: str) -> str | None:
        return self.asking.get((deployment, service))

    def problems(self) -> Sequence[str]:
        return self.troubles

    def stopping(self) -> Mapping[str, datetime]:
        return self.leaving

    def wake(self) -> None:
        self.woken += 1


@dataclass
class World:
    state: State
    runtime: FakeRuntime
    sessions: Sessions
    settings: Settings
    operations: Operations
    storage: DiskStorage
    slugs: SlugStore
    cleaned: list[tuple[str, str]] = field(default_factory=list)

    async def user(self, name: str, *, admin: bool = False, **rights: Right) -> Actor:
        """A user with these rights by deployment, known to the state."""
        made = User(name=name, admin=admin, rights=rights)
        await self.state.commit(put(made))
        return Actor(made)

    async def app(self, name: str = "foo") -> Address:
        """A deployment with an empty service `app`."""
        address = Address(name)
        await self.operations.deployments.create(ADMIN, name)
        await self.operations.services.ensure(ADMIN, address)
        return address

    async def push(self, address: Address = FOO, content: str = "a", **changes: Any) -> int:
        """New code, not live yet; the version's number."""
        artifact = slug(content * 64, **changes)
        change = await self.operations.versions.release(
            ADMIN, address, artifact, commit="c" * 40, reason="push"
        )
        assert change.version is not None
        return change.version.number

    async def live(self, address: Address = FOO) -> None:
        """What the loop does once the target is healthy."""
        service = self.state.service(address.deployment, address.service)
        assert service and service.target
        target = self.state.version(address.deployment, address.service, service.target)
        assert target
        steps = [
            put(replace(target, status=VersionStatus.LIVE)),
            put(replace(service, current=service.target, current_generation=service.generation)),
        ]
        if service.current and service.current != service.target:
            old = self.state.version(address.deployment, address.service, service.current)
            assert old
            steps.append(put(replace(old, status=VersionStatus.SUPERSEDED)))
        await self.state.commit(*steps, events=[_event(address, "version.live", f"v{service.target} serves")])

    async def failed(self, address: Address = FOO, why: str = "it crashed") -> None:
        """What the loop does once the target is given up."""
        service = self.state.service(address.deployment, address.service)
        assert service and service.target
        target = self.state.version(address.deployment, address.service, service.target)
        assert target
        await self.state.commit(
            put(replace(target, status=VersionStatus.FAILED, failure=why)),
            put(replace(service, target=service.current, rollout_failure=why)),
            events=[_event(address, "version.failed", f"v{service.target} failed: {why}")],
        )


def _event(address: Address, kind: str, text: str) -> EventDraft:
    return EventDraft(kind=kind, deployment=address.deployment, service=address.service, text=text)


async def make_world(
    folder: Path, *, privileged: bool = True, plugins: Plugins | None = None, store: MemoryStore | None = None
) -> World:
    store = store or MemoryStore()
    state = await State.open(store)
    runtime, sessions = FakeRuntime(), Sessions()
    settings = Settings(data=folder)
    cleaned: list[tuple[str, str]] = []

    class Recorded(DiskStorage):
        async def remove_service(self, deployment: str, service: str) -> None:
            cleaned.append((deployment, service))

    slugs = SlugStore(settings.folders.slugs, settings.folders.apps, limit=1024**2)
    storage = Recorded(settings.folders, slugs)

    async def inspect(look: Look) -> Sequence[BuildpackVerdict]:
        words = f"{look.service.name} on {look.branch}, {sorted(look.env)}"
        return [BuildpackVerdict(buildpack="null", by="", matched=False, words=words, builds=False)]

    programs = folder.with_name(f"{folder.name}-postgresql")
    (programs / "15" / "bin").mkdir(parents=True, exist_ok=True)
    (programs / "15" / "bin" / "initdb").touch()

    async def empty_slug(_deployment: str, _service: str) -> Artifact:
        return slug("e" * 64, process_types={})

    operations = make_operations(
        state,
        settings,
        runtime,
        storage=storage,
        doorplate=lambda: Doorplate(
            api=Listen("127.0.0.1", 5555),
            ssh=Listen("127.0.0.1", 2222),
            http=Listen("127.0.0.1", 8080),
            host_key_fingerprint="SHA256:abc",
        ),
        sessions=sessions,
        privileged=privileged,
        inspect=inspect,
        drivers={"postgres": PostgresDriver(programs)},
        make_slug=empty_slug,
        plugins=plugins,
        clock=lambda: datetime.now(UTC),
    )
    await state.commit(put(ADMIN.user))
    return World(state, runtime, sessions, settings, operations, storage, slugs, cleaned)
