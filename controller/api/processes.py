from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import Field, StrictBool
from starlette.responses import Response

from controller.api.answers import answers, respond
from controller.api.auth import Asker
from controller.api.bodies import Body
from controller.api.pages import InWindow, paged
from controller.api.paths import SERVICE, At
from controller.operations.instances import InstanceOperations
from controller.operations.processes import ProcessOperations
from controller.operations.services import ServiceOperations
from controller.types import Instance, Version
from controller.views import ServiceInfo

ProcessType = Annotated[str | None, Query(description="Only this process type.", examples=["web"])]

What = Annotated[
    str | None,
    Query(
        description="Only this process type (`web`), or this instance (`web.1`, or its whole id).",
        examples=["web.1"],
        max_length=200,
    ),
]


class Scale(Body):
    changes: Mapping[str, str] = Field(
        description="Process type to a number, or to how many more or fewer.",
        examples=[{"web": "2", "worker": "+1"}],
    )


class Maintenance(Body):
    on: StrictBool
    page: str = Field(
        "", description="HTML to answer with; empty: the router's own page.", max_length=32 * 1024
    )


def routes(
    processes: ProcessOperations, instances: InstanceOperations, services: ServiceOperations
) -> APIRouter:
    router = APIRouter(tags=["processes"])
    changed = answers(ServiceInfo, 403, 404)
    stopped = answers(ServiceInfo, 403, 404, 409)

    @router.patch(f"{SERVICE}/scale", summary="Say how many instances run", responses=changed)
    async def scale(asker: Asker, at: At, body: Scale) -> Response:
        await processes.scale(asker, at, body.changes)
        return respond(services.get(asker, at))

    @router.post(f"{SERVICE}/restart", summary="Restart", responses=answers(Version, 403, 404, 409))
    async def restart(asker: Asker, at: At, process: What = None) -> Response:
        """New instances take the old ones' place once they are healthy. Answers with what they run."""
        return respond(await processes.restart(asker, at, process))

    @router.post(f"{SERVICE}/stop", summary="Stop instances", responses=stopped)
    async def stop(asker: Asker, at: At, process: What = None) -> Response:
        """All, or what `process` names. The scale is kept, and so are domains: they are answered with 503."""
        await processes.stop(asker, at, process)
        return respond(services.get(asker, at))

    @router.post(f"{SERVICE}/start", summary="Undo a stop", responses=stopped)
    async def start(asker: Asker, at: At, process: What = None) -> Response:
        """Without `process` every stop is undone, of single types and instances too."""
        await processes.start(asker, at, process)
        return respond(services.get(asker, at))

    @router.put(f"{SERVICE}/maintenance", summary="Turn maintenance on or off", responses=changed)
    async def maintenance(asker: Asker, at: At, body: Maintenance) -> Response:
        """While it is on, the router answers for the service's domains with 503 and a page; what runs goes on."""
        await processes.set_maintenance(asker, at, body.on, page=body.page)
        return respond(services.get(asker, at))

    @router.get(f"{SERVICE}/instances", summary="List instances", responses=answers(list[Instance], 404))
    async def index(asker: Asker, at: At, window: InWindow, process: ProcessType = None) -> Response:
        """What runs, as of a moment ago."""
        found = instances.list(asker, replace(at, process_type=process))
        return paged(window, found, lambda each: (each.process_type, each.number, each.id))

    return router
