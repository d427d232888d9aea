"""The HTTP API, put together."""

from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

from fastapi import APIRouter, FastAPI

from controller.api import (
    attach,
    builds,
    deployments,
    deploys,
    disk,
    domains,
    events,
    execs,
    keys,
    logs,
    plugins,
    problems,
    processes,
    promotion,
    resources,
    runs,
    secrets,
    server,
    servicefiles,
    services,
    sources,
    tokens,
    users,
    versions,
    volumes,
)
from controller.api.answers import EVERYWHERE, documented_problems, openapi_of
from controller.api.auth import Gate
from controller.api.idempotency import Idempotency
from controller.api.limits import BodyLimit, FailedLogins, OpenStreams, TimeLimit
from controller.api.methods import Methods
from controller.api.reference import Apart
from controller.operations.operations import Operations
from controller.web import files

DESCRIPTION = """
A git-push PaaS. Every call but `/v1/health` needs `Authorization: Bearer TOKEN`.

Errors are problems (RFC 9457) with a `code` that stays the same over releases: `invalid-input` (with
the `field`), `not-found`, `conflict`, `refused`,
`key-reused`, `answer-lost`, `unauthenticated`, `forbidden`, `throttled`,
`method-not-allowed`, `unavailable` (try again), `internal` (our fault). What the asker may not view
is `not-found` to them.

Streams are NDJSON: one JSON object a line, blank lines as signs of life, and a last line
`{"problem": …}` when an error comes up on the way.
"""


def create_app(
    operations: Operations,
    *,
    keep_alive: float = 15.0,
    failures: FailedLogins | None = None,
    routers: Sequence[APIRouter] = (),
) -> FastAPI:
    """`keep_alive`: seconds of silence after which a stream gets a sign of life.

    `routers`: of other parts of the server, behind the same gate: they check what the asker may themselves.
    """
    app = FastAPI(
        title="Mooring",
        version=version("mooring"),
        description=f"{DESCRIPTION}\n{attach.PROTOCOL}",
        responses=documented_problems(*EVERYWHERE),
        redirect_slashes=False,  # a path that is off is told so, like any other
    )
    own = (
        server.routes(operations.server),
        deployments.routes(operations.deployments, operations.shared, operations.vars),
        promotion.routes(operations.promotion),
        services.routes(operations.services),
        servicefiles.routes(operations.servicefiles),
        sources.routes(operations.sources),
        processes.routes(operations.processes, operations.instances, operations.services),
        logs.routes(operations.logs, keep_alive=keep_alive),
        versions.routes(operations.versions, operations.rollouts, keep_alive=keep_alive),
        domains.routes(operations.domains),
        builds.routes(operations.builds),
        deploys.routes(operations.deploys),
        execs.routes(operations.execs),
        runs.routes(operations.runs, operations.cron, keep_alive=keep_alive),
        attach.routes(operations.attaching),
        disk.routes(operations.disk),
        resources.routes(operations.resources, keep_alive=keep_alive),
        volumes.routes(operations.volumes, operations.volume_backups, keep_alive=keep_alive),
        users.routes(operations.users),
        keys.routes(operations.keys),
        tokens.routes(operations.credentials),
        events.routes(operations.journal, keep_alive=keep_alive),
        secrets.routes(operations.secrets),
        plugins.routes(operations.plugins),
        files.routes(),
    )
    app.state.streams = OpenStreams()
    app.state.methods = methods = Methods((*own, *routers))
    # The last one added is the first to see a request.
    app.add_middleware(Idempotency, receipts=operations.receipts, methods=methods)
    app.add_middleware(BodyLimit, methods=methods)
    app.add_middleware(TimeLimit, methods=methods)
    app.add_middleware(Apart)
    app.add_middleware(Gate, credentials=operations.credentials, failures=failures or FailedLogins())
    problems.install(app)
    for router in (*own, *routers):
        app.include_router(router)
    _document(app)
    return app


def _document(app: FastAPI) -> None:
    """Make the OpenAPI document when it is first asked for: it is large, and most servers are never asked."""

    def openapi() -> dict[str, Any]:
        app.openapi_schema = app.openapi_schema or openapi_of(app)
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]
