from fastapi import APIRouter
from starlette.responses import Response

from controller.api.answers import answers, nothing
from controller.api.auth import Asker
from controller.operations.secrets import SecretOperations


def routes(secrets: SecretOperations) -> APIRouter:
    router = APIRouter(tags=["secrets"])

    @router.post(
        "/v1/secrets/rotate",
        summary="Change the key of config values",
        status_code=204,
        responses=answers(None, 403, 409, status=204),
    )
    async def rotate(asker: Asker) -> Response:
        """For admins. Everything is sealed with a new key; then the old ones are forgotten."""
        await secrets.rotate(asker)
        return nothing()

    return router
