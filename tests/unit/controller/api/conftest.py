import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import httpx
import pytest
import uvicorn
from fastapi import FastAPI

from controller.api.app import create_app
from controller.api.connections import Connection
from controller.client import Client
from tests.unit.controller.world import ADMIN, World, make_world


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    made = await make_world(tmp_path)
    yield made
    await made.operations.close()
    await made.state.close()


@pytest.fixture
def app(world: World) -> FastAPI:
    return create_app(world.operations, keep_alive=0.05)


@pytest.fixture
async def http(app: FastAPI, world: World) -> AsyncIterator[httpx.AsyncClient]:
    """As an admin, without a socket."""
    headers = {"Authorization": f"Bearer {world.sessions.mint(ADMIN.name)}"}
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test", headers=headers) as client:
        yield client


@pytest.fixture
async def url(app: FastAPI) -> AsyncIterator[str]:
    """A real server on loopback, for what an in-process transport does not show: streams and goodbyes."""
    async with _served(app) as address:
        yield address


@pytest.fixture
async def client(url: str, world: World) -> AsyncIterator[Client]:
    """As an admin, over a socket."""
    async with Client(url, world.sessions.mint(ADMIN.name), timeout=5) as made:
        yield made


@asynccontextmanager
async def _served(app: FastAPI) -> AsyncIterator[str]:
    with listening() as listener:
        config = uvicorn.Config(
            app, log_config=None, lifespan="off", timeout_graceful_shutdown=1, http=Connection
        )
        server = uvicorn.Server(config)
        task = asyncio.create_task(server._serve([listener]))
        try:
            async with asyncio.timeout(5):
                while not server.started:
                    await asyncio.sleep(0.005)
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            await task


@contextmanager
def listening() -> Iterator[socket.socket]:
    listener = socket.create_server(("127.0.0.1", 0))
    # Head and body of an answer are two writes: with Nagle's algorithm each would cost 40 ms.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    try:
        yield listener
    finally:
        listener.close()
