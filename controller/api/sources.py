"""How a service's source is built."""

from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import Field
from starlette.responses import Response

from controller.api.answers import answers, respond
from controller.api.auth import Asker
from controller.api.bodies import Body
from controller.api.paths import SERVICE, At
from controller.operations.sources import SourceOperations
from controller.types import Service
from controller.views import BuildpackVerdict


class BuildpackChange(Body):
    only: list[str] | None = Field(
        None, description="In place of all that there were; [] for none.", examples=[["nodejs", "python"]]
    )
    add: list[str] = Field(default_factory=list, examples=[["https://example.org/pack.git#v2"]])
    at: int | None = Field(
        None, description="The place of the first that is added, from 1; null: behind all."
    )
    remove: list[str] = Field(default_factory=list, examples=[["static"]])


class BuildFolder(Body):
    folder: str = Field(
        description="From the top of the repository; empty: all of it.", examples=["services/api"]
    )


def routes(sources: SourceOperations) -> APIRouter:
    router = APIRouter(tags=["sources"])

    @router.patch(
        f"{SERVICE}/buildpacks", summary="Choose its buildpacks", responses=answers(Service, 403, 404)
    )
    async def buildpacks(asker: Asker, at: At, body: BuildpackChange) -> Response:
        """Each is a bundled one's name, the https URL of a git repository, or a folder of the server. They count
        from the next build on; none means that the source says, or that they are detected."""
        changed = await sources.change_buildpacks(
            asker, at, only=body.only, add=body.add, at=body.at, remove=body.remove
        )
        return respond(changed)

    @router.put(f"{SERVICE}/build-dir", summary="Say what is built", responses=answers(Service, 403, 404))
    async def build_dir(asker: Asker, at: At, body: BuildFolder) -> Response:
        """The folder of the repository that is built, from the next build on."""
        return respond(await sources.set_build_dir(asker, at, body.folder))

    @router.post(
        f"{SERVICE}/buildpacks/detect",
        summary="Ask the buildpacks",
        responses=answers(list[BuildpackVerdict], 403, 404, 409),
    )
    async def detect(
        asker: Asker,
        at: At,
        branch: Annotated[
            str | None, Query(description="null: the one that deploys.", examples=["main"])
        ] = None,
    ) -> Response:
        """What each says of the commit that was pushed last, and why. Nothing is built."""
        found: Sequence[BuildpackVerdict] = await sources.detect(asker, at, branch)
        return respond(found)

    return router
