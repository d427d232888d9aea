from fastapi import APIRouter
from starlette.responses import Response

from controller.api.answers import answers
from controller.api.auth import Asker
from controller.api.pages import InWindow, paged
from controller.api.paths import DEPLOYMENT, InDeployment
from controller.operations.volumes import VolumeOperations
from controller.views import VolumeInfo


def routes(volumes: VolumeOperations) -> APIRouter:
    router = APIRouter(tags=["disk"])

    @router.get(f"{DEPLOYMENT}/volumes", summary="List its volumes", responses=answers(list[VolumeInfo], 404))
    async def index(asker: Asker, window: InWindow, deployment: InDeployment) -> Response:
        """Measured now, which may take a while."""
        return paged(window, await volumes.list(asker, deployment), lambda each: (each.service, each.name))

    return router
