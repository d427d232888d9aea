"""Whom images run as, read from them without running anything of them."""

import asyncio
import secrets
from collections.abc import Callable, Mapping
from typing import Any

from controller.backends.base import BackendError
from controller.backends.docker.attached import remove_container
from controller.backends.docker.container import container_name
from controller.backends.docker.image import Image
from controller.backends.docker.user import UnknownUser, files_needed, is_root, owner_of, text_of, told
from controller.backends.docker.wire import Wire, open_wire
from controller.backends.owners import Owner
from controller.engine import Engine, EngineError, EngineUnreachable, NotThere

LARGEST_FILE = 1024**2
"""Bytes of a list of users or groups that is read."""
READ_TIMEOUT = 20.0
_AROUND = 64 * 1024
"""Bytes that a tar adds to its one file, at most."""


class Users:
    """Raises EngineError, and BackendError for images that don't say whom they mean."""

    def __init__(self, engine: Engine, realm: str, labels: Mapping[str, str]) -> None:
        """`labels`: of containers that go with this server, however it ends."""
        self._engine = engine
        self._realm = realm
        self._labels = labels
        self._known: dict[tuple[str, str], Owner] = {}

    async def owner(self, image: Image) -> Owner | None:
        """None: root, who may write anywhere."""
        if is_root(image.user):
            return None
        key = image.id or image.reference, image.user
        if key not in self._known:
            # To its end also where the start is given up meanwhile: the container is removed by the same.
            self._known[key] = await asyncio.shield(asyncio.ensure_future(self._found(image)))
        owner = self._known[key]
        return None if owner.uid == 0 else owner

    async def _found(self, image: Image) -> Owner:
        try:
            needed = files_needed(image.user)
            return owner_of(image.user, await self._files(image, needed) if needed else {})
        except UnknownUser as error:
            raise BackendError(
                f"The image {image.reference} runs as {image.user[:100]!a}, but {error}, so that nobody can be given "
                "its volumes: name one by USER that it has, or numbers (USER 1000:1000).",
                retryable=False,
            ) from error

    async def _files(self, image: Image, paths: tuple[str, ...]) -> Mapping[str, str]:
        """Of a container that is never started, and has nothing mounted but what the image itself asks for."""
        config = {
            "Image": image.id or image.reference,
            "Cmd": ["-"],
            "Labels": dict(self._labels),
            "NetworkDisabled": True,
            "HostConfig": {"NetworkMode": "none", "RestartPolicy": {"Name": "no"}},
        }
        name = container_name(self._realm, f"user-{secrets.token_hex(6)}")
        container = await self._engine.call(_creating(config, name))
        assert self._engine.socket is not None
        try:
            return {path: await _text(self._engine.socket, container, path) for path in paths}
        finally:
            await remove_container(self._engine.socket, container)


def _creating(config: Mapping[str, Any], name: str) -> Callable[[Any], str]:
    return lambda client: str(client.create_container_from_config(config, name)["Id"])


async def _text(socket: str, container: str, path: str, *, follow: bool = True) -> str:
    """Nothing where it is not there. Raises UnknownUser where it is nothing to be read."""
    try:
        wire = await open_wire(socket, "GET", f"/containers/{container}/archive", {"path": path})
    except NotThere:
        return ""
    try:
        said = told(wire.head)
        if said.link and follow:
            return await _text(socket, container, said.link, follow=False)
        if not said.is_file or said.size > LARGEST_FILE:
            raise UnknownUser(f"its {path} is no plain file of at most {LARGEST_FILE} bytes")
        async with asyncio.timeout(READ_TIMEOUT):
            return text_of(await _rest(wire, said.size + _AROUND))
    except TimeoutError as error:
        raise EngineUnreachable(f"The container engine did not give {path} of an image in time.") from error
    except OSError as error:
        raise EngineUnreachable(f"The container engine left while it gave {path} of an image.") from error
    except ValueError as error:
        raise EngineError(
            f"The container engine gives {path} in a way that we don't understand: {error}."
        ) from error
    finally:
        wire.close()


async def _rest(wire: Wire, most: int) -> bytes:
    data = b""
    while len(data) < most and (more := await wire.reader.read(most - len(data))):
        data += more
    return data
