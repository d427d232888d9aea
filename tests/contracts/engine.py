"""The container engine that tests run instances on, and the image that they run slugs in."""

import os

import docker
import pytest
from docker import APIClient

from controller.engine import DEFAULT_URL

RUNNER = "mooring/stack:1-run"
BUILDER = "mooring/stack:1-build"


def engine_url() -> str:
    """Skips where no engine answers on this machine; fails where one must be there."""
    url = os.environ.get("DOCKER_HOST", DEFAULT_URL)
    try:
        APIClient(base_url=url, version="auto", timeout=20).ping()
    except (docker.errors.DockerException, OSError) as error:
        missing(f"no container engine answers at {url}: {error}")
    return url


def runner_image(url: str) -> str:
    """The stack's, or what MOOR_TEST_RUNNER_IMAGE names; it must have python3."""
    return _image(url, os.environ.get("MOOR_TEST_RUNNER_IMAGE", RUNNER))


def builder_image(url: str) -> str:
    """The stack's, or what MOOR_TEST_BUILDER_IMAGE names."""
    return _image(url, os.environ.get("MOOR_TEST_BUILDER_IMAGE", BUILDER))


def _image(url: str, name: str) -> str:
    try:
        APIClient(base_url=url, version="auto", timeout=20).inspect_image(name)  # type: ignore[no-untyped-call]
    except docker.errors.ImageNotFound:
        missing(f"the image {name} is not on the engine: make it with contrib/stack/build")
    return name


def missing(what: str) -> None:
    if os.environ.get("MOOR_TEST_REAL") == "1":
        pytest.fail(what)
    pytest.skip(what)
