from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Annotated

from fastapi import APIRouter, Path
from pydantic import Field, StrictInt
from starlette.responses import Response

from controller.api.answers import answers, nothing, respond
from controller.api.auth import Asker
from controller.api.bodies import Body
from controller.api.pages import InWindow, paged
from controller.operations.credentials import CredentialOperations
from controller.types import Right, Token


class NewToken(Body):
    user: str | None = Field(None, description="Whose it is; null: the asker's. Others' for admins only.")
    description: str = Field("", examples=["build server"])
    expires_in: StrictInt | None = Field(
        None,
        description="Seconds that it is good for; null: until it is removed.",
        ge=60,
        le=3650 * 24 * 3600,
        examples=[30 * 24 * 3600],
    )
    right: Right | None = Field(
        None, description="The highest right that it gives; null: all that its user has.", examples=["deploy"]
    )
    deployments: list[str] = Field(
        default_factory=list, description="The only ones it is good for; empty: all.", examples=[["foo"]]
    )


def routes(credentials: CredentialOperations) -> APIRouter:
    router = APIRouter(tags=["tokens"])

    @router.get("/v1/tokens", summary="List API tokens", responses=answers(list[Token]))
    async def index(asker: Asker, window: InWindow) -> Response:
        """All for an admin, else one's own. Secrets are kept nowhere, and their hashes are not shown."""
        return paged(window, _shown(credentials.list(asker)), lambda each: (each.user, each.id))

    @router.post(
        "/v1/tokens",
        summary="Make one",
        status_code=201,
        responses=answers(dict[str, str], 403, 404, 409, status=201),
    )
    async def create(asker: Asker, body: NewToken) -> Response:
        """Answers `{"secret": …, "id": …}`: the only time that the secret is shown.

        It never gives more than its user has at the time of use. A narrowed token makes no others.
        """
        secret, token = await credentials.create(
            asker,
            user=body.user,
            description=body.description,
            expires_in=None if body.expires_in is None else timedelta(seconds=body.expires_in),
            right=body.right,
            deployments=body.deployments,
        )
        return respond({"secret": secret, "id": token.id}, 201)

    @router.delete(
        "/v1/tokens/{token}",
        summary="Remove one",
        status_code=204,
        responses=answers(None, 403, 404, status=204),
    )
    async def remove(asker: Asker, token: Annotated[str, Path(description="Id of the token.")]) -> Response:
        await credentials.remove(asker, token)
        return nothing()

    return router


def _shown(tokens: Sequence[Token]) -> Sequence[Token]:
    return [replace(each, sha256="") for each in tokens]
