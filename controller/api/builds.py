from typing import Annotated

from fastapi import APIRouter, Path
from pydantic import Field
from starlette.responses import PlainTextResponse, Response

from controller.api.answers import answers, nothing, respond
from controller.api.auth import Asker
from controller.api.bodies import Body
from controller.api.pages import InWindow, paged
from controller.api.paths import SERVICE, At
from controller.operations.builds import BuildOperations
from controller.types import Artifact, Build, BuildStatus

BUILD = "/v1/builds/{build}"
BuildId = Annotated[str, Path(description="Id of the build.")]


class NewBuild(Body):
    commit: str | None = Field(None, description="Full git commit id.")
    reason: str = Field("", description="In words.", examples=["push of 1a2b3c4 to main"])
    waits_for: str = Field("", description="In words, why it is queued; empty: it runs.")


class SignOfLife(Body):
    status: BuildStatus | None = Field(None, description="`queued` or `running`, where that changes.")
    doing: str | None = Field(None, description="What it waits for, or its phase, where that changes.")


class LogLines(Body):
    lines: list[str] = Field(examples=[["-----> Python app detected"]])


class BuildEnd(Body):
    status: BuildStatus
    error: str = Field("", description="Why it failed, in a sentence.")
    artifact: Artifact | None = Field(None, description="What it made; needed when it succeeded.")


def routes(builds: BuildOperations) -> APIRouter:
    router = APIRouter(tags=["builds"])

    @router.get(f"{SERVICE}/builds", summary="List builds", responses=answers(list[Build], 404))
    async def index(asker: Asker, at: At, window: InWindow) -> Response:
        """Newest first."""
        # Their ids sort by time.
        return paged(window, builds.list(asker, at), lambda each: (each.id,), newest_first=True)

    @router.post(
        f"{SERVICE}/builds",
        summary="Begin one",
        status_code=201,
        responses=answers(Build, 403, 404, 409, status=201),
    )
    async def open_build(asker: Asker, at: At, body: NewBuild) -> Response:
        """Opens the record; whoever opens it does the building, gives signs of life, and closes it."""
        opened = await builds.open(
            asker, at, commit=body.commit, reason=body.reason, waits_for=body.waits_for
        )
        return respond(opened, 201)

    @router.get(BUILD, summary="Show one", responses=answers(Build, 404))
    async def show(asker: Asker, build: BuildId) -> Response:
        return respond(builds.get(asker, build))

    @router.post(f"{BUILD}/touch", summary="Give a sign of life", responses=answers(Build, 403, 404, 409))
    async def touch(asker: Asker, build: BuildId, body: SignOfLife) -> Response:
        """To be called every few seconds by whoever does the building; a build of which nothing is heard for
        minutes is abandoned. End it when the answer has ended, or names somebody in `cancel_requested_by`."""
        return respond(await builds.touch(asker, build, status=body.status, doing=body.doing))

    @router.get(
        f"{BUILD}/log",
        summary="Read its log",
        response_class=PlainTextResponse,
        responses=answers(str, 404, media="text/plain"),
    )
    async def log(asker: Asker, build: BuildId) -> Response:
        return PlainTextResponse(await builds.log(asker, build), headers={"Cache-Control": "no-store"})

    @router.post(
        f"{BUILD}/log",
        summary="Append to its log",
        status_code=204,
        responses=answers(None, 403, 404, 409, status=204),
    )
    async def append(asker: Asker, build: BuildId, body: LogLines) -> Response:
        await builds.append_log(asker, build, body.lines)
        return nothing()

    @router.post(f"{BUILD}/close", summary="Say how it ended", responses=answers(Build, 403, 404, 409))
    async def close(asker: Asker, build: BuildId, body: BuildEnd) -> Response:
        closed = await builds.close(asker, build, body.status, error=body.error, artifact=body.artifact)
        return respond(closed)

    @router.post(f"{BUILD}/cancel", summary="Ask for its end", responses=answers(Build, 403, 404, 409))
    async def cancel(asker: Asker, build: BuildId) -> Response:
        """Its owner notices within a second."""
        return respond(await builds.cancel(asker, build))

    return router
