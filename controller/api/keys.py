from typing import Annotated

from fastapi import APIRouter, Path
from pydantic import Field
from starlette.responses import Response

from controller.api.answers import answers, nothing, respond
from controller.api.auth import Asker
from controller.api.bodies import Body
from controller.api.pages import InWindow, paged
from controller.operations.keys import KeyOperations
from controller.types import SshKey


class NewKey(Body):
    name: str = Field(examples=["laptop"])
    public_key: str = Field(examples=["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAA… robin@laptop"])
    user: str | None = Field(None, description="Whose it is; null: the asker's. Others' for admins only.")


def routes(keys: KeyOperations) -> APIRouter:
    router = APIRouter(tags=["keys"])

    @router.get("/v1/keys", summary="List SSH keys", responses=answers(list[SshKey]))
    async def index(asker: Asker, window: InWindow) -> Response:
        """All for an admin, else one's own."""
        return paged(window, keys.list(asker), lambda each: (each.user, each.name, each.fingerprint))

    @router.post(
        "/v1/keys", summary="Add one", status_code=201, responses=answers(SshKey, 403, 409, status=201)
    )
    async def add(asker: Asker, body: NewKey) -> Response:
        """Makes the user, without rights, when an admin names one that is not there."""
        return respond(await keys.add(asker, body.name, body.public_key, user=body.user), 201)

    @router.delete(
        "/v1/keys/{name}",
        summary="Remove one",
        status_code=204,
        responses=answers(None, 403, 404, status=204),
    )
    async def remove(asker: Asker, name: Annotated[str, Path(description="Name of the key.")]) -> Response:
        await keys.remove(asker, name)
        return nothing()

    return router
