"""Pushes to Mooring's SSH endpoint, beside OpenSSH's sshd with `git receive-pack`.

The client is git with OpenSSH's ssh; key exchange and cipher are the same for both. Both check that the
push is connected. Ours pushes to a branch that does not deploy, so that nothing is built; its repository
is made by the push, sshd's is there already. The two are measured in turn. Memory is the sum of PSS
(proportional set size: a shared page counts for its share) over the server's process tree, sampled.

    python -m contrib.bench.receive [--rounds 7] [--cases small,wide,history,large,eight] [--json]

Needs git, openssh-client and openssh-server (Debian packages of these names). Leaves nothing behind.
"""

import argparse
import asyncio
import json
import os
import random
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import asyncssh

from builder.memory import MemoryBuilder
from cli.server import run_loop
from controller.config import Listen, Settings
from controller.errors import NotFound
from controller.names import Address
from controller.types import SshKey, User
from gitreceive.command import CommandRequest
from gitreceive.server import GitReceive

KEX = "curve25519-sha256"
CIPHER = "aes128-gcm@openssh.com"
MEMORY_TARGET = 120.0
SAMPLE_INTERVAL = 0.02
SSHD = "/usr/sbin/sshd"
_SSHD_CONFIG = """
Port {port}
ListenAddress 127.0.0.1
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/authorized_keys
PidFile none
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
MaxStartups 100
PrintMotd no
SetEnv HOME={folder}/home
"""


@dataclass(frozen=True)
class Case:
    """One kind of push."""

    name: str
    title: str
    target: float
    """Our time over sshd's must not be more."""
    make: Callable[[Path], None]
    at_once: int = 1
    rounds: float = 1.0
    """Share of the rounds: a long one is done less often."""


@dataclass(frozen=True)
class Result:
    case: str
    objects: int
    pack_mib: float
    sshd_seconds: float
    ours_seconds: float
    ratio: float
    target: float
    ours_mib: float
    sshd_mib: float
    rounds: int

    @property
    def good(self) -> bool:
        return self.ratio <= self.target and self.ours_mib <= MEMORY_TARGET


# What is pushed


def small(folder: Path) -> None:
    _write_history(folder, commits=1, files=20, size=1500)


def wide(folder: Path) -> None:
    _write_history(folder, commits=1, files=5000, size=4000)


def history(folder: Path) -> None:
    _write_history(folder, commits=11_600, files=1200, size=3000)


def large(folder: Path) -> None:
    run("git", "init", "-q", "-b", "feature", str(folder))
    for number in range(3):
        (folder / f"file{number}").write_bytes(random.Random(number).randbytes(60_000_000))
    run("git", "-C", str(folder), "add", ".")
    run(
        "git",
        "-C",
        str(folder),
        "-c",
        "user.name=Bench",
        "-c",
        "user.email=b@example.org",
        "commit",
        "-qm",
        "x",
    )
    run("git", "-C", str(folder), "-c", "core.compression=0", "repack", "-adq")


def _write_history(folder: Path, *, commits: int, files: int, size: int) -> None:
    """A repository of source-like text: a first commit of all files, then small edits of two files each.

    The same every time: the generator has a fixed seed, the commits fixed dates.
    """
    chance = random.Random(2)
    words = [
        "".join(chance.choices("abcdefghijklmnopqrstuvwxyz_", k=chance.randint(3, 12))) for _ in range(3000)
    ]
    lines = [f"    {' '.join(chance.choices(words, k=chance.randint(2, 9)))}" for _ in range(20_000)]
    paths = [f"package{n % 12}/module{n % 97}/file{n}.py" for n in range(files)]
    content = {path: [chance.choice(lines) for _ in range(size // 42)] for path in paths}
    run("git", "init", "-q", "-b", "feature", str(folder))
    importer = subprocess.Popen(
        ["git", "-C", str(folder), "fast-import", "--quiet"], stdin=subprocess.PIPE, env=git_environment()
    )
    assert importer.stdin is not None
    for number in range(commits):
        edited = paths if number == 0 else chance.sample(paths, 2)
        who = f"Bench <bench@example.org> {1_600_000_000 + number * 600} +0000"
        importer.stdin.write(
            f"commit refs/heads/feature\ncommitter {who}\ndata <<X\nchange {number}\nX\n".encode()
        )
        for path in edited:
            if number:
                at = chance.randrange(len(content[path]))
                content[path][at : at + chance.randint(0, 2)] = [f"{chance.choice(lines)} {number}"]
            data = ("\n".join(content[path]) + "\n").encode()
            importer.stdin.write(f"M 100644 inline {path}\ndata {len(data)}\n".encode() + data + b"\n")
        importer.stdin.write(b"\n")
    importer.stdin.close()
    if importer.wait():
        raise SystemExit("git fast-import failed")
    run("git", "-C", str(folder), "repack", "-a", "-d", "-f", "-q")


CASES = (
    Case("small", "20 files", 0.8, small),
    Case("wide", "5,000 files, 20 MB", 1.1, wide, rounds=0.7),
    Case("history", "history of 95,000 objects", 1.1, history, rounds=0.5),
    Case("large", "3 files, 180 MB", 1.1, large, rounds=0.4),
    Case("eight", "8 small pushes at once", 0.5, small, at_once=8, rounds=2),
)


# The two servers


@dataclass(frozen=True)
class Target:
    """A running server and how to push to it."""

    pid: int
    url: Callable[[str], str]
    prepare: Callable[[str], None]
    remove: Callable[[str], None]


@contextmanager
def sshd(folder: Path, port: int) -> Iterator[Target]:
    """OpenSSH's server, for the user who runs this."""
    (folder / "home").mkdir()
    Path("/run/sshd").mkdir(exist_ok=True)
    shutil.copy(folder.parent / "key.pub", folder / "authorized_keys")
    run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / "host_key"))
    (folder / "config").write_text(_SSHD_CONFIG.format(port=port, folder=folder))
    log = (folder / "log").open("wb")
    process = subprocess.Popen([SSHD, "-D", "-e", "-f", str(folder / "config")], stderr=log)
    try:
        wait_for_port(port)
        user = run("id", "-un")
        yield Target(
            process.pid,
            lambda name: f"ssh://{user}@127.0.0.1:{port}{folder}/{name}.git",
            lambda name: make_bare(folder / f"{name}.git"),
            lambda name: shutil.rmtree(folder / f"{name}.git"),
        )
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()
        log.close()


def make_bare(path: Path) -> None:
    run("git", "init", "-q", "--bare", str(path))


@contextmanager
def mooring(folder: Path, port: int) -> Iterator[Target]:
    """Our server, in a process of its own."""
    process = subprocess.Popen(
        [sys.executable, "-m", "contrib.bench.receive", "--serve", str(folder), "--port", str(port)],
        cwd=Path(__file__).parents[2],
    )
    repositories = Settings(data=folder).folders.repositories
    try:
        wait_for_port(port)
        yield Target(
            process.pid,
            lambda name: f"ssh://git@127.0.0.1:{port}/bench/{name}.git",
            lambda name: None,
            lambda name: shutil.rmtree(repositories / f"bench/{name}.git"),
        )
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


class Everybody:
    """The controller's client as far as a push needs it that deploys nothing."""

    async def me(self) -> User:
        return User(name="bench", admin=True)

    async def service(self, address: Address) -> None:
        raise NotFound(f"There is no service {address}.")

    async def services(self, deployment: str) -> Sequence[Any]:
        return []

    async def close(self) -> None:
        """Nothing is open."""


async def serve(folder: Path, port: int) -> None:
    """Run our endpoint until SIGTERM; whoever has the bench's key may push."""
    text = (folder.parent / "key.pub").read_text()
    fingerprint = asyncssh.import_public_key(text).get_fingerprint()
    keys = {fingerprint: SshKey(name="bench", user="bench", fingerprint=fingerprint, public_key=text)}
    everybody: Any = Everybody()

    async def no_commands(request: CommandRequest) -> int:
        return 1

    server = GitReceive(
        Settings(data=folder, ssh=Listen("127.0.0.1", port), disk_reserve=0),
        find_key=keys.get,
        connect=lambda user: everybody,
        builder=MemoryBuilder(),
        run_command=no_commands,
    )
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    await server.start()
    await stopped.wait()
    await server.close()


# Measuring


class Memory:
    """The highest PSS of a process tree while the block runs, in MiB."""

    def __init__(self, root: int) -> None:
        self._root = root
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sample)
        self.peak = 0.0

    def __enter__(self) -> "Memory":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _sample(self) -> None:
        while not self._stop.wait(SAMPLE_INTERVAL):
            self.peak = max(self.peak, sum(map(_pss, _tree(self._root))))


def _pss(pid: int) -> float:
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) / 1024
    except OSError:
        pass  # it has ended
    return 0.0


def _tree(root: int) -> list[int]:
    """Without children on their way to an exec: they still have their parent's very memory (vfork)."""
    found = [root]
    for pid in found:
        try:
            mine = _command(pid)
            for task in Path(f"/proc/{pid}/task").iterdir():
                children = map(int, (task / "children").read_text().split())
                found += [each for each in children if _command(each) != mine]
        except OSError:
            continue
    return found


def _command(pid: int) -> bytes:
    return Path(f"/proc/{pid}/cmdline").read_bytes()


def measure(case: Case, folder: Path, rounds: int) -> Result:
    """Push in turn to both, each time to a fresh repository."""
    source = folder / f"source-{case.name}"
    case.make(source)
    count = dict(
        line.split(": ") for line in run("git", "-C", str(source), "count-objects", "-v").splitlines()
    )
    seconds: dict[str, list[float]] = {"ours": [], "sshd": []}
    memory: dict[str, float] = {"ours": 0.0, "sshd": 0.0}
    with ExitStack() as stack:
        targets: dict[str, Target] = {}
        for name, start in (("ours", mooring), ("sshd", sshd)):
            (folder / f"{case.name}-{name}").mkdir()
            targets[name] = stack.enter_context(start(folder / f"{case.name}-{name}", free_port()))
        for number in range(-1, rounds):  # the first is for warming up
            for name in ("ours", "sshd") if number % 2 else ("sshd", "ours"):
                with Memory(targets[name].pid) as watched:
                    taken = _push(case, source, targets[name], folder)
                memory[name] = max(memory[name], watched.peak)
                if number >= 0:
                    seconds[name].append(taken)
    shutil.rmtree(source)
    ours, theirs = statistics.median(seconds["ours"]), statistics.median(seconds["sshd"])
    return Result(
        case=case.title,
        objects=int(count["in-pack"]),
        pack_mib=round(int(count["size-pack"]) / 1024, 1),
        sshd_seconds=round(theirs, 3),
        ours_seconds=round(ours, 3),
        ratio=round(ours / theirs, 2),
        target=case.target,
        ours_mib=round(memory["ours"], 1),
        sshd_mib=round(memory["sshd"], 1),
        rounds=rounds,
    )


def _push(case: Case, source: Path, target: Target, folder: Path) -> float:
    names = [f"r{number}" for number in range(case.at_once)]
    for name in names:
        target.prepare(name)
    os.sync()
    began = time.perf_counter()
    pushes = [
        subprocess.Popen(
            ["git", "-C", str(source), "push", "-q", target.url(name), "feature"],
            env=git_environment(folder),
            stderr=subprocess.PIPE,
        )
        for name in names
    ]
    answers = [push.communicate()[1] for push in pushes]
    taken = time.perf_counter() - began
    if any(push.returncode for push in pushes):
        raise SystemExit(f"{case.title}: a push failed: {b''.join(answers).decode()}")
    for name in names:
        target.remove(name)
    return taken


def git_environment(folder: Path | None = None) -> dict[str, str]:
    """For the client: no settings of this machine, the same ssh for both servers."""
    ssh = ["ssh", "-F", "none", "-o", f"KexAlgorithms={KEX}", "-o", f"Ciphers={CIPHER}"]
    ssh += ["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR"]
    ssh += ["-o", "HostKeyAlgorithms=ssh-ed25519", "-i", f"{folder}/key", "-o", "IdentitiesOnly=yes"]
    return {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": "/nonexistent",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_SSH_COMMAND": " ".join(ssh),
    }


def run(*words: str) -> str:
    """A command that must work; its output."""
    return subprocess.run(
        words, check=True, capture_output=True, text=True, env=git_environment()
    ).stdout.strip()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for_port(port: int, timeout: float = 20.0) -> None:
    deadline = time.monotonic() + timeout
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        else:
            return


def show(results: Sequence[Result]) -> None:
    print(f"push, {KEX} and {CIPHER}; medians; memory is the peak PSS of the server's process tree")
    print(
        f"{'':28}{'objects':>8}{'pack':>9}{'sshd':>9}{'ours':>9}{'ratio':>7}{'target':>8}{'ours':>9}{'sshd':>9}"
    )
    for each in results:
        print(
            f"{each.case:28}{each.objects:8}{each.pack_mib:5.1f} MiB"
            f"{each.sshd_seconds:7.3f} s{each.ours_seconds:7.3f} s"
            f"{each.ratio:7.2f}{'≤' if each.ratio <= each.target else '✗':>4}{each.target:4.1f}"
            f"{each.ours_mib:5.0f} MiB{each.sshd_mib:5.0f} MiB"
        )


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=7, help="pushes to each server; long cases take fewer")
    parser.add_argument("--cases", default=",".join(case.name for case in CASES))
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        run_loop(serve(options.serve, options.port))
        return 0
    wanted = options.cases.split(",")
    with tempfile.TemporaryDirectory(prefix="moor-bench-") as name:
        folder = Path(name)
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / "key"))
        results = [
            measure(case, folder, max(3, round(options.rounds * case.rounds)))
            for case in CASES
            if case.name in wanted
        ]
    if options.json:
        print(json.dumps([asdict(each) for each in results], indent=2))
    else:
        show(results)
    return 0 if all(each.good for each in results) else 1


if __name__ == "__main__":
    sys.exit(main())
