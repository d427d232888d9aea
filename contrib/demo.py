"""The main job, seen from the outside: `make demo` (or `make demo KEEP=1` to look around afterwards).

Everything happens in a temporary folder and on free loopback ports, by the same commands that a user
would type; nothing is left behind.
"""

import argparse
import asyncio
import contextlib
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path

from contrib.bench.load import Load

HERE = Path(__file__).resolve().parent
MOOR = Path(sys.executable).with_name("moor")
APP = "hello"
COLOR = sys.stdout.isatty() and "NO_COLOR" not in os.environ


def main() -> int:
    parser = argparse.ArgumentParser(description="Show a git push, from the outside.")
    parser.add_argument("--keep", action="store_true", help="leave server and app running")
    demo = Demo()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    keep = parser.parse_args().keep
    try:
        demo.run()
        if keep:
            demo.explain()
    except KeyboardInterrupt:
        print()
        say(" !     Interrupted: cleaning up.")
        keep = False
        return 130
    except subprocess.CalledProcessError as error:
        say(f" !     This failed: {shlex.join(map(str, error.cmd))}")
        print(error.output or "", demo.server_log(), sep="\n")
        keep = False
        return 1
    except DemoFailed as error:
        say(f" !     {error}")
        print(demo.server_log())
        keep = False
        return 1
    finally:
        if not keep:
            demo.clean_up()
    return 0


class DemoFailed(Exception):
    """The demo did not see what it should."""


class Demo:
    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="moor-demo-"))
        # Apps run as users of their own, who must get through to the data folder below.
        self.folder.chmod(0o711)
        self.data = self.folder / "data"
        self.checkout = self.folder / APP
        self.key = self.folder / "id_ed25519"
        self.http = self.ssh = 0
        self.env = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("MOOR_", "GIT_"))},
            "MOOR_DATA": str(self.data),
            "GIT_SSH_COMMAND": shlex.join(
                ["ssh", "-i", str(self.key), "-o", "IdentitiesOnly=yes", "-o", "IdentityAgent=none",
                 "-o", "StrictHostKeyChecking=accept-new", "-o", f"UserKnownHostsFile={self.folder}/known_hosts",
                 "-o", "LogLevel=ERROR"]
            ),
            "GIT_CONFIG_GLOBAL": os.devnull,
            "GIT_AUTHOR_NAME": "Demo", "GIT_AUTHOR_EMAIL": "demo@localhost",
            "GIT_COMMITTER_NAME": "Demo", "GIT_COMMITTER_EMAIL": "demo@localhost",
        }  # fmt: skip

    def run(self) -> None:
        """The story, in the order in which it is told."""
        say("=====> Mooring: from git push to a served page")
        self.start_server()
        self.add_key()
        self.create_app()
        self.commit_sample()
        self.push()
        self.fetch("Hello")
        self.push_under_load()
        self.roll_back()

    def start_server(self) -> None:
        self.http, self.ssh, api = free_ports(3)
        say(f"-----> Starting a server: apps at 127.0.0.1:{self.http}, git and ssh at 127.0.0.1:{self.ssh}")
        log = (self.folder / "server.log").open("w")
        self.server = subprocess.Popen(
            [MOOR, "server", "--data", self.data, "--api", f"127.0.0.1:{api}",
             "--ssh", f"127.0.0.1:{self.ssh}", "--http", f"127.0.0.1:{self.http}"],
            stdout=log, stderr=log, env=self.env, start_new_session=True,
        )  # fmt: skip
        for _ in range(300):
            if (self.data / "server.json").exists() and self.quietly("moor", "status").returncode == 0:
                break
            if self.server.poll() is not None:
                raise DemoFailed("The server did not start; its log says:")
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.server.wait(0.1)
        else:
            raise DemoFailed("The server did not answer within 30 seconds; its log says:")

    def add_key(self) -> None:
        say("-----> Adding a fresh SSH key")
        self.quietly(
            "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "demo", "-f", str(self.key), check=True
        )
        self.show("moor", "ssh-keys:add", "demo", f"{self.key}.pub")

    def create_app(self) -> None:
        say(f"-----> Creating the app {APP}")
        self.show("moor", "create", APP)

    def commit_sample(self) -> None:
        say(
            "-----> Committing a sample web app: " + ", ".join(sorted(each.name for each in SAMPLE.iterdir()))
        )
        shutil.copytree(SAMPLE, self.checkout)
        self.quietly("git", "init", "-q", "-b", "master", check=True)
        self.quietly(
            "git", "remote", "add", "deploy", f"ssh://deploy@127.0.0.1:{self.ssh}/{APP}.git", check=True
        )
        self.commit("The first version")

    def commit(self, message: str) -> None:
        self.quietly("git", "add", "--all", check=True)
        self.quietly("git", "commit", "-q", "-m", message, check=True)

    def push(self) -> None:
        say("-----> git push deploy master")
        self.show("git", "push", "deploy", "master")

    def fetch(self, expected: str) -> str:
        address = f"http://{APP}.localhost:{self.http}/"
        say(f"-----> curl {address}")
        # The router decides by the Host header; asking 127.0.0.1 spares the demo any name server.
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.http}/", headers={"Host": f"{APP}.localhost"}
        )
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=10) as answer:
            page: str = answer.read().decode()
        for line in page.strip().splitlines():
            print(f"       {line}")
        if expected not in page:
            raise DemoFailed(f"The page does not say {expected!r}.")
        return page

    def push_under_load(self) -> None:
        say("-----> Changing the app and pushing again, with 200 requests a second on it")
        source = self.checkout / "version.txt"
        source.write_text("2\n")
        self.commit("The second version")

        async def push() -> object:
            async with Load(self.http, f"{APP}.localhost", rate=200) as result:
                await asyncio.sleep(0.5)
                await asyncio.to_thread(self.show, "git", "push", "deploy", "master")
                await asyncio.sleep(0.5)
            return result

        result = asyncio.run(push())
        self.fetch("2")
        say(f"-----> {result}")
        if result.failed:
            raise DemoFailed("Requests failed while the new version took over.")

    def roll_back(self) -> None:
        say("-----> moor rollback")
        self.show("moor", "rollback", "-a", APP)
        self.fetch("1")

    def explain(self) -> None:
        say("=====> Left running, as you asked. Next, try:")
        for line in (
            f"export MOOR_DATA={self.data}",
            f"export GIT_SSH_COMMAND={shlex.quote(self.env['GIT_SSH_COMMAND'])}",
            f"PATH={MOOR.parent}:$PATH",
            f"cd {self.checkout}",
            "moor ps:scale web=3",
            "moor config:set GREETING=Ahoy",
            f"curl http://{APP}.localhost:{self.http}/",
            "moor logs -t",
            "echo 3 > version.txt; git commit -am third; git push deploy master",
            f"moor server:stop --all && rm -rf {self.folder}      # when you are done",
        ):
            print(f"       {line}")

    def clean_up(self) -> None:
        with contextlib.suppress(BaseException):
            if (self.data / "server.lock").exists():
                self.quietly("moor", "server:stop", "--all", timeout=60)
        server = getattr(self, "server", None)
        if server is not None and server.poll() is None:
            server.kill()
            server.wait()
        shutil.rmtree(self.folder, ignore_errors=True)
        say("=====> Stopped everything and removed " + str(self.folder))

    def server_log(self) -> str:
        try:
            return "\n".join((self.folder / "server.log").read_text().splitlines()[-40:])
        except OSError:
            return ""

    def command(self, words: tuple[str, ...]) -> list[str]:
        return [str(MOOR), *words[1:]] if words[0] == "moor" else list(words)

    def quietly(
        self, *words: str, check: bool = False, timeout: float = 120
    ) -> subprocess.CompletedProcess[str]:
        folder = self.checkout if self.checkout.exists() else self.folder
        return subprocess.run(
            self.command(words), cwd=folder, env=self.env, text=True, check=check, timeout=timeout,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip

    def show(self, *words: str) -> None:
        """Run a command and show what it prints as it comes, indented."""
        folder = self.checkout if self.checkout.exists() else self.folder
        process = subprocess.Popen(
            self.command(words), cwd=folder, env=self.env, text=True, errors="replace",
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        assert process.stdout
        for line in process.stdout:
            print(f"       {line.rstrip()}", flush=True)
        if process.wait():
            raise subprocess.CalledProcessError(process.returncode, words)


SAMPLE = HERE / "samples" / "python-web"


def say(text: str) -> None:
    print(f"\033[1m{text}\033[0m" if COLOR else text, flush=True)


def free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [each.getsockname()[1] for each in sockets]


if __name__ == "__main__":
    sys.exit(main())
