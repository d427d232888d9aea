"""Talks to the keeper, and starts it where it doesn't run. Used by the server, not by the keeper."""

import asyncio
import base64
import contextlib
import fcntl
import json
import logging
import sys
import xmlrpc.client
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from controller.backends.base import BackendError
from controller.backends.keeper import (
    FAULT_CONFLICT,
    LOCK,
    OUTPUT,
    PROTOCOL,
    SOCKET,
)

LONGEST_SOCKET_PATH = 100
"""The system's limit is 107; supervisord binds to a longer name first."""
ANSWER_TIMEOUT = 15.0
"""Seconds for one call: with hundreds of programs starting at once, the keeper may be busy."""
START_TIMEOUT = 30.0
"""Seconds until a new keeper answers; it first ends what a killed one has left, which takes up to 10."""

LAUNCHES = 3
"""One may meet a keeper that is just ending; two at once can't be."""

log = logging.getLogger(__name__)


class KeeperClient:
    """Calls to the keeper of one folder. Raises BackendError only."""

    def __init__(self, folder: Path, *, groups: bool = True) -> None:
        """`groups`: whether a keeper that is started may use the kernel's control groups."""
        self._folder = folder
        self._groups = groups
        self.limits: Mapping[str, str] | None = None
        """Each limit to how the keeper keeps it, as of the last look; None: it is older than limits."""
        self._socket = folder / SOCKET
        self._starting = asyncio.Lock()

    async def observe(self, *, after: str = "") -> Mapping[str, Any]:
        """What `Door.observe` answers: "instances" (each as `InstanceProcess.info` tells it), and where the keeper
        is no older than that, "cursor", "complete" and "gone" as in `Observation`."""
        # A keeper without cursors gave none out, and is not asked with one.
        packed = await self._call_running("observe", *([after] if after else []))
        answer: Mapping[str, Any] = json.loads(zlib.decompress(base64.b64decode(packed)))
        if answer["protocol"] != PROTOCOL:
            raise BackendError(
                "The supervisor that runs was started by another version of Mooring. "
                "Stop it with that version (or end its process: its instances are then started anew).",
                retryable=False,
            )
        self.limits = answer.get("limits")
        return answer

    async def start(self, request: dict[str, Any]) -> dict[str, Any]:
        info: dict[str, Any] = json.loads(await self._call_running("start", json.dumps(request)))
        return info

    async def stop(self, name: str, grace: float) -> bool:
        """Whether it is gone."""
        return bool(await self._call_running("stop", name, float(grace)))

    async def stop_all(self, grace: float) -> bool:
        """Whether all are gone; also when no keeper runs (what one has left is ended at its next start)."""
        return bool(await self._call_running("stop_all", float(grace)))

    async def end(self) -> None:
        """Make the keeper end; returns when it has."""
        with contextlib.suppress(NotRunning):
            await self._call("shutdown")
        async with _time_limit(ANSWER_TIMEOUT, "The supervisor does not end."):
            while is_locked(self._folder / LOCK):  # noqa: ASYNC110 - another process has no event for us
                await asyncio.sleep(0.02)

    async def _call_running(self, method: str, *arguments: Any) -> Any:
        try:
            return await self._call(method, *arguments)
        except NotRunning:
            await self._ensure_running()
            return await self._call(method, *arguments)

    async def _ensure_running(self) -> None:
        async with self._starting, _time_limit(START_TIMEOUT, "The supervisor does not come up."):
            for _ in range(LAUNCHES):
                if await self._answers():
                    return
                await self._launch()
            if not await self._answers():
                raise BackendError(f"The supervisor does not stay up.{self._last_words()}")

    async def _answers(self) -> bool:
        """Waits for it as long as it is there."""
        while True:
            with contextlib.suppress(NotRunning):
                await self._call("observe")
                return True
            if not is_locked(self._folder / LOCK):
                return False
            await asyncio.sleep(0.02)

    def _check_path(self) -> None:
        if len(bytes(self._socket)) > LONGEST_SOCKET_PATH:
            raise BackendError(
                f"The path {str(self._socket)!r} is too long for a unix socket: "
                f"choose a data folder whose own path has fewer characters.",
                retryable=False,
            )

    async def _launch(self) -> None:
        log.info("action=start-supervisor folder=%s", self._folder)
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._folder.chmod(0o711)
            with (self._folder / OUTPUT).open("wb") as output:
                process = await asyncio.create_subprocess_exec(
                    *(sys.executable, "-I", "-m", "controller.backends.keeper", str(self._folder.absolute())),
                    "yes" if self._groups else "no",
                    cwd=self._folder,
                    env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8", "PYTHONSAFEPATH": "1"},
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    start_new_session=True,
                )
        except OSError as error:
            raise BackendError(f"The supervisor can't be started: {error}") from error
        async with _time_limit(START_TIMEOUT, "The supervisor does not start."):
            status = await process.wait()
        if status:
            raise BackendError(f"The supervisor can't be started.{self._last_words()}")

    def _last_words(self) -> str:
        try:
            words = (self._folder / OUTPUT).read_bytes()[-500:].decode(errors="replace").strip()
        except OSError:
            return ""
        return f" It said: {words}" if words else ""

    async def _call(self, method: str, *arguments: Any) -> Any:
        """One request and its answer; raises NotRunning when nobody listens."""
        self._check_path()
        body = xmlrpc.client.dumps(arguments, f"mooring.{method}").encode()
        async with _time_limit(ANSWER_TIMEOUT, f"The supervisor did not answer within {ANSWER_TIMEOUT:g} s."):
            try:
                answer = await self._exchange(body)
            except (ConnectionRefusedError, FileNotFoundError) as error:
                raise NotRunning from error
            except (OSError, asyncio.IncompleteReadError) as error:
                raise BackendError(f"The connection to the supervisor broke: {error}") from error
        return _unpack(answer)

    async def _exchange(self, body: bytes) -> bytes:
        reader, writer = await asyncio.open_unix_connection(self._socket)
        try:
            writer.write(b"POST /RPC2 HTTP/1.0\r\nContent-Type: text/xml\r\n")
            writer.write(b"Content-Length: %d\r\n\r\n%s" % (len(body), body))
            await writer.drain()
            return await reader.read()
        finally:
            writer.close()


def is_locked(path: Path) -> bool:
    """Whether a keeper holds its lock: from before it answers until after it let go of everything."""
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


class NotRunning(BackendError):
    """Nobody listens at the keeper's socket."""

    def __init__(self) -> None:
        super().__init__("The supervisor does not run.")


def _unpack(answer: bytes) -> Any:
    head, _, body = answer.partition(b"\r\n\r\n")
    status = head.split(b"\r\n")[0].split(b" ")[1:2]
    if status != [b"200"] or not body:
        raise BackendError(f"The supervisor could not do it: {head[:200].decode(errors='replace')}")
    try:
        (value,), _ = xmlrpc.client.loads(body.decode())
    except xmlrpc.client.Fault as fault:
        words = fault.faultString.partition(": ")[2] or fault.faultString
        raise BackendError(words, retryable=fault.faultCode != FAULT_CONFLICT) from fault
    return value


@contextlib.asynccontextmanager
async def _time_limit(seconds: float, message: str) -> Any:
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError as error:
        raise BackendError(message) from error
