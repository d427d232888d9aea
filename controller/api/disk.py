from fastapi import APIRouter
from starlette.responses import Response

from controller.api.answers import answers, respond
from controller.api.auth import Asker
from controller.api.paths import SERVICE, At
from controller.operations.disk import DiskOperations
from controller.views import Collected, DiskReport, ServiceUsage


def routes(disk: DiskOperations) -> APIRouter:
    router = APIRouter(tags=["disk"])

    @router.get("/v1/disk", summary="Show what uses the disk", responses=answers(DiskReport, 403))
    async def report(asker: Asker) -> Response:
        """For admins. Measured now, which may take a while."""
        return respond(await disk.report(asker))

    @router.post("/v1/disk/collect", summary="Remove what nothing needs", responses=answers(Collected, 403))
    async def collect(asker: Asker) -> Response:
        """For admins. The server does so by itself, too."""
        return respond(await disk.collect(asker))

    @router.get(f"{SERVICE}/disk", summary="Show what a service uses", responses=answers(ServiceUsage, 404))
    async def usage(asker: Asker, at: At) -> Response:
        return respond(await disk.usage(asker, at))

    @router.delete(
        f"{SERVICE}/cache",
        summary="Remove its build cache",
        responses=answers(dict[str, int], 403, 404, 409),
    )
    async def purge(asker: Asker, at: At) -> Response:
        """Answers with the `bytes` that it had. The next build begins without one."""
        return respond({"bytes": await disk.purge_cache(asker, at)})

    return router
