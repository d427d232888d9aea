"""A whole Mooring in a temporary folder, driven from the outside by the commands that people type.

The demo, the benchmarks and the acceptance tests all stand on it.
"""

import contextlib
import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MOOR = Path(sys.executable).with_name("moor")
SAMPLES = ROOT / "contrib" / "samples"


class NotReady(Exception):
    """The server did not come up; the message has its log."""


class Installation:
    """One server with its data folder, one user's key, and checkouts of apps to push."""

    def __init__(self, *, settings: dict[str, str] | None = None) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="moor-demo-"))
        # Apps run as users of their own, who must get through to the data folder below.
        self.folder.chmod(0o711)
        self.data = self.folder / "data"
        self.key = self.folder / "id_ed25519"
        self.http, self.ssh, self.api = free_ports(3)
        self.settings = settings or {}
        self.server: subprocess.Popen[bytes] | None = None
        self.env = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("MOOR_", "GIT_"))},
            "MOOR_DATA": str(self.data),
            "GIT_SSH_COMMAND": shlex.join(["ssh", *self.ssh_options(self.key)]),
            "GIT_CONFIG_GLOBAL": os.devnull,
        }

    def ssh_options(self, key: Path) -> list[str]:
        options = (
            "IdentitiesOnly=yes",
            "IdentityAgent=none",
            "StrictHostKeyChecking=accept-new",
            f"UserKnownHostsFile={self.folder}/known_hosts",
            "LogLevel=ERROR",
        )
        return ["-F", "none", "-i", str(key), *(word for each in options for word in ("-o", each))]

    # The server

    @property
    def log(self) -> Path:
        return self.folder / "server.log"

    def start(self) -> None:
        """Start the server and wait until it answers; raises NotReady."""
        self.launch()
        self.wait_until(self.answers, "the server answers")

    def launch(self) -> None:
        """Start the server."""
        command = [MOOR, "server", "--data", self.data]
        addresses = {"api": self.api, "ssh": self.ssh, "http": self.http}
        drivers = {"backend": "supervisor", "builder": "host"}  # whatever else this machine has
        given = {**{k: f"127.0.0.1:{v}" for k, v in addresses.items()}, **drivers, **self.settings}
        for name, value in given.items():
            command += [f"--{name}", value]
        (self.data / "server.json").unlink(missing_ok=True)
        with self.log.open("a") as log:
            self.server = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self.env,
                start_new_session=True,
            )

    def answers(self) -> bool:
        if self.server is not None and self.server.poll() is not None:
            raise NotReady(f"The server ended with status {self.server.returncode}:\n{self.last_lines()}")
        if not (self.data / "server.json").exists():
            return False
        try:
            with local_opener().open(f"http://127.0.0.1:{self.api}/v1/health", timeout=2):
                return True
        except OSError:
            return False

    def wait_until(self, condition: Callable[[], bool], what: str, *, timeout: float = 30) -> None:
        end = time.monotonic() + timeout
        while not condition():
            if time.monotonic() > end:
                raise NotReady(f"Waited {timeout:g} s in vain until {what}:\n{self.last_lines()}")
            time.sleep(0.02)

    def kill(self) -> None:
        """kill -9 of the server alone: what it can't do anything about."""
        assert self.server
        self.server.send_signal(signal.SIGKILL)
        self.server.wait()

    def last_lines(self, count: int = 40) -> str:
        try:
            return "\n".join(self.log.read_text(errors="replace").splitlines()[-count:])
        except OSError:
            return ""

    def remove(self) -> None:
        """End everything of it and take its folder away."""
        with contextlib.suppress(subprocess.SubprocessError, OSError):
            if (self.data / "server.lock").exists():
                self.run("moor", "server:stop", "--all", timeout=90)
        if self.server is not None and self.server.poll() is None:
            self.server.kill()
            self.server.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    # The user

    def command(self, words: tuple[str, ...]) -> list[str]:
        return [str(MOOR), *words[1:]] if words[0] == "moor" else list(words)

    def run(
        self,
        *words: str,
        folder: Path | None = None,
        check: bool = False,
        timeout: float = 180,
        stdin: str = "",
    ) -> subprocess.CompletedProcess[str]:
        """Run a command as the user; its output, both streams together, is in `stdout`."""
        return subprocess.run(
            self.command(words),
            cwd=folder or self.folder,
            env=self.env,
            text=True,
            errors="replace",
            check=check,
            timeout=timeout,
            input=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )

    def show(self, *words: str, folder: Path | None = None) -> None:
        """Run a command and print what it says as it comes, indented; raises CalledProcessError."""
        process = subprocess.Popen(
            self.command(words),
            cwd=folder or self.folder,
            env=self.env,
            text=True,
            errors="replace",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        assert process.stdout
        for line in process.stdout:
            print(f"       {line.rstrip()}", flush=True)
        if process.wait():
            raise subprocess.CalledProcessError(process.returncode, words)

    def moor(self, *words: str, folder: Path | None = None) -> str:
        """A `moor` command that has to succeed; returns what it printed."""
        done = self.run("moor", *words, folder=folder)
        if done.returncode:
            raise AssertionError(f"moor {shlex.join(words)} ended with {done.returncode}:\n{done.stdout}")
        return done.stdout

    def json(self, *words: str) -> object:
        """The JSON document that a `moor` command prints."""
        return json.loads(self.moor(*words, "--json"))

    def ssh_command(self, *words: str, key: Path | None = None) -> list[str]:
        """An admin command over ssh, as a command line."""
        return ["ssh", *self.ssh_options(key or self.key), "-p", str(self.ssh), "deploy@127.0.0.1", *words]

    def add_key(self, name: str = "demo") -> str:
        """Make the user's key pair and make it known; returns what `moor` said."""
        self.run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", str(self.key), check=True)
        return self.moor("ssh-keys:add", name, f"{self.key}.pub")

    def checkout(self, app: str, *, sample: str = "python-web") -> Path:
        """A repository with a sample app, committed, with the remote `deploy`."""
        folder = self.folder / app
        shutil.copytree(SAMPLES / sample, folder)
        self.run("git", "init", "-q", "-b", "master", folder=folder, check=True)
        self.run("git", "remote", "add", "deploy", self.remote(app), folder=folder, check=True)
        # Who looks around afterwards commits here too, perhaps on a machine where git knows no name yet.
        self.run("git", "config", "user.name", "Demo", folder=folder, check=True)
        self.run("git", "config", "user.email", "demo@localhost", folder=folder, check=True)
        self.commit(folder, "The first version")
        return folder

    def remote(self, app: str) -> str:
        return f"ssh://deploy@127.0.0.1:{self.ssh}/{app}.git"

    def commit(self, folder: Path, message: str, **files: str) -> str:
        """Write files (`app__py` stands for app.py), commit everything, return the commit's id."""
        for name, content in files.items():
            (folder / name.replace("__", ".")).write_text(content)
        self.run("git", "add", "--all", folder=folder, check=True)
        self.run("git", "commit", "-q", "--allow-empty", "-m", message, folder=folder, check=True)
        return self.run("git", "rev-parse", "HEAD", folder=folder, check=True).stdout.strip()

    def push(self, folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
        return self.run("git", "push", *(words or ("deploy", "master")), folder=folder)

    def get(self, app: str, path: str = "/") -> tuple[int, str]:
        """Status and page under the app's domain, through the router."""
        # The router decides by the Host header; asking 127.0.0.1 needs no name server.
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.http}{path}", headers={"Host": f"{app}.localhost"}
        )
        try:
            with local_opener().open(request, timeout=10) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()


def local_opener() -> urllib.request.OpenerDirector:
    return urllib.request.build_opener(urllib.request.ProxyHandler({}))


def free_ports(count: int) -> list[int]:
    """Different ports of 127.0.0.1 that nobody listens at now."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [each.getsockname()[1] for each in sockets]
