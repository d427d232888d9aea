"""A real etcd on free ports in a temporary folder, which can be stopped, killed and started again."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest


def require_etcd() -> None:
    """Skip where etcd is missing, fail where MOOR_TEST_REAL=1 says that it must be there."""
    if shutil.which("etcd") is None:
        if os.environ.get("MOOR_TEST_REAL") == "1":
            pytest.fail("etcd is not installed")
        pytest.skip("etcd is not installed")


class Etcd:
    """One member. Its elections take 50 ms, so that leases may be as short as a second."""

    def __init__(self, folder: Path, *options: str) -> None:
        self._folder = folder
        self._options = options
        self.port, self._peer_port = _free_ports(2)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it and wait until it has a leader, itself."""
        scheme = "https" if any("--cert-file" in each for each in self._options) else "http"
        client, peer = f"{scheme}://{self.address}", f"http://127.0.0.1:{self._peer_port}"
        command = [
            "etcd", "--name", "test", "--data-dir", str(self._folder / "etcd"), "--log-level", "error",
            "--logger", "zap", "--listen-client-urls", client, "--advertise-client-urls", client,
            "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer,
            "--initial-cluster", f"test={peer}", "--heartbeat-interval", "10", "--election-timeout", "50",
            "--listen-metrics-urls", f"http://127.0.0.1:{self._metrics_port()}",
            *self._options,
        ]  # fmt: skip
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={"PATH": os.environ.get("PATH", os.defpath)},
            )
        end = time.monotonic() + 15
        while not self._healthy():
            assert self._process.poll() is None and time.monotonic() < end, self.last_lines()
            time.sleep(0.02)

    def stop(self) -> None:
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        self._end(signal.SIGKILL)

    def freeze(self) -> None:
        """It takes connections and answers nothing."""
        assert self._process
        self._process.send_signal(signal.SIGSTOP)
        threads = Path(f"/proc/{self._process.pid}/task")
        while not all(") T " in (each / "stat").read_text() for each in threads.iterdir()):
            time.sleep(0.001)

    def thaw(self) -> None:
        assert self._process
        self._process.send_signal(signal.SIGCONT)

    @property
    def log(self) -> Path:
        return self._folder / "etcd.log"

    def last_lines(self) -> str:
        return self.log.read_text(errors="replace")[-3000:]

    def _end(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)
            self._process.send_signal(number)
            self._process.wait(20)
            self._process = None

    def _metrics_port(self) -> int:
        (self._health_port,) = _free_ports(1)
        return self._health_port

    def _healthy(self) -> bool:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(f"http://127.0.0.1:{self._health_port}/health", timeout=2) as answer:
                return b'"true"' in answer.read()
        except OSError:
            return False


@contextlib.contextmanager
def running_etcd(*options: str) -> Iterator[Etcd]:
    """Started, and ended with the block; its log is shown when that fails."""
    require_etcd()
    folder = Path(tempfile.mkdtemp(prefix="moor-"))
    etcd = Etcd(folder, *options)
    try:
        etcd.start()
        yield etcd
    except BaseException:
        print(etcd.last_lines())
        raise
    finally:
        etcd.kill()
        shutil.rmtree(folder, ignore_errors=True)


def _free_ports(count: int) -> Sequence[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [each.getsockname()[1] for each in sockets]
