from typing import Any

from fastapi import APIRouter
from pydantic import Field, StrictBool, StrictInt
from starlette.responses import Response

from controller.api.answers import answers, respond
from controller.api.auth import Asker
from controller.api.bodies import Body
from controller.api.paths import DEPLOYMENT, InDeployment
from controller.operations.servicefiles import Request, ServiceFileOperations
from controller.servicefile.document import Infra, ServiceFile
from controller.servicefile.schema import schema
from controller.views import FileOutcome


class InfraBody(Body):
    scale: dict[str, dict[str, StrictInt]] = Field(
        default_factory=dict,
        description="Service to process type to number of instances.",
        examples=[{"web": {"web": 3, "worker": 1}}],
    )
    domains: dict[str, str] = Field(
        default_factory=dict,
        description="Domain to a service of the deployment; those of the last one that are not in it go.",
        examples=[{"example.org": "web"}],
    )


class ServiceFileBody(Body):
    services: dict[str, dict[str, Any]] = Field(
        description="Name to the keys of its definition. What an earlier file said and this one does not goes.",
        examples=[{"redis": {"image": "redis:7"}, "web": {"image": "company/web", "env": {"COLOR": "blue"}}}],
    )
    globals: dict[str, Any] = Field(
        default_factory=dict,
        description="Sections of the whole deployment: Env (flat), Domains, and any for plugins.",
        examples=[{"Env": {"BRANDING": "Company Ltd."}, "Domains": {"example.org": {"http": "shop:web"}}}],
    )
    infra: InfraBody | None = Field(
        None, description="Scale and domains; null: nothing is scaled, and the domains of the last one stay."
    )
    name: str = Field(
        "Servicefile", max_length=200, description="What it is called in the reasons of versions."
    )
    prune: StrictBool = Field(False, description="Services that are not in it go.")
    force: StrictBool = Field(
        False, description="Each service of it gets a version, also where nothing changes."
    )


def routes(servicefiles: ServiceFileOperations) -> APIRouter:
    router = APIRouter(tags=["service files"])

    @router.get(
        "/v1/servicefile/schema",
        summary="The JSON Schema of a service file",
        responses=answers(dict[str, Any]),
    )
    async def show_schema(asker: Asker) -> Response:
        """Of the file that people write: YAML, with its short forms."""
        return respond(schema())

    @router.post(
        f"{DEPLOYMENT}/servicefile/plan",
        summary="Plan a service file",
        responses=answers(FileOutcome, 403, 404),
    )
    async def plan(asker: Asker, deployment: InDeployment, body: ServiceFileBody) -> Response:
        """What deploying it would change now; nothing is. Values of variables are hidden."""
        return respond(await servicefiles.plan(asker, _request(deployment, body)))

    @router.post(
        f"{DEPLOYMENT}/servicefile",
        summary="Deploy a service file",
        responses=answers(FileOutcome, 403, 404, 409),
    )
    async def apply(asker: Asker, deployment: InDeployment, body: ServiceFileBody) -> Response:
        """All that it changes in one step, or nothing. The same again changes nothing."""
        return respond(await servicefiles.apply(asker, _request(deployment, body)))

    return router


def _request(deployment: str, body: ServiceFileBody) -> Request:
    return Request(
        deployment=deployment,
        file=ServiceFile(
            services=body.services,
            globals=body.globals,
            infra=None if body.infra is None else Infra(scale=body.infra.scale, domains=body.infra.domains),
        ),
        name=body.name,
        prune=body.prune,
        force=body.force,
    )
