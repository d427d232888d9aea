from typing import Annotated

from fastapi import APIRouter, Path, Query, Request
from pydantic import Field
from starlette.requests import ClientDisconnect
from starlette.responses import Response, StreamingResponse

from controller.api.answers import answers, nothing, respond
from controller.api.auth import Asker
from controller.api.backupschedules import BackupSchedule
from controller.api.bodies import Body
from controller.api.methods import BYTES, UPLOAD
from controller.api.pages import InWindow, paged
from controller.api.paths import DEPLOYMENT, InDeployment
from controller.api.streams import MEDIA_TYPE, NdjsonStream, streamed
from controller.deliveries import DeliveryStep
from controller.names import Address, check_name
from controller.operations.resources import ResourceOperations
from controller.views import BackupInfo, Change, ResourceInfo

RESOURCES = f"{DEPLOYMENT}/resources"
ONE = f"{RESOURCES}/{{name}}"
Name = Annotated[str, Path(description="Name of the resource.", examples=["db"], max_length=100)]
ServiceName = Annotated[str, Path(description="A service of the same deployment.", examples=["app"])]


class NewResource(Body):
    kind: str = Field(description="`postgres` or `redis`.", examples=["postgres"], max_length=40)
    name: str = Field(examples=["reports"], max_length=100)
    url: str | None = Field(
        None,
        description="Of a server that is kept elsewhere; null: one of its own is run.",
        examples=["postgres://user:password@db.example.org/name"],
    )


class Attachment(Body):
    prefix: str = Field(
        "",
        description="Of the variables, as `CACHE` for CACHE_URL; empty: as the kind is known (DATABASE_URL).",
        max_length=40,
    )


def routes(resources: ResourceOperations, *, keep_alive: float) -> APIRouter:
    router = APIRouter(tags=["resources"])

    @router.get(RESOURCES, summary="List its resources", responses=answers(list[ResourceInfo], 404))
    async def index(asker: Asker, window: InWindow, deployment: InDeployment) -> Response:
        """Sorted by name."""
        return paged(window, resources.list(asker, deployment), lambda each: (each.name,))

    @router.post(
        RESOURCES,
        summary="Make one",
        status_code=201,
        responses=answers(ResourceInfo, 403, 404, 409, status=201),
    )
    async def create(asker: Asker, deployment: InDeployment, body: NewResource) -> Response:
        """Its server is a service of the deployment under the same name; it is `ready` once that serves."""
        made = await resources.create(asker, deployment, body.kind, body.name, url=body.url)
        return respond(made, 201)

    @router.get(ONE, summary="Show one", responses=answers(ResourceInfo, 404))
    async def show(asker: Asker, deployment: InDeployment, name: Name) -> Response:
        """Its values are hidden from those who may only view."""
        return respond(resources.get(asker, deployment, name))

    @router.delete(
        ONE, summary="Destroy one", status_code=204, responses=answers(None, 403, 404, 409, status=204)
    )
    async def destroy(asker: Asker, deployment: InDeployment, name: Name) -> Response:
        """Its server goes with all data. Its backups stay on the disk of the server."""
        await resources.destroy(asker, deployment, name)
        return nothing()

    @router.put(
        f"{ONE}/attachments/{{service}}",
        summary="Attach it to a service",
        responses=answers(Change, 403, 404, 409),
    )
    async def attach(
        asker: Asker, deployment: InDeployment, name: Name, service: ServiceName, body: Attachment
    ) -> Response:
        """What it gives goes into the service's config, by a new version."""
        address = Address(deployment, check_name(service, "service name"))
        return respond(await resources.attach(asker, address, name, prefix=body.prefix))

    @router.delete(
        f"{ONE}/attachments/{{service}}",
        summary="Detach it from a service",
        responses=answers(Change, 403, 404),
    )
    async def detach(asker: Asker, deployment: InDeployment, name: Name, service: ServiceName) -> Response:
        """The variables go, by a new version."""
        address = Address(deployment, check_name(service, "service name"))
        return respond(await resources.detach(asker, address, name))

    @router.get(f"{ONE}/backups", summary="List its backups", responses=answers(list[BackupInfo], 404))
    async def backups(asker: Asker, window: InWindow, deployment: InDeployment, name: Name) -> Response:
        """Sorted by id, which begins with the time."""
        found = await resources.backups(asker, deployment, name)
        return paged(window, list(reversed(found)), lambda each: (each.id,))

    @router.post(
        f"{ONE}/backups",
        summary="Back it up",
        response_class=NdjsonStream,
        status_code=200,
        responses=answers(DeliveryStep, 403, 404, 409, media=MEDIA_TYPE),
    )
    async def backup(asker: Asker, deployment: InDeployment, name: Name) -> Response:
        """A stream of steps. Closing it ends the backup, of which nothing stays then."""
        return NdjsonStream(resources.backup(asker, deployment, name), keep_alive=keep_alive)

    @router.put(
        f"{ONE}/backup-schedule",
        summary="Back it up at certain times",
        responses=answers(ResourceInfo, 403, 404, 409),
    )
    async def schedule(asker: Asker, deployment: InDeployment, name: Name, body: BackupSchedule) -> Response:
        """By the server itself. Times that were missed are made up for once."""
        return respond(
            await resources.schedule_backups(
                asker, deployment, name, body.schedule, keep=body.keep, days=body.days
            )
        )

    @router.delete(
        f"{ONE}/backup-schedule",
        summary="Stop backing it up by itself",
        responses=answers(ResourceInfo, 403, 404),
    )
    async def unschedule(asker: Asker, deployment: InDeployment, name: Name) -> Response:
        """The backups that there are stay."""
        return respond(await resources.schedule_backups(asker, deployment, name, None))

    @router.post(
        f"{ONE}/restore",
        summary="Restore a backup",
        response_class=NdjsonStream,
        status_code=200,
        responses=answers(DeliveryStep, 403, 404, 409, media=MEDIA_TYPE),
    )
    async def restore(
        asker: Asker,
        deployment: InDeployment,
        name: Name,
        backup: Annotated[str | None, Query(description="Its id; null: the newest.", max_length=60)] = None,
    ) -> Response:
        """A stream of steps. All that the resource has is replaced; where it fails, nothing is."""
        return NdjsonStream(resources.restore(asker, deployment, name, backup), keep_alive=keep_alive)

    @router.get(
        f"{ONE}/data",
        summary="Export its data",
        response_class=StreamingResponse,
        responses=answers(bytes, 403, 404, 409, media=BYTES),
    )
    async def export(asker: Asker, deployment: InDeployment, name: Name) -> Response:
        """As its kind's own tools write them (`pg_restore`, RDB). Where not all of it comes, the answer breaks off."""
        return await streamed(resources.export(asker, deployment, name))

    @router.put(
        f"{ONE}/data",
        summary="Import data",
        responses=answers(ResourceInfo, 403, 404, 409),
        openapi_extra={**UPLOAD},
    )
    async def import_(asker: Asker, deployment: InDeployment, name: Name, request: Request) -> Response:
        """What an export gave. All that the resource has is replaced; where it fails, nothing is."""
        try:
            return respond(await resources.import_(asker, deployment, name, request.stream()))
        except ClientDisconnect:
            return Response(status_code=400)  # which nobody reads

    return router
