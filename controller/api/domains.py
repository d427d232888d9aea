from fastapi import APIRouter
from pydantic import Field
from starlette.responses import Response

from controller.api.answers import answers, respond
from controller.api.auth import Asker
from controller.api.bodies import Body
from controller.api.paths import SERVICE, At
from controller.operations.domains import DomainOperations


class DomainChange(Body):
    add: list[str] = Field(default_factory=list, examples=[["www.example.org"]])
    remove: list[str] = Field(default_factory=list, examples=[["old.example.org"]])


def routes(domains: DomainOperations) -> APIRouter:
    router = APIRouter(tags=["domains"])

    @router.get(f"{SERVICE}/domains", summary="List domains", responses=answers(list[str], 404))
    async def index(asker: Asker, at: At) -> Response:
        """The default one first."""
        return respond(domains.list(asker, at))

    @router.patch(
        f"{SERVICE}/domains", summary="Add and remove domains", responses=answers(list[str], 403, 404, 409)
    )
    async def change(asker: Asker, at: At, body: DomainChange) -> Response:
        """All or nothing. A domain belongs to one service of the whole server."""
        return respond(await domains.change(asker, at, add=body.add, remove=body.remove))

    return router
