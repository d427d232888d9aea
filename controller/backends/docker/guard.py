"""Ends what is attached to a server that has died: `python -I -m controller.backends.docker.guard ...`, its child.

Its standard input ends when the server does, in whatever way. It imports little, as it lives for long: the SDK
alone would take more memory than all of it.
"""

import asyncio
import contextlib
import http.client
import json
import os
import socket
import sys
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from controller.backends.keeper.processes import Family, end_all

GRACE = 3.0
"""Seconds between SIGTERM and SIGKILL."""
ANSWER_TIMEOUT = 30.0
END_TIMEOUT = 5.0
"""Seconds that a server which ends in order waits for its guard."""


class Guard:
    """The server's end: makes sure that there is one before anything is attached."""

    def __init__(self, socket_path: str, labels: Mapping[str, str], marker: str) -> None:
        """`labels`: of the containers that end with us; `marker`: what the names of processes begin with that do."""
        self._arguments = [socket_path, json.dumps(labels), marker]
        self._process: asyncio.subprocess.Process | None = None
        self._starting = asyncio.Lock()

    async def ensure(self) -> None:
        """Raises OSError."""
        async with self._starting:
            if self._process is not None and self._process.returncode is None:
                return
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-I", "-m", "controller.backends.docker.guard", *self._arguments),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.DEVNULL,
                env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"},
                cwd="/",
                start_new_session=True,
            )

    async def close(self) -> None:
        """What is still attached ends."""
        if self._process is None or self._process.stdin is None:
            return
        self._process.stdin.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(END_TIMEOUT):
                await self._process.wait()


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("engine", timeout=ANSWER_TIMEOUT)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def end_containers(socket_path: str, labels: Mapping[str, str]) -> None:
    """Those with these labels: SIGTERM, GRACE seconds, SIGKILL."""
    filters = quote(json.dumps({"label": [f"{name}={value}" for name, value in labels.items()]}))
    everything = f"/containers/json?all=1&filters={filters}"
    for each in _ask(socket_path, "GET", everything):
        _ask(socket_path, "POST", f"/containers/{each['Id']}/kill?signal=TERM")
    deadline = time.monotonic() + GRACE
    while (left := _ask(socket_path, "GET", everything)) and time.monotonic() < deadline:
        time.sleep(0.1)
    for each in left:
        _ask(socket_path, "DELETE", f"/containers/{each['Id']}?force=1&v=1")


def _ask(socket_path: str, method: str, target: str) -> Any:
    connection = _Connection(socket_path)
    try:
        connection.request(method, target)
        data = connection.getresponse().read()
        return json.loads(data) if data and method == "GET" else None
    finally:
        connection.close()


def main() -> None:
    socket_path, labels, marker = sys.argv[1:]
    sys.stdin.buffer.read()
    with contextlib.suppress(OSError, ValueError, http.client.HTTPException):
        end_containers(socket_path, json.loads(labels))
    if os.geteuid() == 0:
        end_all(Family(marker), grace=GRACE)


if __name__ == "__main__":
    main()
