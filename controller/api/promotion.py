from fastapi import APIRouter
from pydantic import Field
from starlette.responses import Response

from controller.api.answers import answers, respond
from controller.api.auth import Asker
from controller.api.bodies import Body
from controller.api.paths import DEPLOYMENT, InDeployment
from controller.operations.promotion import PromotionOperations, Request
from controller.views import FileOutcome


class PromotionBody(Body):
    source: str = Field(description="The deployment whose code is taken over.", examples=["staging"])
    services: list[str] = Field(
        default_factory=list,
        description="Of both deployments; empty: all that are in both.",
        examples=[["app"]],
    )


def routes(promotion: PromotionOperations) -> APIRouter:
    router = APIRouter(tags=["deployments"])
    told = answers(FileOutcome, 403, 404, 409)

    @router.post(f"{DEPLOYMENT}/promotion/plan", summary="Plan a promotion", responses=told)
    async def plan(asker: Asker, deployment: InDeployment, body: PromotionBody) -> Response:
        """What taking the code over from there would change here now; nothing is."""
        return respond(await promotion.plan(asker, _request(deployment, body)))

    @router.post(f"{DEPLOYMENT}/promotion", summary="Promote another deployment's code", responses=told)
    async def apply(asker: Asker, deployment: InDeployment, body: PromotionBody) -> Response:
        """What serves there becomes a version here, with the config of here and without a build. All in one step."""
        return respond(await promotion.apply(asker, _request(deployment, body)))

    return router


def _request(deployment: str, body: PromotionBody) -> Request:
    return Request(source=body.source, target=deployment, services=tuple(body.services))
