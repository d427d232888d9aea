"""The base that the run variant is made from: Debian's own image, else the same made here."""

import docker.errors
import requests
from docker import APIClient

from contrib.stack import debootstrap
from contrib.stack.engine import engine_url
from contrib.stack.errors import StackError
from contrib.stack.host import SUITE, Host
from contrib.stack.inputs import VERSION
from contrib.stack.transcript import line, step, timed
from controller.image_names import split_reference

PUBLISHED = f"debian:{SUITE}-slim"
MADE = ("mooring/stack", f"{VERSION}-base")
SILENCE = 10
"""Seconds without an answer after which a registry counts as not there."""


def ensure_base(client: APIClient, host: Host, asked: str) -> str:
    """The name of an image that the engine has. `asked`: one by name, or "". Raises StackError."""
    if asked:
        if not _is_there(client, asked) and not _can_pull(client, asked):
            raise StackError(f"The base image {asked} is not on the engine and can't be pulled.")
        return asked
    for name in (PUBLISHED, made := ":".join(MADE)):
        if _is_there(client, name):
            return name
    step(f"Pulling {PUBLISHED}")
    if _can_pull(client, PUBLISHED):
        return PUBLISHED
    line("no registry answers")
    step(f"Making a base of Debian {SUITE} with debootstrap")
    with timed():
        debootstrap.make_image(client, host, *MADE)
    return made


def _is_there(client: APIClient, name: str) -> bool:
    try:
        client.inspect_image(name)  # type: ignore[no-untyped-call]
    except docker.errors.ImageNotFound:
        return False
    return True


def _can_pull(client: APIClient, name: str) -> bool:
    """Whether it is on the engine now. A pull itself has no limit: its registry has answered before."""
    brief = APIClient(base_url=engine_url(), version=client.api_version, timeout=SILENCE)
    try:
        brief.inspect_distribution(name)  # type: ignore[no-untyped-call]
        client.pull(*split_reference(name))
        return _is_there(client, name)
    except (docker.errors.APIError, requests.exceptions.RequestException):
        return False
    finally:
        brief.close()
