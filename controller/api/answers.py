"""What routes answer, and how that is documented: the same library writes both, so they agree."""

from collections.abc import Mapping
from http import HTTPStatus
from types import GenericAlias
from typing import Any, get_args

import msgspec
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from starlette.responses import Response

from controller import wire
from controller.api.auth import OPEN, SECURITY_SCHEME
from controller.api.idempotency import METHODS, PARAMETER
from controller.api.methods import BYTES
from controller.deliveries import DeliveryStep
from controller.problem import MEDIA_TYPE, Problem
from controller.types import (
    Build,
    Deployment,
    Event,
    Instance,
    LogLine,
    Run,
    Service,
    SshKey,
    Token,
    User,
    Version,
)
from controller.views import (
    BackupInfo,
    BuildpackVerdict,
    Change,
    Collected,
    CronInfo,
    Deploy,
    DiskReport,
    ExecInfo,
    FileOutcome,
    PluginCommand,
    PluginInfo,
    PluginPanel,
    PluginReport,
    ProcessLimits,
    ResourceInfo,
    RolloutStep,
    ServiceInfo,
    ServiceUsage,
    SharedChange,
    Status,
    Variable,
    VersionDiff,
    VolumeInfo,
    VolumeSchedule,
)

MODELS = (
    DeliveryStep,
    BackupInfo,
    Build,
    Change,
    Collected,
    Deploy,
    DiskReport,
    Deployment,
    Event,
    CronInfo,
    ExecInfo,
    FileOutcome,
    Instance,
    LogLine,
    PluginCommand,
    PluginInfo,
    PluginPanel,
    PluginReport,
    Problem,
    BuildpackVerdict,
    ProcessLimits,
    ResourceInfo,
    RolloutStep,
    Run,
    Service,
    ServiceInfo,
    ServiceUsage,
    SharedChange,
    SshKey,
    Status,
    Token,
    User,
    Variable,
    Version,
    VersionDiff,
    VolumeInfo,
    VolumeSchedule,
)
"""Everything that an answer can be made of."""

JSON = "application/json"
EVERYWHERE = (400, 401, 408, 413, 422, 429, 500, 503)
"""Statuses that any route may answer with."""

LINK = {
    "Link": {
        "description": '`<…>; rel="next"` where there is more: the path of the next page.',
        "schema": {"type": "string"},
    }
}
"""Headers of a list in pages."""

_REF = "#/components/schemas/{name}"


def respond(value: object, status: int = 200) -> Response:
    return Response(
        wire.encode(value), status_code=status, media_type=JSON, headers={"Cache-Control": "no-store"}
    )


def nothing() -> Response:
    return Response(status_code=204)


def answers(
    kind: type | GenericAlias | None, *problems: int, status: int = 200, media: str = JSON
) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route: what it answers, and with which problems beside those of every route.

    `kind` None: an answer without a body.
    """
    success: dict[str, Any] = {"description": HTTPStatus(status).phrase}
    if kind is not None:
        success["content"] = {media: {"schema": _schema(kind)}}
    return {status: success, **documented_problems(*problems)}


def documented_problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    content = {MEDIA_TYPE: {"schema": _schema(Problem)}}
    return {each: {"description": HTTPStatus(each).phrase, "content": content} for each in statuses}


def openapi_of(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI document, with the schemas that `answers` refers to."""
    document = get_openapi(
        title=app.title,
        version=app.version,
        description=app.description,
        routes=app.routes,
        tags=app.openapi_tags,
    )
    _, schemas = msgspec.json.schema_components(MODELS, ref_template=_REF)
    components = document.setdefault("components", {})
    components.setdefault("schemas", {}).update(schemas)
    components["securitySchemes"] = {"token": SECURITY_SCHEME}
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            if path not in OPEN:
                operation["security"] = [{"token": []}]
            if method.upper() in METHODS and BYTES not in operation.get("requestBody", {}).get("content", {}):
                operation.setdefault("parameters", []).append(PARAMETER)
                operation["responses"].setdefault("409", documented_problems(409)[409])
            if any(each["name"] == "cursor" for each in operation.get("parameters", ())):
                operation["responses"]["200"]["headers"] = LINK
    return document


def _schema(kind: type | GenericAlias) -> Mapping[str, Any]:
    if isinstance(kind, GenericAlias) and kind.__origin__ is list:
        return {"type": "array", "items": _schema(get_args(kind)[0])}
    if kind in MODELS:
        return {"$ref": _REF.format(name=kind.__name__)}
    (schema,), _ = msgspec.json.schema_components([kind], ref_template=_REF)
    return schema
