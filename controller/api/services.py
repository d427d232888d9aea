from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import Field, StrictBool
from starlette.responses import Response

from controller.api.answers import answers, nothing, respond
from controller.api.auth import Asker
from controller.api.bodies import Body
from controller.api.pages import InWindow, Page
from controller.api.paths import SERVICE, SERVICES, At, InDeployment
from controller.names import Address, check_name
from controller.operations.services import ServiceOperations
from controller.types import Service
from controller.views import Change, ProcessLimits, ServiceInfo, Variable


class ServiceToEnsure(Body):
    name: str = Field(examples=["app"])


class DefinitionChange(Body):
    definition: dict[str, Any] = Field(
        description="Keys to change: image, command, env, health, checks, rollout, limits, and any for plugins. "
        "null takes one away.",
        examples=[
            {"image": "redis:7"},
            {"health": {"path": "/health", "timeout": 30}},
            {"checks": {"worker": {"command": "test -e tmp/ready"}}},
            {"rollout": {"strategy": "canary", "share": 25, "timeout": 1800}},
        ],
    )
    force: StrictBool = Field(False, description="Make a version even where nothing changes.")


class ConfigChange(Body):
    put: dict[str, str] = Field(default_factory=dict, examples=[{"GREETING": "hello"}])
    drop: list[str] = Field(default_factory=list, examples=[["OLD_SETTING"]])
    replace: StrictBool = Field(False, description="Drop all variables that are not in `put`.")
    stage: StrictBool = Field(False, description="Make no version: the next one has the changes.")


class LimitsChange(Body):
    process: str = Field("", description="Of this process type; empty: of all.", examples=["web"])
    put: dict[str, float | str] = Field(
        default_factory=dict,
        description="cpu (cores), memory (bytes, or as 512M), pids, nofile; 0 is no limit.",
        examples=[{"memory": "512M", "cpu": 0.5}],
    )
    drop: list[str] = Field(default_factory=list, examples=[["cpu"]])


class Branches(Body):
    branches: list[str] = Field(examples=[["main"]])


def _whole(values: Mapping[str, float | str]) -> Mapping[str, float | int | str]:
    """JSON has one kind of number: 100 and 100.0 are the same."""
    return {
        name: int(each) if isinstance(each, float) and each.is_integer() else each
        for name, each in values.items()
    }


def routes(services: ServiceOperations) -> APIRouter:
    router = APIRouter(tags=["services"])

    @router.get("/v1/services", summary="List services", responses=answers(list[ServiceInfo], 404))
    async def index(
        asker: Asker,
        window: InWindow,
        deployment: Annotated[
            str | None, Query(description="Only of this deployment.", examples=["foo"])
        ] = None,
    ) -> Response:
        """All that the asker may view, of one deployment or of all."""
        page = Page[Service](window, lambda each: (each.deployment, each.name))
        return page.respond(services.list(asker, deployment, select=page.take))

    @router.post(SERVICES, summary="Make sure there is one", responses=answers(ServiceInfo, 403, 404, 409))
    async def ensure(asker: Asker, deployment: InDeployment, body: ServiceToEnsure) -> Response:
        """The service of that name; made, without code, when there is none."""
        address = Address(deployment, check_name(body.name, "service name"))
        return respond(await services.ensure(asker, address))

    @router.get(SERVICE, summary="Show one", responses=answers(ServiceInfo, 404))
    async def show(asker: Asker, at: At) -> Response:
        """Values of variables are hidden from those who may only view."""
        return respond(services.get(asker, at))

    @router.patch(SERVICE, summary="Change its definition", responses=answers(Change, 403, 404, 409))
    async def define(asker: Asker, at: At, body: DefinitionChange) -> Response:
        """Makes the service when there is none, and a version when anything changed."""
        return respond(await services.define(asker, at, body.definition, force=body.force))

    @router.delete(
        SERVICE, summary="Destroy one", status_code=204, responses=answers(None, 403, 404, status=204)
    )
    async def destroy(asker: Asker, at: At) -> Response:
        """Forgets its versions and builds at once; instances stop and files go after that."""
        await services.destroy(asker, at)
        return nothing()

    @router.get(
        f"{SERVICE}/config", summary="Show its variables", responses=answers(dict[str, str], 403, 404)
    )
    async def config(asker: Asker, at: At) -> Response:
        """Those set for the service itself."""
        return respond(services.config(asker, at))

    @router.get(
        f"{SERVICE}/environment",
        summary="Show the environment of its next version",
        responses=answers(list[Variable], 404),
    )
    async def environment(asker: Asker, at: At) -> Response:
        """Each variable with where it was set. Values are hidden from those who may only view."""
        return respond(services.environment(asker, at))

    @router.patch(f"{SERVICE}/config", summary="Change its variables", responses=answers(Change, 403, 404))
    async def change_config(asker: Asker, at: At, body: ConfigChange) -> Response:
        """All in one version; none when nothing changes."""
        change = await services.change_config(
            asker, at, values=body.put, drop=body.drop, replace_all=body.replace, stage=body.stage
        )
        return respond(change)

    @router.post(
        f"{SERVICE}/config/apply", summary="Release staged variables", responses=answers(Change, 403, 404)
    )
    async def apply_config(asker: Asker, at: At) -> Response:
        """One version of all that is staged; none when nothing is."""
        return respond(await services.apply_config(asker, at))

    @router.get(f"{SERVICE}/limits", summary="Show its limits", responses=answers(list[ProcessLimits], 404))
    async def limits(asker: Asker, at: At) -> Response:
        """What one instance of each process type may take, and where that was set. null is no limit."""
        return respond(services.limits(asker, at))

    @router.patch(f"{SERVICE}/limits", summary="Change its limits", responses=answers(Change, 403, 404))
    async def change_limits(asker: Asker, at: At, body: LimitsChange) -> Response:
        """Makes a version; none when nothing changes."""
        change = await services.change_limits(
            asker, at, body.process, values=_whole(body.put), drop=body.drop
        )
        return respond(change)

    @router.put(
        f"{SERVICE}/branches", summary="Say which branches deploy", responses=answers(Service, 403, 404)
    )
    async def branches(asker: Asker, at: At, body: Branches) -> Response:
        return respond((await services.set_branches(asker, at, body.branches)).service)

    return router
