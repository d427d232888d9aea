from typing import Annotated

from fastapi import APIRouter, Path
from pydantic import Field
from starlette.responses import Response

from controller.api.answers import answers, nothing, respond
from controller.api.auth import Asker
from controller.api.bodies import Body
from controller.api.pages import InWindow, paged
from controller.api.paths import DEPLOYMENT, DEPLOYMENTS, InDeployment
from controller.operations.deployments import DeploymentOperations
from controller.operations.shared import SharedConfigOperations
from controller.operations.vars import VarOperations
from controller.types import Deployment
from controller.views import SharedChange


class NewDeployment(Body):
    name: str = Field(examples=["foo"])


class SharedConfigChange(Body):
    put: dict[str, str] = Field(default_factory=dict, examples=[{"GREETING": "hello"}])
    drop: list[str] = Field(default_factory=list, examples=[["OLD_SETTING"]])


class VarsChange(Body):
    put: dict[str, str] = Field(default_factory=dict, examples=[{"SITE": "staging.example.org"}])
    drop: list[str] = Field(default_factory=list, examples=[["TAG"]])


def routes(
    deployments: DeploymentOperations, shared: SharedConfigOperations, variables: VarOperations
) -> APIRouter:
    router = APIRouter(tags=["deployments"])

    @router.get(DEPLOYMENTS, summary="List deployments", responses=answers(list[Deployment]))
    async def index(asker: Asker, window: InWindow) -> Response:
        """Those that the asker may view, sorted by name."""
        return paged(window, deployments.list(asker), lambda each: (each.name,))

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

    @router.get(
        f"{DEPLOYMENT}/config", summary="Show its variables", responses=answers(dict[str, str], 403, 404)
    )
    async def config(asker: Asker, deployment: InDeployment) -> Response:
        """What all of its services find in their environment, where they have none of the name themselves."""
        return respond(shared.get(asker, deployment))

    @router.patch(
        f"{DEPLOYMENT}/config", summary="Change its variables", responses=answers(SharedChange, 403, 404)
    )
    async def change_config(asker: Asker, deployment: InDeployment, body: SharedConfigChange) -> Response:
        """One version of each service whose environment that changes."""
        return respond(await shared.change(asker, deployment, values=body.put, drop=body.drop))

    @router.get(
        f"{DEPLOYMENT}/generated",
        summary="Show its generated secrets",
        responses=answers(dict[str, str], 403, 404),
    )
    async def generated(asker: Asker, deployment: InDeployment) -> Response:
        """What `{NAME}` stands for, of the names in the section Generate."""
        return respond(shared.generated(asker, deployment))

    @router.post(
        f"{DEPLOYMENT}/generated/{{name}}/renew",
        summary="Renew a secret",
        responses=answers(SharedChange, 403, 404),
    )
    async def renew(
        asker: Asker,
        deployment: InDeployment,
        name: Annotated[str, Path(description="Of the secret.", examples=["Secret"])],
    ) -> Response:
        """One version of each service that has it."""
        return respond(await shared.renew(asker, deployment, name))

    @router.get(
        f"{DEPLOYMENT}/vars",
        summary="Show what variables of its service file stand for",
        responses=answers(dict[str, str], 403, 404),
    )
    async def show_vars(asker: Asker, deployment: InDeployment) -> Response:
        """In service files that are deployed here, in place of what they say in their section Vars."""
        return respond(variables.get(asker, deployment))

    @router.patch(
        f"{DEPLOYMENT}/vars",
        summary="Change what variables of its service file stand for",
        responses=answers(dict[str, str], 403, 404),
    )
    async def change_vars(asker: Asker, deployment: InDeployment, body: VarsChange) -> Response:
        """Answers with all of them. Nothing that runs changes: whoever deploys a file puts them in."""
        return respond(await variables.change(asker, deployment, values=body.put, drop=body.drop))

    return router
