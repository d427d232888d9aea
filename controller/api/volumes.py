from typing import Annotated

from fastapi import APIRouter, Path
from starlette.responses import Response

from controller.api.answers import answers, respond
from controller.api.auth import Asker
from controller.api.pages import InWindow, paged
from controller.api.paths import DEPLOYMENT, SERVICE, At, InDeployment
from controller.operations.volumes import VolumeOperations
from controller.views import VolumeInfo

Name = Annotated[str, Path(description="Name of the volume.", examples=["data"], max_length=100)]


def routes(volumes: VolumeOperations) -> APIRouter:
    router = APIRouter(tags=["disk"])

    @router.get(f"{DEPLOYMENT}/volumes", summary="List its volumes", responses=answers(list[VolumeInfo], 404))
    async def index(asker: Asker, window: InWindow, deployment: InDeployment) -> Response:
        """Measured now, which may take a while."""
        return paged(window, await volumes.list(asker, deployment), lambda each: (each.service, each.name))

    @router.delete(
        f"{SERVICE}/volumes/{{name}}",
        summary="Destroy one that nothing has any more",
        responses=answers(dict[str, int], 403, 404, 409),
    )
    async def destroy(asker: Asker, at: At, name: Name) -> Response:
        """With all that is in it. Answers with the `bytes` that it had."""
        return respond({"bytes": await volumes.destroy(asker, at, name)})

    return router
