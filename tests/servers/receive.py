"""The SSH endpoint in this process, with a client that keeps the model in memory, and git as its visitor."""

import asyncio
import os
import subprocess
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import asyncssh

from builder.memory import MemoryBuilder
from builder.types import BuildOutput, BuildRequest
from controller.client import Change, Client, RolloutStep, ServiceInfo
from controller.config import Listen, Settings
from controller.errors import NotFound
from controller.names import Address
from controller.types import (
    Artifact,
    Build,
    BuildStatus,
    Definition,
    Right,
    Service,
    SshKey,
    User,
    Version,
    VersionStatus,
)
from controller.views import DiskSpace, Status, Variable, VariableSource
from gitreceive.command import CommandRequest
from gitreceive.server import GitReceive


@dataclass
class Model:
    """What the server would keep."""

    deployments: set[str] = field(default_factory=lambda: {"foo"})
    users: dict[str, User] = field(default_factory=lambda: {"ann": User(name="ann", admin=True)})
    services: dict[Address, Service] = field(default_factory=dict)
    versions: dict[Address, list[Version]] = field(default_factory=dict)
    builds: dict[str, Build] = field(default_factory=dict)
    logs: dict[str, list[str]] = field(default_factory=dict)
    failure: str = ""
    """The next rollouts fail with this sentence."""
    held: str | None = None
    """Releases make no version: the service is held, for this reason."""
    slow: float = 0.0
    """Seconds that a rollout says nothing."""
    rollout: asyncio.Event = field(default_factory=asyncio.Event)
    """Set once a version was released."""
    open_clients: int = 0


class ModelClient:
    """Acts on the model as one user would through the API. Only what a push needs."""

    def __init__(self, model: Model, user: str) -> None:
        self._model = model
        self._user = user
        model.open_clients += 1

    async def status(self) -> Status:
        usage = {"slugs": 30 * 1024**2, "caches": 50 * 1024**2, "logs": 0}
        space = DiskSpace(total=0, free=0, warning=0, reserve=0, usage=usage)
        return Status(version="1", api="", ssh="", http="", domain="", host_key_fingerprint="", disk=space)

    async def me(self) -> User:
        return self._model.users[self._user]

    async def services(self, deployment: str | None = None) -> Sequence[ServiceInfo]:
        if deployment not in self._model.deployments:
            raise NotFound(f"There is no app {deployment}.")
        return []

    async def service(self, address: Address) -> ServiceInfo:
        if address not in self._model.services:
            raise NotFound(f"There is no service {address}.")
        return ServiceInfo(
            service=self._model.services[address],
            domains=("foo.localhost",),
            urls=("http://foo.localhost:8080",),
            process_types={"web": 1},
            held=self._model.held,
            running=1,
        )

    async def ensure_service(self, address: Address) -> ServiceInfo:
        self._model.services.setdefault(address, Service(deployment=address.deployment, name=address.service))
        return await self.service(address)

    async def environment(self, address: Address) -> Sequence[Variable]:
        return [Variable(name="GREETING", value="hello", source=VariableSource.DEPLOYMENT)]

    async def version(self, address: Address, number: int) -> Version:
        return self._model.versions[address][number - 1]

    async def release(
        self,
        address: Address,
        artifact: Artifact,
        *,
        commit: str | None,
        origin: str = "",
        build: str | None,
        reason: str,
        variables: Mapping[str, str] | None = None,
        formation: Mapping[str, int] | None = None,
    ) -> Change:
        if self._model.held:
            return Change(version=None, held=self._model.held)
        versions = self._model.versions.setdefault(address, [])
        made = Version(
            deployment=address.deployment,
            service=address.service,
            number=len(versions) + 1,
            definition=Definition(),
            artifact=artifact,
            commit=commit,
            origin=origin,
            build=build,
            actor=self._user,
            reason=reason,
        )
        versions.append(made)
        self._model.rollout.set()
        return Change(version=made)

    async def follow(self, address: Address, number: int | None = None) -> AsyncIterator[RolloutStep]:
        assert number is not None
        model = self._model
        yield RolloutStep(text=f"start foo-app-{number}-web-1: v{number} wants it")
        await asyncio.sleep(model.slow)
        status = VersionStatus.FAILED if model.failure else VersionStatus.LIVE
        ended = replace(
            model.versions[address][number - 1],
            status=status,
            failure=model.failure,
            failure_log=("Traceback", "ImportError: no module named app") if model.failure else (),
        )
        model.versions[address][number - 1] = ended
        if status is VersionStatus.LIVE:
            model.services[address] = replace(model.services[address], current=number, target=number)
        yield RolloutStep(text="", done=True, version=ended)

    async def open_build(
        self, address: Address, *, commit: str | None, reason: str = "", waits_for: str = ""
    ) -> Build:
        build = Build(
            id=f"b{len(self._model.builds) + 1}",
            deployment=address.deployment,
            service=address.service,
            status=BuildStatus.QUEUED if waits_for else BuildStatus.RUNNING,
            commit=commit,
            actor=self._user,
            reason=reason,
            doing=waits_for,
            queued_at=datetime.now(UTC),
        )
        self._model.builds[build.id] = build
        return build

    async def touch_build(
        self, build: str, *, status: BuildStatus | None = None, doing: str | None = None
    ) -> Build:
        known = self._model.builds[build]
        if known.status.under_way:
            known = replace(
                known,
                status=status or known.status,
                doing=known.doing if doing is None else doing,
            )
        self._model.builds[build] = known
        return known

    async def append_build_log(self, build: str, lines: Sequence[str]) -> None:
        self._model.logs.setdefault(build, []).extend(lines)

    async def close_build(
        self, build: str, status: BuildStatus, *, error: str = "", artifact: Artifact | None = None
    ) -> Build:
        closed = replace(self._model.builds[build], status=status, error=error, artifact=artifact)
        self._model.builds[build] = closed
        return closed

    async def build(self, build: str) -> Build:
        return self._model.builds[build]

    async def close(self) -> None:
        self._model.open_clients -= 1


class GatedBuilder(MemoryBuilder):
    """Its builds wait while the gate is closed."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = asyncio.Event()
        self.gate.set()
        self.most = 0
        """Builds that were at work at the same time, at most."""
        self._inside = 0

    async def build(self, request: BuildRequest, out: BuildOutput) -> Artifact:
        out.step("At the gate")
        self.started.set()
        self._inside += 1
        self.most = max(self.most, self._inside)
        try:
            await self.gate.wait()
            return await super().build(request, out)
        finally:
            self._inside -= 1


@dataclass
class Visitor:
    """A person with a key and a work tree."""

    folder: Path
    key: Path
    port: int
    work: Path

    @property
    def environment(self) -> dict[str, str]:
        ssh = [
            *("ssh", "-F", "none", "-i", str(self.key), "-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes"),
            *("-o", "StrictHostKeyChecking=no", "-o", f"UserKnownHostsFile={self.folder / 'known_hosts'}"),
            *("-o", "LogLevel=ERROR"),
        ]
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.folder),
            "GIT_SSH_COMMAND": " ".join(ssh),
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_AUTHOR_NAME": "Ann",
            "GIT_AUTHOR_EMAIL": "ann@example.org",
            "GIT_COMMITTER_NAME": "Ann",
            "GIT_COMMITTER_EMAIL": "ann@example.org",
            "LC_ALL": "C",
        }

    def url(self, path: str = "foo.git") -> str:
        return f"ssh://deploy@127.0.0.1:{self.port}/{path}"

    def git(self, *arguments: str, folder: Path | None = None) -> str:
        """Run a local git command that must work; its output."""
        done = subprocess.run(
            ["git", *arguments],
            cwd=folder or self.work,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def commit(self, name: str = "Procfile", content: str = "web: python app.py\n", **changes: str) -> str:
        """Write a file and commit it; the commit's id."""
        (self.work / name).write_text(content)
        self.git("add", "-A")
        self.git("commit", "-q", "--allow-empty", "-m", changes.get("message", f"change {name}"))
        return self.git("rev-parse", "HEAD")

    async def start(self, *words: str, folder: Path | None = None) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            *words,
            cwd=folder or self.work,
            env=self.environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
        )

    async def run(self, *words: str, folder: Path | None = None, timeout: float = 30) -> tuple[int, str]:
        """Exit status and all output of a command that talks to the server."""
        process = await self.start(*words, folder=folder)
        async with asyncio.timeout(timeout):
            output, _ = await process.communicate()
        assert process.returncode is not None
        return process.returncode, output.decode()

    async def push(self, *arguments: str, path: str = "foo.git") -> tuple[int, str]:
        return await self.run("git", "push", self.url(path), *(arguments or ("HEAD:master",)))

    async def ssh(self, *words: str) -> tuple[int, str]:
        command = self.environment["GIT_SSH_COMMAND"].split()
        return await self.run(*command, "-p", str(self.port), "deploy@127.0.0.1", *words)


@dataclass
class Endpoint:
    """A running server with what is behind it."""

    server: GitReceive
    settings: Settings
    model: Model
    builder: GatedBuilder
    keys: dict[str, SshKey]
    commands: list[CommandRequest]
    folder: Path

    def visitor(self, user: str = "ann", name: str = "") -> Visitor:
        """Somebody with a key of that user and an empty work tree."""
        folder = self.folder / (name or user)
        folder.mkdir()
        key = asyncssh.generate_private_key("ssh-ed25519")
        key.write_private_key(folder / "key")
        (folder / "key").chmod(0o600)
        fingerprint = key.get_fingerprint()
        if user in self.model.users:
            self.keys[fingerprint] = SshKey(
                name=user,
                user=user,
                fingerprint=fingerprint,
                public_key=key.export_public_key().decode().strip(),
            )
        visitor = Visitor(folder, folder / "key", self.server.port, folder / "work")
        visitor.work.mkdir()
        visitor.git("init", "-q", "-b", "master")
        return visitor

    @property
    def repository(self) -> Path:
        return self.settings.folders.repositories / "foo/app.git"

    def stored(self) -> Mapping[str, str]:
        """The refs of foo's repository."""
        if not self.repository.exists():
            return {}
        listed = subprocess.run(
            ["git", "--git-dir", str(self.repository), "for-each-ref", "--format=%(refname) %(objectname)"],
            capture_output=True,
            text=True,
            check=True,
        )
        return dict(line.split() for line in listed.stdout.splitlines())

    def objects(self) -> Sequence[str]:
        """Every file of foo's object store, quarantines included."""
        store = self.repository / "objects"
        return sorted(str(each.relative_to(store)) for each in store.rglob("*") if each.is_file())

    def leftovers(self) -> Sequence[Path]:
        """What a push or a build may not leave behind."""
        folders = self.settings.folders
        return [
            *folders.repositories.glob("*/*.git/objects/tmp_*"),
            *folders.repositories.glob("*/*.git/objects/pack/tmp_*"),
            *folders.repositories.glob("*/.new-*"),
            *folders.repositories.glob("*/*.git/**/*.lock"),
            *folders.builds.glob("*"),
        ]

    async def settle(self) -> None:
        """Wait until no session is left."""
        async with asyncio.timeout(10):
            while self.server._sessions:
                await asyncio.sleep(0.01)


async def _echo(request: CommandRequest) -> int:
    request.stdout.write(f"{request.user}: {' '.join(request.argv)}\n".encode())
    return 3 if request.argv[:1] == ("fail",) else 0


async def start_endpoint(folder: Path, run_command: Any = _echo, **settings: Any) -> Endpoint:
    """A server below `folder`; close it with `endpoint.server.close()`."""
    chosen = Settings(
        **{"data": folder / "data", "ssh": Listen("127.0.0.1", 0), "disk_reserve": 0, **settings}
    )
    model, builder = Model(), GatedBuilder()
    model.users["bob"] = User(name="bob", rights={"foo": Right.VIEW})
    model.users["eve"] = User(name="eve")
    keys: dict[str, SshKey] = {}
    commands: list[CommandRequest] = []

    async def run(request: CommandRequest) -> int:
        commands.append(request)
        return int(await run_command(request))

    def connect(user: str) -> Client:
        client: Any = ModelClient(model, user)
        return client  # type: ignore[no-any-return]

    server = GitReceive(chosen, find_key=keys.get, connect=connect, builder=builder, run_command=run)
    chosen.data.mkdir()
    await server.start()
    return Endpoint(server, chosen, model, builder, keys, commands, folder)
