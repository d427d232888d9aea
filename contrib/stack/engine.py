"""The container engine that the images are made in."""

import os
from collections.abc import Sequence

import docker.errors
from docker import APIClient

from contrib.stack.errors import StackError

DEFAULT_URL = "unix:///var/run/docker.sock"
ANSWER_TIMEOUT = 600
"""Seconds: committing a large container is one answer."""


def engine_url() -> str:
    return os.environ.get("DOCKER_HOST", "") or DEFAULT_URL


def connect() -> APIClient:
    """Raises StackError where no engine answers."""
    try:
        return APIClient(base_url=engine_url(), version="auto", timeout=ANSWER_TIMEOUT)
    except docker.errors.DockerException as error:
        raise StackError(
            f"The container engine at {engine_url()} does not answer: start it, or set DOCKER_HOST."
        ) from error


def labels(client: APIClient, image: str) -> dict[str, str]:
    """Of an image by name; none where it is not on the engine."""
    for found in client.images(name=image):
        return dict(found["Labels"] or {})
    return {}


def image_ids(client: APIClient, names: Sequence[str]) -> Sequence[str]:
    return [found["Id"] for name in names for found in client.images(name=name)]


def has_name(client: APIClient, image_id: str) -> bool:
    return bool(client.inspect_image(image_id)["RepoTags"])  # type: ignore[no-untyped-call]


def size(client: APIClient, image: str) -> int:
    """Bytes, with those of the images below it."""
    return int(client.inspect_image(image)["Size"])  # type: ignore[no-untyped-call]
