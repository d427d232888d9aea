from typing import Annotated

from fastapi import APIRouter, Path
from pydantic import Field, StrictBool
from starlette.responses import Response

from controller.api.answers import answers, nothing, respond
from controller.api.auth import Asker
from controller.api.bodies import Body
from controller.api.pages import InWindow, paged
from controller.api.paths import InDeployment
from controller.operations.users import UserOperations
from controller.types import Right, User

USER = "/v1/users/{user}"
RIGHT = "/v1/users/{user}/rights/{deployment}"
UserName = Annotated[str, Path(description="Name of the user.", examples=["robin"])]


class NewUser(Body):
    name: str = Field(examples=["robin"])
    admin: StrictBool = Field(False, description="With every right on every deployment, and on users.")


class Grant(Body):
    right: Right


def routes(users: UserOperations) -> APIRouter:
    router = APIRouter(tags=["users"])

    @router.get("/v1/users", summary="List users", responses=answers(list[User]))
    async def index(asker: Asker, window: InWindow) -> Response:
        """All for an admin; else oneself, and who has rights on what one manages."""
        return paged(window, users.list(asker), lambda each: (each.name,))

    @router.post(
        "/v1/users", summary="Make one", status_code=201, responses=answers(User, 403, 409, status=201)
    )
    async def create(asker: Asker, body: NewUser) -> Response:
        return respond(await users.create(asker, body.name, admin=body.admin), 201)

    @router.delete(
        USER, summary="Remove one", status_code=204, responses=answers(None, 403, 404, 409, status=204)
    )
    async def remove(asker: Asker, user: UserName) -> Response:
        """With keys and tokens. The last admin stays."""
        await users.remove(asker, user)
        return nothing()

    @router.put(RIGHT, summary="Give a right", responses=answers(User, 403, 404))
    async def grant(asker: Asker, user: UserName, deployment: InDeployment, body: Grant) -> Response:
        """In place of the one they had there. For admins, and for whoever may manage the deployment."""
        return respond(await users.grant(asker, user, deployment, body.right))

    @router.delete(RIGHT, summary="Take the right away", responses=answers(User, 403, 404))
    async def revoke(asker: Asker, user: UserName, deployment: InDeployment) -> Response:
        return respond(await users.grant(asker, user, deployment, None))

    return router
