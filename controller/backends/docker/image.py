"""What an image says of itself, and how it gets onto the engine."""

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from docker import APIClient

from controller.backends.base import BackendError
from controller.engine import Engine, EngineError, EngineUnreachable, NotThere
from controller.image_names import split_reference, whole_reference

PULL_TIMEOUT = 45.0
"""Seconds that a start waits for an image; the engine goes on with it, so that a later start finds it."""


@dataclass(frozen=True, kw_only=True)
class Image:
    """As the engine has it."""

    reference: str
    id: str = ""
    """The engine's own, which stays with this content."""
    user: str = ""
    """Whom it runs as: `USER[:GROUP]`, each a name or a number; empty: root."""
    env: Mapping[str, str] = field(default_factory=dict)
    ports: Sequence[int] = ()
    """TCP ports that it exposes."""


async def ensure_image(engine: Engine, reference: str) -> Image:
    """Pulls what is not there, as long as that is quick. Raises BackendError and EngineError."""
    reference = whole_reference(reference)
    try:
        return await find_image(engine, reference)
    except NotThere:
        pass
    try:
        async with asyncio.timeout(PULL_TIMEOUT):
            said = await engine.call(lambda client: _pull(client, reference))
    except TimeoutError as error:
        raise BackendError(f"The image {reference} is still on its way to the engine.") from error
    except EngineUnreachable:
        raise
    except EngineError as error:
        said = str(error)
    try:
        return await find_image(engine, reference)
    except NotThere as error:
        raise BackendError(
            f"The image {reference} is not on the engine and can't be pulled: {said or 'no answer'}",
            retryable=False,
        ) from error


async def find_image(engine: Engine, reference: str) -> Image:
    """As it is there. Raises NotThere and EngineError."""

    def work(client: Any) -> Mapping[str, Any]:
        found: Mapping[str, Any] = client.inspect_image(reference)
        return found

    return parse(reference, await engine.call(work))


def parse(reference: str, data: Mapping[str, Any]) -> Image:
    """What the engine tells of an image."""
    config = data.get("Config") or {}
    exposed = [each.partition("/") for each in config.get("ExposedPorts") or {}]
    pairs = [each.partition("=") for each in config.get("Env") or ()]
    return Image(
        reference=reference,
        id=str(data.get("Id") or ""),
        user=str(config.get("User") or ""),
        env={name: value for name, _, value in pairs},
        ports=tuple(
            sorted(int(port) for port, _, kind in exposed if port.isdecimal() and kind in ("", "tcp"))
        ),
    )


def _pull(client: APIClient, reference: str) -> str:
    """Blocking. Returns what went wrong, in the engine's words; mostly ""."""
    name, tag = split_reference(reference)
    for line in str(client.pull(name, tag=tag or None)).splitlines():
        try:
            said = json.loads(line)
        except ValueError:
            continue
        if isinstance(said, dict) and said.get("error"):
            return str(said["error"])
    return ""
