"""The stack images, made where the engine of the tests does not have them or has them of other inputs."""

import functools
import os
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from contrib.stack.engine import connect, labels
from contrib.stack.inputs import BUILD, FOLDER, IMAGES, INPUTS_LABEL, RESOURCES, RUN, inputs_hash
from tests.servers.dockerd import engine_url, locked, missing, untimed


@dataclass(frozen=True, kw_only=True)
class StackImages:
    run: str = RUN
    build: str = BUILD
    resources: str = RESOURCES


@functools.cache
def stack_images() -> StackImages:
    """All of them, as this tree makes them. Skips or fails as `engine_url` does where they can't be made."""
    url = engine_url()
    lock = Path(tempfile.gettempdir()) / f"mooring-stack-{os.geteuid()}.lock"
    with untimed(), locked(lock):
        if not _are_there():
            _make(url)
    return StackImages()


def _are_there() -> bool:
    client = connect()
    try:
        return all(labels(client, each).get(INPUTS_LABEL) == inputs_hash() for each in IMAGES)
    finally:
        client.close()


def _make(url: str) -> None:
    done = subprocess.run(
        [FOLDER / "build"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "DOCKER_HOST": url},
        check=False,
    )
    print(done.stdout)
    if done.returncode != 0:
        missing(f"the stack images can't be made:\n{done.stdout[-3000:]}")
