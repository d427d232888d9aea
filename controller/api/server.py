from fastapi import APIRouter
from starlette.responses import Response

from controller.api.answers import answers, respond
from controller.api.auth import Asker
from controller.operations.server import ServerOperations
from controller.types import User
from controller.views import Status


def routes(server: ServerOperations) -> APIRouter:
    router = APIRouter(tags=["server"])

    @router.get("/v1/health", summary="Whether the server answers", responses=answers(dict[str, str]))
    async def health() -> Response:
        """Needs no token."""
        return respond({"status": "ok"})

    @router.get("/v1/status", summary="Addresses, version and problems", responses=answers(Status))
    async def status(asker: Asker) -> Response:
        return respond(server.status(asker))

    @router.get("/v1/me", summary="Who asks", responses=answers(User))
    async def me(asker: Asker) -> Response:
        return respond(asker.user)

    return router
