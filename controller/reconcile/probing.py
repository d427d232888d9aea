"""Asking one instance, once, whether it can do its work."""

import asyncio
import contextlib
from datetime import UTC, datetime
from typing import Protocol

import httpx

from controller.backends.base import Attached, Backend, BackendError, SupportsRun
from controller.types import HealthCheck, Instance

PROBE_TIMEOUT = 5.0
"""Seconds that one probe over the network may take."""
COMMAND_TIMEOUT = 10.0
"""Seconds that a check's command may take; then it is killed with all that it began."""
COMMANDS_AT_ONCE = 8
"""Each is two processes more on the machine."""
KEPT_OUTPUT = 4096
"""Bytes of what a command printed last, of which the last line is told."""
SHOWN = 200
"""Characters of that line."""


class Prober(Protocol):
    async def __call__(self, instance: Instance, check: HealthCheck) -> str | None:
        """Ask once. None: it is healthy; else what is wrong, in words."""


class Probe:
    """Implements Prober, for the instances of one backend."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._commands = asyncio.Semaphore(COMMANDS_AT_ONCE)

    async def __call__(self, instance: Instance, check: HealthCheck) -> str | None:
        """The command, the time of staying up or the HTTP path that the check names; with none of them a TCP
        connect, or some time of staying up where there is no port."""
        if check.command is not None:
            return await self._command(instance, check.command)
        if check.uptime is not None:
            await stay_up(instance, check.uptime)
        elif instance.port is None:
            await asyncio.sleep(check.settle)
        else:
            host = instance.address or "127.0.0.1"
            if check.path is None:
                return await _connect(host, instance.port)
            return await _get(f"http://{host}:{instance.port}{check.path}")
        return None

    async def _command(self, instance: Instance, command: str) -> str | None:
        if not isinstance(self._backend, SupportsRun):
            return "the check is a command, and this server's backend can't run any beside an instance"
        async with self._commands:
            try:
                attached = await self._backend.enter(instance.id, command, env={}, terminal=None)
            except BackendError as error:
                return f"its check could not be run: {error}"
            try:
                async with asyncio.timeout(COMMAND_TIMEOUT):
                    return await _outcome(attached)
            except TimeoutError:
                return f"its check did not end within {COMMAND_TIMEOUT:g} s"
            finally:
                await attached.end(grace=0)


async def stay_up(instance: Instance, seconds: float) -> None:
    """Wait until it has been up for so long. A crash meanwhile ends the waiting: see HealthWatch.update."""
    up = (datetime.now(UTC) - instance.started_at).total_seconds() if instance.started_at else 0.0
    await asyncio.sleep(max(0.0, seconds - max(0.0, up)))


async def _outcome(attached: Attached) -> str | None:
    await attached.close_input()
    printed = b""
    async for _, data in attached.output():
        printed = (printed + data)[-KEPT_OUTPUT:]
    code, detail = await attached.wait()
    if code == 0:
        return None
    lines = printed.decode(errors="replace").split("\n")
    last = next((line.strip() for line in reversed(lines) if line.strip()), "")
    shown = "".join(each for each in last if each.isprintable())[:SHOWN]
    return f"its check {detail}" + (f": {shown}" if shown else "")


async def _connect(host: str, port: int) -> str | None:
    try:
        async with asyncio.timeout(PROBE_TIMEOUT):
            _, writer = await asyncio.open_connection(host, port)
    except TimeoutError:
        return f"no answer on port {port} within {PROBE_TIMEOUT:g} s"
    except OSError:
        return f"nothing listens on port {port}"
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return None


async def _get(url: str) -> str | None:
    try:
        async with httpx.AsyncClient(timeout=PROBE_TIMEOUT, trust_env=False) as client:
            response = await client.get(url, headers={"User-Agent": "mooring-health"})
    except httpx.TimeoutException:
        return f"GET {url} was not answered within {PROBE_TIMEOUT:g} s"
    except httpx.HTTPError as error:
        return f"GET {url} failed: {error or type(error).__name__}"
    return None if 200 <= response.status_code < 400 else f"GET {url} answered {response.status_code}"
