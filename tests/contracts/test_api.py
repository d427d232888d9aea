"""The API against its own description: whatever is asked, it answers as the OpenAPI document says.

A real server over loopback, with store, backend and router in memory and a loop that keeps them true.
"""

import asyncio
import re
import threading
import zlib
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import schemathesis
import uvicorn
from schemathesis.config import SchemathesisConfig
from schemathesis.engine import from_schema
from schemathesis.engine.events import NonFatalError, ScenarioFinished
from schemathesis.engine.recorder import ScenarioRecorder

from builder.slugs import SlugStore
from builder.storage import DiskStorage
from cli.drivers import make_plugins
from cli.resourceslug import EmptySlugs
from controller.api.app import create_app
from controller.api.connections import Connection
from controller.api.limits import FailedLogins
from controller.backends.memory import MemoryBackend
from controller.config import Listen, Settings
from controller.names import Address
from controller.operations.credentials import Sessions
from controller.operations.operations import Operations, make_operations
from controller.operations.server import Doorplate
from controller.operations.sources import Look
from controller.reconcile.loop import Reconciler
from controller.reconcile.timing import Timing
from controller.resources.postgres import PostgresDriver
from controller.state import State, put
from controller.store.memory import MemoryStore
from controller.types import Instance, Right
from controller.views import BuildpackVerdict
from router.memory import MemoryRouter
from tests.factories import slug
from tests.unit.controller.api.conftest import listening
from tests.unit.controller.world import ADMIN, FOO

EXAMPLES = 8
"""Random requests for each operation, beside the examples of the document and those at its limits."""
KNOWN = {
    "deployment": "foo", "service": "app", "user": "robin", "number": 1, "build": "", "plugin": "echo",
    "path": "report", "verb": "echo:say",
}  # fmt: skip
"""What is there, in place of random names: else hardly a request would get further than a 404."""
TO_GO = {"deployment": "gone", "service": "app", "user": "sam", "name": "laptop"}
"""The same where something is destroyed."""
HARD = re.compile(
    r"DELETE|/(runs|keys|renew|retry|rotate|promote|abort|cancel|pause|resume|rollback|diff|scale|limits|close)$"
    r"|/resources/{name}/(restore|data|backup-schedule)$|POST .*/resources/{name}/backups$"
    r"|/volumes/{name}/(backups|restore|data|backup-schedule)$"
)
"""What does not succeed by chance, or not here."""

PLUGIN = """
from controller.plugins.extensions import Command, Route
from controller.plugins.hooks import hookimpl

@hookimpl
def register_commands():
    return [Command(verb="echo:say", run=lambda call: " ".join(call.words), summary="Say it.")]

@hookimpl
def register_api_routes():
    return [Route(path="report", method=each, handle=lambda call: {"query": dict(call.query)})
            for each in ("GET", "POST", "PUT", "DELETE")]
"""


@dataclass(frozen=True)
class Served:
    url: str
    token: str
    document: dict[str, Any]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """In a thread: schemathesis asks from outside, and blocks."""
    ready, done = threading.Event(), threading.Event()
    found: list[Served] = []

    async def serve() -> None:
        async with _server(tmp_path_factory.mktemp("data")) as served:
            found.append(served)
            ready.set()
            await asyncio.to_thread(done.wait)

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    try:
        assert ready.wait(30)
        yield found[0]
    finally:
        done.set()
        thread.join(30)
    assert not thread.is_alive()


@asynccontextmanager
async def _server(folder: Path) -> AsyncIterator[Served]:
    state = await State.open(MemoryStore())
    loop = Reconciler(
        state, MemoryBackend(), MemoryRouter(), domain="localhost", timing=TIMING, prober=_healthy
    )
    sessions = Sessions()
    doorplate = Doorplate(
        api=Listen("127.0.0.1", 5555),
        ssh=Listen("127.0.0.1", 2222),
        http=Listen("127.0.0.1", 8080),
        host_key_fingerprint="SHA256:abc",
    )
    settings = Settings(data=folder, domain="localhost")
    settings.folders.plugins.mkdir()
    (settings.folders.plugins / "echo.py").write_text(PLUGIN)
    plugins = make_plugins(settings)
    await plugins.start(None, ())
    slugs = SlugStore(settings.folders.slugs, settings.folders.apps, limit=settings.slug_limit)
    operations = make_operations(
        state,
        settings,
        loop,
        storage=DiskStorage(settings.folders, slugs),
        inspect=_inspect,
        drivers={"postgres": PostgresDriver()},
        make_slug=EmptySlugs(slugs, settings.folders).make,
        doorplate=lambda: doorplate,
        plugins=plugins,
        sessions=sessions,
        privileged=False,
    )
    await state.commit(put(ADMIN.user))
    running = asyncio.create_task(loop.run())
    await _fill(operations)
    await operations.resources.create(ADMIN, "foo", "postgres", "db", url="postgres://db.example.org/foo")
    app = create_app(operations, keep_alive=0.2, failures=FailedLogins(allowed=10**9))
    config = uvicorn.Config(
        app, log_config=None, lifespan="off", timeout_graceful_shutdown=1, http=Connection
    )
    server = uvicorn.Server(config)
    with listening() as listener:
        serving = asyncio.create_task(server._serve([listener]))
        yield Served(
            f"http://127.0.0.1:{listener.getsockname()[1]}", sessions.mint(ADMIN.name), app.openapi()
        )
        server.should_exit = True
        await serving
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await operations.close()
    await state.close()


TIMING = Timing(drain_timeout=0, stop_grace=0, health_timeout=1)


async def _healthy(_instance: Instance, _check: object) -> None:
    """Everybody is."""


async def _inspect(_look: Look) -> Sequence[BuildpackVerdict]:
    """What was pushed is for one of them."""
    return [BuildpackVerdict(buildpack="python", by="", matched=True, words="Python", builds=True)]


async def _fill(operations: Operations) -> None:
    """An app with two versions, a build, a user and a token."""
    await operations.deployments.create(ADMIN, "foo")
    await operations.services.ensure(ADMIN, FOO)
    for content in "ab":
        build = await operations.builds.open(ADMIN, FOO, commit="c" * 40)
        artifact = slug(content * 64)
        await operations.versions.release(
            ADMIN, FOO, artifact, commit="c" * 40, build=build.id, reason="push"
        )
    await operations.services.change_config(ADMIN, FOO, values={"GREETING": "hello"})
    KNOWN["build"] = (await operations.builds.open(ADMIN, FOO, commit=None)).id
    await operations.deployments.create(ADMIN, "staging")
    await operations.services.ensure(ADMIN, Address("staging"))
    await operations.versions.release(ADMIN, Address("staging"), slug("d" * 64), reason="push")
    await operations.deployments.create(ADMIN, "gone")
    await operations.services.ensure(ADMIN, Address("gone"))
    await operations.users.create(ADMIN, "robin")
    await operations.users.create(ADMIN, "sam")
    await operations.users.grant(ADMIN, "robin", "foo", Right.DEPLOY)
    await operations.credentials.create(ADMIN, user="robin", expires_in=timedelta(days=1))


@schemathesis.hook
def before_call(_context: object, case: schemathesis.Case, _kwargs: object) -> None:
    """Mostly ask for what is there, but not where that is destroyed which others need."""
    asked = case.path_parameters or {}
    if case.method == "DELETE":
        case.path_parameters = {name: TO_GO.get(name, value) for name, value in asked.items()}
    elif zlib.crc32(str(asked).encode()) % 4:
        case.path_parameters = {name: KNOWN.get(name, value) for name, value in asked.items()}
    if case.query:  # what is followed has no end
        case.query = {name: value for name, value in case.query.items() if name != "follow"}


@pytest.mark.timeout(400)  # half a minute of work, on a machine that may be busy
def test_whatever_is_asked_it_answers_as_it_is_described(served: Served) -> None:
    config = SchemathesisConfig.from_dict(
        {
            "seed": 1,
            "base-url": served.url,
            "headers": {"Authorization": f"Bearer {served.token}"},
            "request-timeout": 10,
            "continue-on-failure": True,
            "generation": {"max-examples": EXAMPLES, "deterministic": True},
            "phases": {"stateful": {"enabled": False}},
            # Names and texts have rules that no JSON schema tells: a 422 says which.
            "checks": {"positive_data_acceptance": {"enabled": False}},
        }
    )
    asked, failures, statuses = 0, set[str](), dict[str, Counter[int]]()
    for event in from_schema(schemathesis.openapi.from_dict(served.document, config=config)).execute():
        if isinstance(event, NonFatalError):
            failures.add(f"{event.label}: {event.value!r}")
        elif isinstance(event, ScenarioFinished):
            asked += len(event.recorder.interactions)
            failures |= set(_failures(event.recorder))
            for each in event.recorder.interactions.values():
                if each.response is not None:
                    statuses.setdefault(event.recorder.label, Counter())[each.response.status_code] += 1
    assert not failures, "\n\n".join(sorted(failures))
    assert asked > 1000
    never = {label for label, found in statuses.items() if not any(each < 300 for each in found)}
    never = {each for each in never if not HARD.search(each)}
    assert not never, "\n".join(sorted(never))


def _failures(recorder: ScenarioRecorder) -> Iterator[str]:
    for case, found in recorder.checks.items():
        for each in found:
            if each.failure_info is not None:
                request = recorder.interactions[case].request
                what = f"{request.method} {request.uri} {request.body!r}"
                yield f"{recorder.label}: {each.failure_info.failure}\n{what[:1000]}"
