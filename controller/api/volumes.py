from typing import Annotated

from fastapi import APIRouter, Path, Query, Request
from starlette.requests import ClientDisconnect
from starlette.responses import Response, StreamingResponse

from controller.api.answers import answers, nothing, respond
from controller.api.auth import Asker
from controller.api.backupschedules import BackupSchedule
from controller.api.methods import BYTES, UPLOAD
from controller.api.pages import InWindow, paged
from controller.api.paths import DEPLOYMENT, SERVICE, At, InDeployment
from controller.api.streams import MEDIA_TYPE, NdjsonStream, streamed
from controller.deliveries import DeliveryStep
from controller.operations.volumebackups import VolumeBackups
from controller.operations.volumes import VolumeOperations
from controller.views import BackupInfo, VolumeInfo, VolumeSchedule

ONE = f"{SERVICE}/volumes/{{name}}"
Name = Annotated[str, Path(description="Name of the volume.", examples=["data"], max_length=100)]


def routes(volumes: VolumeOperations, backups: VolumeBackups, *, keep_alive: float) -> APIRouter:
    router = APIRouter(tags=["disk"])

    @router.get(f"{DEPLOYMENT}/volumes", summary="List its volumes", responses=answers(list[VolumeInfo], 404))
    async def index(asker: Asker, window: InWindow, deployment: InDeployment) -> Response:
        """Measured now, which may take a while."""
        return paged(window, await volumes.list(asker, deployment), lambda each: (each.service, each.name))

    @router.delete(
        ONE,
        summary="Destroy one that nothing has any more",
        responses=answers(dict[str, int], 403, 404, 409),
    )
    async def destroy(asker: Asker, at: At, name: Name) -> Response:
        """With all that is in it. Answers with the `bytes` that it had."""
        return respond({"bytes": await volumes.destroy(asker, at, name)})

    @router.get(f"{ONE}/backups", summary="List its backups", responses=answers(list[BackupInfo], 404, 409))
    async def kept(asker: Asker, window: InWindow, at: At, name: Name) -> Response:
        """Sorted by id, which begins with the time."""
        found = await backups.list(asker, at, name)
        return paged(window, list(reversed(found)), lambda each: (each.id,))

    @router.post(
        f"{ONE}/backups",
        summary="Back it up",
        response_class=NdjsonStream,
        status_code=200,
        responses=answers(DeliveryStep, 403, 404, 409, media=MEDIA_TYPE),
    )
    async def backup(asker: Asker, at: At, name: Name) -> Response:
        """A stream of steps. Closing it ends the backup, of which nothing stays then."""
        return NdjsonStream(backups.backup(asker, at, name), keep_alive=keep_alive)

    @router.get(
        f"{ONE}/backup-schedule",
        summary="Show when it is backed up by itself",
        responses=answers(VolumeSchedule, 404, 409),
    )
    async def scheduled(asker: Asker, at: At, name: Name) -> Response:
        """And how the last turn went. One that the service's definition has no more rests."""
        return respond(backups.scheduled(asker, at, name))

    @router.put(
        f"{ONE}/backup-schedule",
        summary="Back it up at certain times",
        responses=answers(VolumeSchedule, 403, 404, 409),
    )
    async def schedule(asker: Asker, at: At, name: Name, body: BackupSchedule) -> Response:
        """By the server itself. Times that were missed are made up for once."""
        return respond(await backups.schedule(asker, at, name, body.schedule, keep=body.keep, days=body.days))

    @router.delete(
        f"{ONE}/backup-schedule",
        summary="Stop backing it up by itself",
        responses=answers(VolumeSchedule, 403, 404, 409),
    )
    async def unschedule(asker: Asker, at: At, name: Name) -> Response:
        """The backups that there are stay."""
        return respond(await backups.schedule(asker, at, name, None))

    @router.post(
        f"{ONE}/restore",
        summary="Restore a backup",
        response_class=NdjsonStream,
        status_code=200,
        responses=answers(DeliveryStep, 403, 404, 409, media=MEDIA_TYPE),
    )
    async def restore(
        asker: Asker,
        at: At,
        name: Name,
        backup: Annotated[str | None, Query(description="Its id; null: the newest.", max_length=60)] = None,
    ) -> Response:
        """A stream of steps. All that is in it is replaced; where it fails, nothing is. The service must be stopped."""
        return NdjsonStream(backups.restore(asker, at, name, backup), keep_alive=keep_alive)

    @router.get(
        f"{ONE}/data",
        summary="Export what is in it",
        response_class=StreamingResponse,
        responses=answers(bytes, 403, 404, 409, media=BYTES),
    )
    async def export(asker: Asker, at: At, name: Name) -> Response:
        """A tar in zstd. Where not all of it comes, the answer breaks off."""
        return await streamed(backups.export(asker, at, name))

    @router.put(
        f"{ONE}/data",
        summary="Import what is to be in it",
        status_code=204,
        responses=answers(None, 403, 404, 409, status=204),
        openapi_extra={**UPLOAD},
    )
    async def import_(asker: Asker, at: At, name: Name, request: Request) -> Response:
        """A tar, plain or in gzip or zstd. All that is in it is replaced; where it fails, nothing is. The service must
        be stopped."""
        try:
            await backups.import_(asker, at, name, request.stream())
        except ClientDisconnect:
            return Response(status_code=400)  # which nobody reads
        return nothing()

    return router
