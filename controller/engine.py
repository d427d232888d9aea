"""The container engine: the docker SDK's client in threads of our own, and its faults in our words.

Backend and builder drive the same engine through this; nothing else knows how it is reached.
"""

import asyncio
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import docker
import docker.errors
import requests
from docker import APIClient

T = TypeVar("T")

DEFAULT_URL = "unix:///var/run/docker.sock"
ANSWER_TIMEOUT = 60
"""Seconds of silence after which a call is given up; starting a container on a busy machine takes some."""
THREADS = 16
"""Calls at once; others wait for their turn."""
REALM = "mooring.realm"
"""Label of all that belongs to one installation, with the installation's own name as its value."""


class EngineError(Exception):
    """The engine could not do it. `retryable` says whether trying again may help."""

    def __init__(self, message: str, *, retryable: bool = True) -> None:
        super().__init__(message)
        self.retryable = retryable


class EngineUnreachable(EngineError):
    """Nobody answers at its address: nothing is known of what runs there."""


class NotThere(EngineError):
    """The container, image or network does not exist."""

    def __init__(self, message: str) -> None:
        super().__init__(message, retryable=False)


class Taken(EngineError):
    """The name is taken, or something is in a state in which this can't be done."""


class Engine:
    """One engine, however it is reached. Calls raise EngineError only."""

    def __init__(self, url: str = "", *, timeout: int = ANSWER_TIMEOUT) -> None:
        """`url`: unix://, tcp:// or ssh://USER@HOST; empty: DOCKER_HOST, else the local socket.

        `timeout`: seconds of silence in an answer. Nothing is connected yet.
        """
        self.url = url or os.environ.get("DOCKER_HOST", "") or DEFAULT_URL
        self._timeout = timeout
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="engine")
        self._clients = threading.local()
        self._version = "auto"

    @property
    def is_local(self) -> bool:
        """Whether it runs on this machine, and so sees our files and has networks that we reach."""
        return self.url.startswith(("unix://", "http+unix://"))

    @property
    def socket(self) -> str | None:
        """The path of its unix socket; None where it is reached in another way."""
        return self.url.partition("://")[2] if self.is_local else None

    async def call(self, work: Callable[[APIClient], T]) -> T:
        """`work` with a client, in a thread; what it returns. A caller that is cancelled leaves it to its end."""
        loop = asyncio.get_running_loop()
        return await asyncio.shield(loop.run_in_executor(self._threads, self.perform, work))

    def perform(self, work: Callable[[APIClient], T]) -> T:
        """The same in the thread of whoever calls: for streams, which hold theirs for long. Blocking."""
        try:
            return work(self._client())
        except EngineError:
            raise
        except Exception as error:
            raise translated(error, self.url) from error

    def connect(self) -> APIClient:
        """A client of the caller's own, to be closed; for streams. Blocking. Raises EngineError."""
        try:
            client = APIClient(base_url=self.url, version=self._version, timeout=self._timeout)
        except Exception as error:
            raise translated(error, self.url) from error
        self._version = client.api_version
        return client

    async def answers(self) -> bool:
        """Whether there is an engine at all."""
        try:
            return bool(await self.call(lambda client: client.ping()))
        except EngineError:
            return False

    async def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _client(self) -> APIClient:
        # One for each thread: a session of requests is not made to be shared.
        client = getattr(self._clients, "client", None)
        if client is None:
            client = self._clients.client = self.connect()
        return client


def translated(error: Exception, url: str) -> EngineError:
    """A fault of the SDK, of requests or of the system, as ours."""
    match error:
        case docker.errors.NotFound():
            return NotThere(_words(error))
        case docker.errors.APIError() if error.status_code == 409:
            return Taken(_words(error))
        case docker.errors.APIError():
            return EngineError(_words(error), retryable=(error.status_code or 500) >= 500)
        case requests.exceptions.Timeout():
            return EngineUnreachable(f"The container engine at {url} did not answer in time.")
        case requests.exceptions.ConnectionError() | docker.errors.DockerException() | OSError():
            return EngineUnreachable(f"The container engine at {url} can't be reached: {_root(error)}.")
    return EngineError(f"The container engine gave an answer that we don't understand: {error!r}")


def _words(error: docker.errors.APIError) -> str:
    return f"The container engine says: {(error.explanation or str(error)).strip()}"


def _root(error: BaseException) -> str:
    """The cause at the bottom, without the wrapping of three libraries."""
    while (inner := error.__cause__ or error.__context__) is not None:
        error = inner
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
