"""The container engine that tests use: the one that runs here, else one of the tests' own."""

import atexit
import contextlib
import fcntl
import functools
import os
import select
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, NoReturn

import docker.errors
import pytest
import requests
from docker import APIClient

from controller.engine import DEFAULT_URL

STATE = Path("/run/mooring-test-docker")
"""Socket and log of the tests' own engine."""
DATA = Path("/var/cache/mooring-test-docker")
"""Its images, which later sessions find there; may be removed."""
START_TIMEOUT = 60


def missing(what: str) -> NoReturn:
    """Skip where something is not on this machine, fail where MOOR_TEST_REAL=1 says that it must be."""
    if os.environ.get("MOOR_TEST_REAL") == "1":
        pytest.fail(what)
    pytest.skip(what)


def engine_url() -> str:
    """Of an engine that answers. One that is started for it ends with the session, and is DOCKER_HOST until then.

    Skips where there is none and none can be started; fails where one must be there.
    """
    given = os.environ.get("DOCKER_HOST", "")
    url = given or DEFAULT_URL
    if answers(url):
        return url
    path = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"
    if given or os.geteuid() != 0 or not shutil.which("dockerd", path=path):
        missing(f"no container engine answers at {url}")
    os.environ["DOCKER_HOST"] = _session_engine().url
    return os.environ["DOCKER_HOST"]


@functools.cache
def answers(url: str) -> bool:
    """Whether an engine does. Asked once in a session: nobody starts or ends one meanwhile."""
    try:
        with contextlib.closing(APIClient(base_url=url, version="auto", timeout=20)) as client:
            return bool(client.ping())
    except (docker.errors.DockerException, requests.exceptions.RequestException, OSError):
        return False


class Dockerd:
    """A dockerd of our own, with a containerd below it."""

    def __init__(self, state: Path, data: Path, *options: str) -> None:
        """`state`: for socket, log and what lives as long as it; `data`: for images and containers."""
        self._state = state
        self._data = data
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"unix://{self._state}/docker.sock"

    @property
    def _pid_file(self) -> Path:
        return self._state / "dockerd.pid"

    @property
    def log(self) -> Path:
        return self._state / "dockerd.log"

    def start(self) -> None:
        """Start it and wait until it answers. Raises AssertionError with the end of its log."""
        self._state.mkdir(parents=True, exist_ok=True)
        self._data.mkdir(parents=True, exist_ok=True)
        command = [
            "dockerd", "--host", self.url, "--data-root", str(self._data), "--exec-root", str(self._state / "exec"),
            "--pidfile", str(self._pid_file), *self._options,
        ]  # fmt: skip
        path = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # Proxies are the engine's own way to registries.
                env={"PATH": path, **{k: v for k, v in os.environ.items() if k.lower().endswith("_proxy")}},
                # Ctrl-C is for the tests, which end it when they have ended their containers.
                start_new_session=True,
            )
        end = time.monotonic() + START_TIMEOUT
        while not answers.__wrapped__(self.url):
            if self._process.poll() is not None or time.monotonic() > end:
                self.stop()
                raise AssertionError(f"dockerd does not start:\n{self.last_lines()}")
            time.sleep(0.2)

    def stop(self) -> None:
        """End it and all its containers, also where another session started it; says the end of its log where it
        died before."""
        process, self._process = self._process, None
        if process is not None and process.poll() is not None:
            print(f"dockerd ended with status {process.returncode}:\n{self.last_lines()}")
            return
        try:
            pid = process.pid if process is not None else int(self._pid_file.read_text())
            descriptor = os.pidfd_open(pid)
        except (FileNotFoundError, ProcessLookupError):
            return
        for each, patience in ((signal.SIGTERM, 45), (signal.SIGKILL, 5)):
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(descriptor, each)
            if select.select([descriptor], [], [], patience)[0]:
                break
        os.close(descriptor)
        if process is not None:
            process.wait()

    def last_lines(self) -> str:
        return self.log.read_text(errors="replace")[-5000:]


@functools.cache
def _session_engine() -> Dockerd:
    """Started, unless another session's answers. The last of the sessions that use it ends it."""
    engine = Dockerd(STATE, DATA)
    STATE.mkdir(parents=True, exist_ok=True)
    users = (STATE / "users").open("w")
    with locked(STATE / "lock"), untimed():
        if not answers.__wrapped__(engine.url):
            engine.start()
        fcntl.flock(users, fcntl.LOCK_SH)
    atexit.register(_leave, engine, users)
    return engine


def _leave(engine: Dockerd, users: IO[str]) -> None:
    with locked(STATE / "lock"):
        fcntl.flock(users, fcntl.LOCK_UN)
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
            engine.stop()


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """One session at a time in the block."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def untimed() -> Iterator[None]:
    """The time limit of the test that happens to be the first does not run while something is made for all."""
    left, interval = signal.setitimer(signal.ITIMER_REAL, 0)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, left, interval)
