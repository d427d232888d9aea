"""Making a container and starting it, on an address that proves to be free."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from controller.backends.docker.attached import remove_container
from controller.backends.docker.container import Place, container_name, open_files, without_open_files
from controller.backends.docker.networks import Networks
from controller.engine import Engine, EngineError

ATTEMPTS = 5
"""So many addresses are tried where somebody else has the one that was chosen."""


async def _nothing(_: str) -> None:
    pass


class Launcher:
    """Raises EngineError, and Taken where there is a container of that name already."""

    def __init__(self, engine: Engine, realm: str, networks: Networks) -> None:
        self._engine = engine
        self._realm = realm
        self._networks = networks
        self._too_many_files: int | None = None
        """The least limit of open files that the engine refused: to try it each time would start each twice."""

    async def launch(
        self,
        name: str,
        deployment: str,
        describe: Callable[[Place], Mapping[str, Any]],
        *,
        before_start: Callable[[str], Awaitable[None]] = _nothing,
    ) -> tuple[str, Place]:
        """The container, and where it is until that is given back. `describe`: what the engine is told of it."""
        for attempt in range(1, ATTEMPTS + 1):
            place = await self._networks.choose(deployment)
            files = 0
            try:
                config = describe(place)
                files = open_files(config)
                if self._too_many_files is not None and files >= self._too_many_files:
                    config = without_open_files(config)
                return await self._attempt(name, config, before_start), place
            except EngineError as error:
                refused = str(error).lower()
                if "address already in use" in refused and not _is_of_port(refused) and attempt < ATTEMPTS:
                    self._networks.disown(place.address)
                    continue  # not given back: it is somebody's whom we don't know
                self._networks.release(place.address)
                if _is_of_port(refused):
                    raise EngineError(
                        f"a port of the machine that is to lead to it is in use: {error}"
                    ) from error
                if attempt == ATTEMPTS or not (_is_of_network(refused) or _is_of_open_files(refused)):
                    raise
                if _is_of_open_files(refused):
                    self._too_many_files = min(files, self._too_many_files or files)
                if _is_of_network(refused):
                    self._networks.forget()
            except BaseException:
                self._networks.release(place.address)
                raise
        raise AssertionError("the last attempt returns or raises")

    async def _attempt(
        self, name: str, config: Mapping[str, Any], before_start: Callable[[str], Awaitable[None]]
    ) -> str:
        full_name = container_name(self._realm, name)

        def create(client: Any) -> str:
            return str(client.create_container_from_config(config, full_name)["Id"])

        container = await self._engine.call(create)
        try:
            await before_start(container)
            await self._engine.call(lambda client: client.start(container))
        except EngineError:
            assert self._engine.socket is not None
            await asyncio.shield(remove_container(self._engine.socket, container))
            raise
        return container


def _is_of_port(refused: str) -> bool:
    """Whether it is a port of the machine that somebody else has, and not an address of ours."""
    return "listen tcp" in refused or "port is already allocated" in refused


def _is_of_network(refused: str) -> bool:
    """Whether a network that is made anew may help."""
    return "network" in refused and "not found" in refused


def _is_of_open_files(refused: str) -> bool:
    """Whether the engine may have fewer open files than it was told to give."""
    return "setting rlimit type 7" in refused
