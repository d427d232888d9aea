"""The routes by which an archive arrives in pieces, and is deployed once all of it is there."""

from typing import TYPE_CHECKING, Annotated

from fastapi import APIRouter, Path, Query, Request
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from controller.api.answers import answers, nothing, respond
from controller.api.auth import Asker
from controller.api.methods import UPLOAD
from controller.api.paths import SERVICE, At
from controller.api.problems import answer
from controller.api.streams import MEDIA_TYPE, NdjsonStream, stream_place
from controller.deliveries import DeliveryStep, UploadState
from controller.errors import InvalidInput
from controller.operations.artifacts import check_origin
from controller.problem import problem
from controller.types import Right
from gitreceive.archive import Archive
from gitreceive.arriving import arriving, drained
from gitreceive.download import TooLarge

if TYPE_CHECKING:
    from gitreceive.doors import Doors

UPLOADS = f"{SERVICE}/uploads"
ONE = f"{UPLOADS}/{{upload}}"
Id = Annotated[str, Path(description="Of the upload.", max_length=100)]
Name = Annotated[str, Query(description="What it is called, for the record.", max_length=200)]
Origin = Annotated[
    str,
    Query(description="The commit of yours that it was made of, as COMMIT or COMMIT:FOLDER.", max_length=600),
]


def add_upload_routes(router: APIRouter, doors: "Doors", *, keep_alive: float) -> None:
    """To those of the other doors."""
    uploads = doors.uploads
    known = answers(UploadState, 403, 404)

    @router.post(
        UPLOADS,
        summary="Begin an upload",
        status_code=201,
        responses=answers(UploadState, 403, 404, status=201),
    )
    async def begin(asker: Asker, at: At) -> Response:
        """Of an archive, for lines that break: it comes piece by piece, and what has arrived stays for some minutes."""
        asker.require(at.deployment, Right.DEPLOY)
        upload = await uploads.begin(asker.name, at)
        return respond(upload.state, 201)

    @router.get(ONE, summary="Show how much has arrived", responses=known)
    async def show(asker: Asker, at: At, upload: Id) -> Response:
        """The next piece goes on from `offset`."""
        asker.require(at.deployment, Right.DEPLOY)
        return respond(uploads.get(asker.name, at, upload).state)

    @router.patch(
        ONE,
        summary="Send a piece",
        responses=answers(UploadState, 403, 404, 409),
        openapi_extra={**UPLOAD},
    )
    async def append(
        asker: Asker,
        at: At,
        request: Request,
        upload: Id,
        offset: Annotated[int, Query(description="Bytes that are there already.", ge=0)],
    ) -> Response:
        """The body goes on from `offset`. Where the line breaks, what has come of it stays: ask how much that is."""
        asker.require(at.deployment, Right.DEPLOY)
        found = uploads.get(asker.name, at, upload)
        try:
            return respond(await uploads.append(found, offset, arriving(request)))
        except TooLarge as error:
            await uploads.drop(found)
            await drained(request)
            too_large = problem(413, InvalidInput.code, str(error), field="body")
            return answer(too_large, {"Connection": "close"})
        except TimeoutError:
            too_slow = problem(408, InvalidInput.code, "Nothing came any more of this piece.", field="body")
            return answer(too_slow, {"Connection": "close"})
        except ClientDisconnect:
            return Response(status_code=400)  # which nobody reads

    @router.delete(
        ONE, summary="Give an upload up", status_code=204, responses=answers(None, 403, 404, status=204)
    )
    async def drop(asker: Asker, at: At, upload: Id) -> Response:
        asker.require(at.deployment, Right.DEPLOY)
        await uploads.drop(uploads.get(asker.name, at, upload))
        return nothing()

    @router.post(
        f"{ONE}/deploy",
        summary="Deploy what was uploaded",
        responses=answers(DeliveryStep, 403, 404, 409, media=MEDIA_TYPE),
    )
    async def deploy(
        asker: Asker, at: At, request: Request, upload: Id, name: Name = "", origin: Origin = ""
    ) -> Response:
        """As an archive that was sent at once. The upload is gone with it."""
        asker.require(at.deployment, Right.DEPLOY)
        check_origin(origin)
        with stream_place(request):
            pass
        file = uploads.take(uploads.get(asker.name, at, upload))
        what = f"the archive {name}" if name else "an archive"
        steps = doors.archive(asker.name, at, Archive(file=file, origin=what, commit=origin))
        return NdjsonStream(steps, keep_alive=keep_alive)
