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
from controller.types import BuilderChoice, Service
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


class BuilderWish(Body):
    builder: BuilderChoice | None = Field(None, description="null: as it is.")
    dockerfile: str | None = Field(
        None,
        description="The file, from the top of what is built; empty: `Dockerfile`; null: as it is.",
        examples=["deploy/Dockerfile"],
    )
    target: str | None = Field(
        None, description="The stage that is built; empty: the last one; null: as it is.", examples=["web"]
    )
    args: dict[str, str | None] = Field(
        default_factory=dict,
        description="Build arguments to set, or (null) to take away. They stay to be seen in the image.",
        examples=[{"NODE_VERSION": "20"}],
    )
    secrets: list[str] | None = Field(
        None,
        description="Names of config variables that `RUN --mount=type=secret,id=NAME` may read; null: as they are.",
        examples=[["NPM_TOKEN"]],
    )


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

    @router.patch(f"{SERVICE}/builder", summary="Choose what builds it", responses=answers(Service, 403, 404))
    async def builder(asker: Asker, at: At, body: BuilderWish) -> Response:
        """Buildpacks or its Dockerfile, and how that is built, from the next build on."""
        changed = await sources.set_builder(
            asker,
            at,
            choice=body.builder,
            dockerfile=body.dockerfile,
            target=body.target,
            args=body.args,
            secrets=body.secrets,
        )
        return respond(changed)

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
