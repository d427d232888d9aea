from typing import Annotated

from fastapi import APIRouter, Path, Query
from pydantic import Field, StrictInt
from starlette.responses import Response

from controller.api.answers import answers, respond
from controller.api.auth import Asker
from controller.api.bodies import Body
from controller.api.pages import InWindow, paged
from controller.api.paths import SERVICE, At
from controller.api.streams import MEDIA_TYPE, NdjsonStream
from controller.operations.beginning import Beginning
from controller.operations.rollouts import RolloutOperations
from controller.operations.versions import VersionOperations
from controller.types import Artifact, Version
from controller.views import Change, RolloutStep, VersionDiff


class Release(Body):
    artifact: Artifact
    commit: str | None = Field(None, description="Full git commit id.")
    origin: str = Field("", description="Of an archive: the sender's own commit, as COMMIT or COMMIT:FOLDER.")
    build: str | None = Field(None, description="Id of the build that made the artifact.")
    reason: str = Field(description="In words.", examples=["push of 1a2b3c4 to main"])
    variables: dict[str, str] = Field(
        default_factory=dict, description="What the code wants set, where nobody has set it: its app.json."
    )
    formation: dict[str, StrictInt] = Field(
        default_factory=dict, description="Process type to how many there are with the first version."
    )


class Rollback(Body):
    number: StrictInt | None = Field(
        None, description="The version to go back to; null: the one live before."
    )


class End(Body):
    reason: str = Field("", description="Why, for the journal.", examples=["the error rate went up"])


def routes(versions: VersionOperations, rollouts: RolloutOperations, *, keep_alive: float) -> APIRouter:
    router = APIRouter(tags=["versions"])

    @router.get(f"{SERVICE}/versions", summary="List versions", responses=answers(list[Version], 404))
    async def index(asker: Asker, at: At, window: InWindow) -> Response:
        """Newest first."""
        return paged(window, versions.list(asker, at), lambda each: (each.number,), newest_first=True)

    @router.post(f"{SERVICE}/versions", summary="Release new code", responses=answers(Change, 403, 404, 409))
    async def release(asker: Asker, at: At, body: Release) -> Response:
        """Makes no version when code and config are those of the wanted one."""
        change = await versions.release(
            asker,
            at,
            body.artifact,
            commit=body.commit,
            origin=body.origin,
            build=body.build,
            reason=body.reason,
            beginning=Beginning(variables=body.variables, formation=body.formation),
        )
        return respond(change)

    @router.get(f"{SERVICE}/versions/{{number}}", summary="Show one", responses=answers(Version, 404))
    async def show(
        asker: Asker, at: At, number: Annotated[int, Path(description="Number of the version.", ge=1)]
    ) -> Response:
        return respond(versions.get(asker, at, number))

    @router.get(
        f"{SERVICE}/versions/{{number}}/diff",
        summary="Show what one changed",
        responses=answers(VersionDiff, 403, 404),
    )
    async def diff(
        asker: Asker,
        at: At,
        number: Annotated[int, Path(description="Number of the version.", ge=1)],
        to: Annotated[
            int | None,
            Query(description="The version to compare with; without: the one that it replaced.", ge=1),
        ] = None,
        reveal: Annotated[bool, Query(description="Show values; takes the right to read config.")] = False,
    ) -> Response:
        """By area and name, from the other version to this one. Values of variables are hidden, unless asked for."""
        return respond(versions.diff(asker, at, number, other=to, reveal=reveal))

    @router.post(
        f"{SERVICE}/rollback", summary="Go back to a version", responses=answers(Version, 403, 404, 409)
    )
    async def rollback(asker: Asker, at: At, body: Rollback) -> Response:
        """Makes a new version with the code and the config of an older one."""
        return respond(await versions.rollback(asker, at, body.number))

    steered = answers(Version, 403, 404, 409)

    @router.post(f"{SERVICE}/rollout/promote", summary="Promote the canary", responses=steered)
    async def promote(asker: Asker, at: At) -> Response:
        """Lets it take the place of what serves. Answers with the version whose rollout it is."""
        return respond(await rollouts.promote(asker, at))

    @router.post(f"{SERVICE}/rollout/abort", summary="Abort the canary", responses=steered)
    async def abort(asker: Asker, at: At, body: End) -> Response:
        """Its instances leave; what serves beside it goes on. Answers with the version that was aborted."""
        return respond(await rollouts.abort(asker, at, reason=body.reason))

    @router.post(f"{SERVICE}/rollout/cancel", summary="Cancel the rollout", responses=steered)
    async def cancel(asker: Asker, at: At, body: End) -> Response:
        """What serves is what is wanted again. Answers with the version that was cancelled; a restart that
        is cancelled leaves its version as it was."""
        return respond(await rollouts.cancel(asker, at, reason=body.reason))

    @router.post(f"{SERVICE}/rollout/pause", summary="Pause the rollout", responses=steered)
    async def pause(asker: Asker, at: At) -> Response:
        """No further step of it is taken until it is resumed; what runs and is routed stays."""
        return respond(await rollouts.pause(asker, at))

    @router.post(f"{SERVICE}/rollout/resume", summary="Resume the rollout", responses=steered)
    async def resume(asker: Asker, at: At) -> Response:
        """The time that a canary has begins anew."""
        return respond(await rollouts.resume(asker, at))

    @router.get(
        f"{SERVICE}/rollout",
        summary="Follow a rollout",
        status_code=200,
        response_class=NdjsonStream,
        responses=answers(RolloutStep, 404, media=MEDIA_TYPE),
    )
    async def follow(
        asker: Asker,
        at: At,
        version: Annotated[
            int | None, Query(description="Without: until the service has settled.", ge=1)
        ] = None,
    ) -> Response:
        """One JSON object a line; the last has `done`. Blank lines are signs of life."""
        return NdjsonStream(rollouts.follow(asker, at, version), keep_alive=keep_alive)

    return router
