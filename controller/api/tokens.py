from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated

from fastapi import APIRouter, Path
from pydantic import Field
from starlette.responses import Response

from controller.api.answers import answers, nothing, respond
from controller.api.auth import Asker
from controller.api.bodies import Body
from controller.operations.credentials import CredentialOperations
from controller.types import Token


class NewToken(Body):
    user: str | None = Field(None, description="Whose it is; null: the asker's. Others' for admins only.")
    description: str = Field("", examples=["build server"])


def routes(credentials: CredentialOperations) -> APIRouter:
    router = APIRouter(tags=["tokens"])

    @router.get("/v1/tokens", summary="List API tokens", responses=answers(list[Token]))
    async def index(asker: Asker) -> Response:
        """All for an admin, else one's own. Secrets are kept nowhere, and their hashes are not shown."""
        return respond(_shown(credentials.list(asker)))

    @router.post(
        "/v1/tokens",
        summary="Make one",
        status_code=201,
        responses=answers(dict[str, str], 403, 404, 409, status=201),
    )
    async def create(asker: Asker, body: NewToken) -> Response:
        """Answers `{"secret": …}`: the only time that it is shown."""
        secret = await credentials.create(asker, user=body.user, description=body.description)
        return respond({"secret": secret}, 201)

    @router.delete(
        "/v1/tokens/{token}", summary="Remove one", status_code=204, responses=answers(None, 404, status=204)
    )
    async def remove(asker: Asker, token: Annotated[str, Path(description="Id of the token.")]) -> Response:
        await credentials.remove(asker, token)
        return nothing()

    return router


def _shown(tokens: Sequence[Token]) -> Sequence[Token]:
    return [replace(each, sha256="") for each in tokens]
