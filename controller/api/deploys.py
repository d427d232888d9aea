from typing import Annotated

from fastapi import APIRouter, Query
from starlette.responses import Response

from controller.api.answers import answers, respond
from controller.api.auth import Asker
from controller.api.paths import SERVICE, At
from controller.operations.deploys import DeployOperations
from controller.views import Deploy


def routes(deploys: DeployOperations) -> APIRouter:
    router = APIRouter(tags=["deploys"])

    @router.get("/v1/deploys", summary="List what is on its way", responses=answers(list[Deploy], 404))
    async def index(
        asker: Asker,
        deployment: Annotated[str | None, Query(description="Only of this one.")] = None,
        service: Annotated[str | None, Query(description="Only of this service of it.")] = None,
    ) -> Response:
        """Rollouts under way, builds that run, and those that wait in the order they came."""
        return respond(deploys.list(asker, deployment=deployment, service=service))

    @router.post(
        f"{SERVICE}/deploy/cancel",
        summary="End what is on its way",
        responses=answers(Deploy, 403, 404, 409),
    )
    async def cancel(asker: Asker, at: At) -> Response:
        """The build that runs, else the rollout under way, else the build that waits first; answers with it."""
        return respond(await deploys.cancel(asker, at))

    return router
