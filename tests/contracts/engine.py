"""The container engine that tests run instances on, and the images that they build and run slugs in."""

import os

from tests.servers.dockerd import engine_url, missing
from tests.servers.stack import stack_images

__all__ = ["builder_image", "engine_url", "missing", "runner_image"]


def runner_image(url: str) -> str:
    """The stack's, or what MOOR_TEST_RUNNER_IMAGE names; it must have python3. `url`: of the engine."""
    return os.environ.get("MOOR_TEST_RUNNER_IMAGE") or stack_images().run


def builder_image(url: str) -> str:
    """The stack's, or what MOOR_TEST_BUILDER_IMAGE names. `url`: of the engine."""
    return os.environ.get("MOOR_TEST_BUILDER_IMAGE") or stack_images().build
