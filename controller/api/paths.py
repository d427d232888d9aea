"""What a path names, checked."""

from typing import Annotated

from fastapi import Depends, Path

from controller.names import Address, check_name

DeploymentName = Annotated[str, Path(description="Name of the deployment.", examples=["foo"])]
ServiceName = Annotated[
    str, Path(description="Name of the service; `app` is the one that `moor -a foo` means.", examples=["app"])
]

DEPLOYMENTS = "/v1/deployments"
DEPLOYMENT = "/v1/deployments/{deployment}"
SERVICES = "/v1/deployments/{deployment}/services"
SERVICE = "/v1/deployments/{deployment}/services/{service}"


async def _deployment(deployment: DeploymentName) -> str:
    return check_name(deployment, "app name")


async def _address(deployment: DeploymentName, service: ServiceName) -> Address:
    return Address(check_name(deployment, "app name"), check_name(service, "service name"))


InDeployment = Annotated[str, Depends(_deployment)]
At = Annotated[Address, Depends(_address)]
