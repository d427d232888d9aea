"""The container engine that tests run instances on, and the images that they build and run slugs in."""

import os

import docker.errors
from docker import APIClient

from contrib.stack.base import MADE
from tests.servers.dockerd import engine_url, missing
from tests.servers.stack import stack_images

__all__ = ["builder_image", "debian_image", "engine_url", "missing", "runner_image"]

DEBIAN = "debian:bookworm-slim"


def runner_image(url: str) -> str:
    """The stack's, or what MOOR_TEST_RUNNER_IMAGE names; it must have python3. `url`: of the engine."""
    return os.environ.get("MOOR_TEST_RUNNER_IMAGE") or stack_images().run


def builder_image(url: str) -> str:
    """The stack's, or what MOOR_TEST_BUILDER_IMAGE names. `url`: of the engine."""
    return os.environ.get("MOOR_TEST_BUILDER_IMAGE") or stack_images().build


def debian_image(url: str) -> str:
    """What Dockerfiles of the tests begin with; where no registry gave it, the stack's own base stands in."""
    client = APIClient(base_url=url, version="auto", timeout=60)
    try:
        client.inspect_image(DEBIAN)  # type: ignore[no-untyped-call]
    except docker.errors.ImageNotFound:
        stack_images()
        client.tag(":".join(MADE), *DEBIAN.split(":"))
    finally:
        client.close()
    return DEBIAN
