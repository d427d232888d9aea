from typing import Annotated

from fastapi import APIRouter, Query
from starlette.responses import Response

from controller.api.answers import answers, respond
from controller.api.auth import Asker
from controller.operations.journal import JournalOperations
from controller.types import Event


def routes(journal: JournalOperations) -> APIRouter:
    router = APIRouter(tags=["events"])

    @router.get("/v1/events", summary="Read what happened", responses=answers(list[Event], 404))
    async def index(
        asker: Asker,
        deployment: Annotated[str | None, Query()] = None,
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    ) -> Response:
        """The newest, oldest first. What concerns no deployment is for admins."""
        return respond(journal.list(asker, deployment=deployment, limit=limit))

    return router
