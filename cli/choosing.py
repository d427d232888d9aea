"""Which backend and builder an installation has, where that is left to us: found out at its first start, and kept.

What runs belongs to the backend that started it, so a container engine that is installed later changes nothing by
itself, and another backend is taken only when nothing runs any more on the one before.
"""

import asyncio
import json
import logging
from collections.abc import Mapping
from dataclasses import replace

from builder.slugs import SlugStore
from cli.drivers import make_backend
from cli.ownership import write_whole
from controller.backends.base import BackendError, SupportsShutdown
from controller.config import AUTO, DataFolder, Settings
from controller.errors import Refused

log = logging.getLogger(__name__)

ENGINE, PROCESSES = ("docker", "docker"), ("supervisor", "host")
"""Backend and builder on a container engine, and without one."""
ENGINE_TIMEOUT = 5.0
"""Seconds that an engine gets to answer at the first start."""
LOOK_TIMEOUT = 30.0
"""Seconds that the backend before gets to tell what still runs."""


async def settled(settings: Settings) -> Settings:
    """The settings with a backend and a builder in place of `auto`; written down for the next start.

    Raises Refused when another backend still has instances.
    """
    before = recorded(settings.folders)
    found = PROCESSES[0]
    if not before and settings.backend == AUTO:
        found = await _found_backend(settings)
    chosen = choose({"backend": settings.backend, "builder": settings.builder}, before, found)
    if before and before["backend"] != chosen["backend"]:
        await _check_nothing_is_left(settings, before["backend"])
    if chosen != before:
        write_whole(settings.folders.drivers, json.dumps(chosen) + "\n")
    return replace(settings, backend=chosen["backend"], builder=chosen["builder"])


def choose(wanted: Mapping[str, str], before: Mapping[str, str], found: str) -> dict[str, str]:
    """Backend and builder: as `wanted`, where that is not `auto`; else as they were `before` (empty at the first
    start); else by the backend that was `found` to be possible. Pure."""
    backend = wanted["backend"] if wanted["backend"] != AUTO else before.get("backend", found)
    builder = wanted["builder"]
    if builder == AUTO and before.get("backend") == backend:
        builder = before["builder"]
    elif builder == AUTO:
        builder = ENGINE[1] if backend == ENGINE[0] else PROCESSES[1]
    return {"backend": backend, "builder": builder}


def recorded(folders: DataFolder) -> Mapping[str, str]:
    """What the last server on this data folder had; empty before the first."""
    try:
        found = json.loads(folders.drivers.read_text())
        return {kind: str(found[kind]) for kind in ("backend", "builder")}
    except FileNotFoundError:
        # From before it was written down.
        return (
            dict(zip(("backend", "builder"), PROCESSES, strict=True)) if folders.supervisor.is_dir() else {}
        )
    except (ValueError, KeyError, TypeError) as error:
        raise Refused(
            f"The file {folders.drivers} can't be read: it should hold the backend and the builder of this "
            'installation, such as {"backend": "supervisor", "builder": "host"}.'
        ) from error


def as_recorded(settings: Settings) -> Settings:
    """With the drivers of the last server, where the settings leave them open."""
    wanted = {"backend": settings.backend, "builder": settings.builder}
    chosen = choose(wanted, recorded(settings.folders), PROCESSES[0])
    return replace(settings, backend=chosen["backend"], builder=chosen["builder"])


async def _found_backend(settings: Settings) -> str:
    """By what there is on this machine, and why in the log."""
    if settings.builder == PROCESSES[1]:
        return PROCESSES[0]
    missing = await _missing_for_containers(settings)
    if missing:
        log.info("apps run as processes of this machine: %s", missing)
        return PROCESSES[0]
    log.info("apps are built and run in containers: an engine and the stack images are there")
    return ENGINE[0]


async def _missing_for_containers(settings: Settings) -> str:
    """Why nothing can run in containers here; empty when it can."""
    from controller.engine import Engine, EngineError, NotThere

    engine = Engine(settings.docker_host)
    if not engine.is_local:
        return f"the container engine at {engine.url} is not on this machine"
    try:
        async with asyncio.timeout(ENGINE_TIMEOUT):
            for image in (settings.builder_image, settings.runner_image):
                await engine.call(lambda client, image=image: client.inspect_image(image))  # type: ignore[misc]
    except NotThere:
        return f"the image {image} is not on the container engine; contrib/stack/build makes it"
    except (EngineError, TimeoutError):
        return f"no container engine answers at {engine.url}"
    finally:
        await engine.close()
    return ""


async def _check_nothing_is_left(settings: Settings, before: str) -> None:
    slugs = SlugStore(settings.folders.slugs, settings.folders.apps, limit=settings.slug_limit)
    backend = make_backend(replace(settings, backend=before), slugs)
    try:
        async with asyncio.timeout(LOOK_TIMEOUT):
            left = [each.id for each in (await backend.observe()).instances]
            if not left and isinstance(backend, SupportsShutdown):
                await backend.shutdown()
    except (BackendError, TimeoutError) as error:
        raise Refused(
            f"Until now the backend {before!r} ran the instances of this installation, and whether it still does can't "
            f"be found out ({error or 'no answer'}). Start with --backend {before} once more."
        ) from error
    finally:
        await backend.close()
    if left:
        raise Refused(
            f"The backend {before!r} still runs {len(left)} instances of this installation ({left[0]}, …), which "
            "another one would leave to themselves. End them with `moor server:stop --all`, then start again: apps "
            "come up on the new backend; what was built for the other one needs another push."
        )
