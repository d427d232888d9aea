from typing import Annotated

from fastapi import APIRouter, Path
from starlette.responses import Response

from controller.api.answers import answers, respond
from controller.api.auth import Asker
from controller.api.pages import InWindow, paged
from controller.api.paths import DEPLOYMENT, InDeployment
from controller.operations.execs import ExecOperations
from controller.views import ExecInfo

EXECS = f"{DEPLOYMENT}/execs"


def routes(execs: ExecOperations) -> APIRouter:
    router = APIRouter(tags=["one-offs"])

    @router.get(EXECS, summary="List commands of the section Exec", responses=answers(list[ExecInfo], 404))
    async def index(asker: Asker, window: InWindow, deployment: InDeployment) -> Response:
        """Each runs once, when what it requires is there. Sorted by name."""
        return paged(window, execs.list(asker, deployment), lambda each: (each.name,))

    @router.post(
        f"{EXECS}/{{name}}/retry",
        summary="Run one again that failed",
        responses=answers(ExecInfo, 403, 404, 409),
    )
    async def retry(
        asker: Asker,
        deployment: InDeployment,
        name: Annotated[str, Path(description="In the section Exec.", examples=["Init"])],
    ) -> Response:
        return respond(await execs.retry(asker, deployment, name))

    return router
