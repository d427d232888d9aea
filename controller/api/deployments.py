from fastapi import APIRouter
from pydantic import Field
from starlette.responses import Response

from controller.api.answers import answers, nothing, respond
from controller.api.auth import Asker
from controller.api.bodies import Body
from controller.api.paths import DEPLOYMENT, DEPLOYMENTS, InDeployment
from controller.operations.deployments import DeploymentOperations
from controller.types import Deployment


class NewDeployment(Body):
    name: str = Field(examples=["foo"])


def routes(deployments: DeploymentOperations) -> APIRouter:
    router = APIRouter(tags=["deployments"])

    @router.get(DEPLOYMENTS, summary="List deployments", responses=answers(list[Deployment]))
    async def index(asker: Asker) -> Response:
        """Those that the asker may view, sorted by name."""
        return respond(deployments.list(asker))

    @router.post(
        DEPLOYMENTS, summary="Make one", status_code=201, responses=answers(Deployment, 403, 409, status=201)
    )
    async def create(asker: Asker, body: NewDeployment) -> Response:
        """For admins. It is empty: a service comes with its first push, or by setting its definition."""
        return respond(await deployments.create(asker, body.name), 201)

    @router.get(DEPLOYMENT, summary="Show one", responses=answers(Deployment, 404))
    async def show(asker: Asker, deployment: InDeployment) -> Response:
        return respond(deployments.get(asker, deployment))

    @router.delete(
        DEPLOYMENT, summary="Destroy one", status_code=204, responses=answers(None, 403, 404, status=204)
    )
    async def destroy(asker: Asker, deployment: InDeployment) -> Response:
        """Forgets its services, versions and builds at once; instances stop and files go after that."""
        await deployments.destroy(asker, deployment)
        return nothing()

    return router
