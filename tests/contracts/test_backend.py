"""One suite for every backend, then what only a backend with real processes can get wrong."""

import asyncio
import ipaddress
import itertools
import json
import os
import secrets
import shutil
import signal
import socket
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing, suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from docker import APIClient

from controller.backends.base import Backend, BackendError, InstanceSpec, SupportsLogs, SupportsShutdown
from controller.backends.docker.backend import DockerBackend
from controller.backends.keeper import client as keeper_client
from controller.backends.keeper.groups import Groups
from controller.backends.keeper.processes import Census, Family, read_process
from controller.backends.memory import Behaviour, MemoryBackend, MemoryWorld
from controller.backends.supervisor import SupervisorBackend
from controller.engine import Engine
from controller.logs.query import LogQuery, Pattern, read
from controller.types import Artifact, ArtifactKind, Instance, InstanceState, Limits, LogLine, LogSource
from tests.contracts.engine import engine_url, runner_image

UID = 42001
DIES = "exit 3"
SERVES = "/usr/bin/python3 -m http.server --bind 127.0.0.1 $PORT"
TALKS = 'exec tail -n +1 -F "$SAID"'


def spec(number: int = 1, **changes: Any) -> InstanceSpec:
    process_type = changes.get("process_type", "web")
    values: dict[str, Any] = {
        "id": f"foo-app-3-{process_type}-{number}",
        "deployment": "foo",
        "service": "app",
        "version": 3,
        "process_type": process_type,
        "number": number,
        "generation": 7,
        "artifact": Artifact(kind=ArtifactKind.SLUG, reference="0" * 64),
        "command": "exec sleep 1000",
    }
    return InstanceSpec(**values | changes)


async def eventually(found: Callable[[], Awaitable[Any]], within: float = 15.0) -> Any:
    """The first true answer."""
    deadline = time.monotonic() + within
    while not (answer := await found()):
        assert time.monotonic() < deadline, "it never came to pass"
        await asyncio.sleep(0.02)
    return answer


async def seen(backend: Backend, name: str) -> Instance | None:
    return {each.id: each for each in (await backend.observe()).instances}.get(name)


async def running(backend: Backend, name: str) -> Instance:
    async def look() -> Instance | None:
        found = await seen(backend, name)
        return found if found and found.state is InstanceState.RUNNING else None

    found: Instance = await eventually(look)
    return found


def running_here(command: str) -> set[int]:
    """Processes of this machine, in whatever container, that run exactly that and are ours: nobody else does."""
    wanted = "\0".join([*command.split(), ""]).encode()
    found = set()
    for each in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            if each.read_bytes() == wanted:
                found.add(int(each.parent.name))
    return found


class MemoryRig:
    def __init__(self) -> None:
        self._world = MemoryWorld()
        self._started = time.monotonic()

    def backend(self) -> MemoryBackend:
        def behaviour(wanted: InstanceSpec) -> Behaviour:
            exits = int(wanted.command.split()[-1]) if wanted.once and "exit" in wanted.command else None
            return Behaviour(dies="exited with status 3" if wanted.command == DIES else "", exits=exits)

        return MemoryBackend(world=self._world, behaviour=behaviour, now=self._now)

    def _now(self) -> datetime:
        # A hundred times faster, so that back-off takes no time.
        return datetime.fromtimestamp(1_800_000_000 + (time.monotonic() - self._started) * 100, UTC)

    def talking(self, number: int, **changes: Any) -> InstanceSpec:
        return spec(number, **changes)

    def gave(self, address: str | None) -> bool:
        return address == "127.0.0.1"

    def crash(self, instance: Instance) -> None:
        self.backend().crash(instance.id, "killed by SIGKILL")

    def say(self, backend: Backend, name: str, text: str) -> None:
        assert isinstance(backend, MemoryBackend)
        backend.say(name, text)

    async def close(self) -> None:
        assert self._world.instances == {}


class SupervisorRig:
    """Real processes, below a folder that any user may pass through."""

    def __init__(self) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="moor-"))
        self.root.chmod(0o755)
        self.slug = self.home = self.root / "slug"
        self.groups = True
        self.slug.mkdir()
        self.slug.chmod(0o755)

    def backend(self) -> SupervisorBackend:
        async def prepare(_: InstanceSpec) -> Path:
            return self.slug

        return SupervisorBackend(
            folder=self.root / "supervisor",
            logs=self.root / "logs",
            prepare=prepare,
            volumes=self.root / "volumes",
            groups=self.groups,
        )

    def file(self, name: str, text: str) -> Path:
        path = self.slug / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        return path

    def talking(self, number: int, **changes: Any) -> InstanceSpec:
        wanted = spec(number, command=TALKS, **changes)
        said = self.root / f"{wanted.id}.said"
        said.touch()
        return replace(wanted, env={"SAID": str(said)})

    def say(self, _: Backend, name: str, text: str) -> None:
        with (self.root / f"{name}.said").open("a") as file:
            file.write(text + "\n")

    def gave(self, address: str | None) -> bool:
        return address == "127.0.0.1"

    def left(self, command: str) -> set[int]:
        """Processes below us or our keeper whose command line is that."""
        return running_here(command)

    def pid(self, name: str) -> int:
        return int((self.root / "supervisor" / "instances" / f"{name}.pid").read_text().split()[1])

    def keeper(self) -> int:
        return int((self.root / "supervisor" / "supervisord.pid").read_text())

    def crash(self, instance: Instance) -> None:
        os.kill(self.pid(instance.id), signal.SIGKILL)

    def processes(self, name: str = "") -> set[int]:
        """Of that instance, or of all."""
        realm = (self.root / "supervisor" / "realm").read_text()
        return Family(f"{realm}/{name}").members(Census.take())

    async def kill_keeper(self) -> None:
        os.kill(self.keeper(), signal.SIGKILL)
        lock = self.root / "supervisor" / "lock"
        while keeper_client.is_locked(lock):
            await asyncio.sleep(0.01)

    async def close(self) -> None:
        for name in ("supervisord.log", "output.log"):
            path = self.root / "supervisor" / name
            print(name, path.read_text() if path.exists() else "is missing", sep=":\n")
        if (self.root / "supervisor" / "realm").exists():
            keeper = self.keeper() if (self.root / "supervisor" / "supervisord.pid").exists() else None
            await self.backend().shutdown()
            assert self.processes() == set()
            realm = (self.root / "supervisor" / "realm").read_text()
            assert control_groups(realm) == [], "control groups are left"
            left = read_process(keeper) if keeper else None
            assert left is None or left.zombie
        shutil.rmtree(self.root)


class DockerRig:
    """Containers of a realm of their own, which run what is in a folder here."""

    home = Path("/app")
    """Where an app finds its slug."""

    def __init__(self) -> None:
        self.url = engine_url()
        self.image = runner_image(self.url)
        self.realm = f"test{secrets.token_hex(4)}"
        self.root = Path(tempfile.mkdtemp(prefix="moor-"))
        self.root.chmod(0o755)
        self.slug = self.root / "slug"
        self.slug.mkdir()
        self.slug.chmod(0o755)
        self.file("Procfile", "web: x\n")  # the runner fills an empty folder from its input
        self.client = APIClient(base_url=self.url, version="auto")
        self.made: list[DockerBackend] = []

    def backend(self, **changes: Any) -> DockerBackend:
        async def prepare(_: InstanceSpec) -> Path:
            return self.slug

        values: dict[str, Any] = {
            "folder": self.root / "docker",
            "logs": self.root / "logs",
            "prepare": prepare,
            "volumes": self.root / "volumes",
            "engine": Engine(self.url),
            "realm": self.realm,
            "runner_image": self.image,
        }
        self.made.append(DockerBackend(**(values | changes)))
        return self.made[-1]

    def file(self, name: str, text: str) -> Path:
        path = self.slug / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        return path

    def talking(self, number: int, **changes: Any) -> InstanceSpec:
        wanted = spec(number, command=TALKS, **changes)
        self.file(f"{wanted.id}.said", "")
        return replace(wanted, env={"SAID": str(self.home / f"{wanted.id}.said")})

    def say(self, _: Backend, name: str, text: str) -> None:
        with (self.slug / f"{name}.said").open("a") as file:
            file.write(text + "\n")

    def gave(self, address: str | None) -> bool:
        return address is not None and ipaddress.ip_address(address) in ipaddress.ip_network("10.201.0.0/16")

    def left(self, command: str) -> set[int]:
        return running_here(command)

    def inspect(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = self.client.inspect_container(f"mooring-{self.realm}-{name}")
        return found

    def pid(self, name: str) -> int:
        """As this machine knows it, not the container."""
        return int(self.inspect(name)["State"]["Pid"])

    def crash(self, instance: Instance) -> None:
        os.kill(self.pid(instance.id), signal.SIGKILL)

    def containers(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.client.containers(
            all=True, filters={"label": f"mooring.realm={self.realm}"}
        )
        return found

    async def close(self) -> None:
        for each in self.made:
            await each.close()
        last = self.backend()
        await last.shutdown()
        await last.close()
        label = {"label": f"mooring.realm={self.realm}"}
        assert self.containers() == []
        assert self.client.networks(filters=label) == []
        assert not self.client.volumes(filters=label)["Volumes"]
        self.client.close()
        shutil.rmtree(self.root)


Rig = MemoryRig | SupervisorRig | DockerRig
REAL_RIGS = [pytest.param(each, marks=pytest.mark.real) for each in (SupervisorRig, DockerRig)]


def rig_name(made: type[Rig]) -> str:
    return made.__name__.removesuffix("Rig").lower()


@pytest.fixture(params=[MemoryRig, *REAL_RIGS], ids=rig_name)
async def rig(request: pytest.FixtureRequest) -> AsyncIterator[Rig]:
    rig: Rig = request.param()
    yield rig
    for each in (await rig.backend().observe()).instances:
        await rig.backend().stop(each.id, grace=0)
    await rig.close()


@pytest.fixture
async def real() -> AsyncIterator[SupervisorRig]:
    rig = SupervisorRig()
    yield rig
    for each in (await rig.backend().observe()).instances:
        await rig.backend().stop(each.id, grace=0)
    await rig.close()


# The contract


async def test_nothing_runs_at_first(rig: Rig) -> None:
    observation = await rig.backend().observe()
    assert (tuple(observation.instances), observation.unreachable) == ((), frozenset())


async def test_started_instance_is_observed_with_all_that_was_said_of_it(rig: Rig) -> None:
    backend = rig.backend()
    started = await backend.start(spec(wants_port=True))
    found = await running(backend, started.id)
    assert (found.deployment, found.service, found.version, found.process_type, found.number) == (
        *("foo", "app", 3, "web", 1),
    )
    assert (found.generation, found.address, found.restarts, found.detail) == (7, started.address, 0, "")
    assert rig.gave(found.address)
    assert found.port == started.port
    assert found.started_at is not None and found.started_at.tzinfo is UTC


async def test_starting_again_changes_nothing(rig: Rig) -> None:
    backend = rig.backend()
    first = await backend.start(spec(wants_port=True))
    again = await backend.start(spec(wants_port=True))
    assert (again.port, again.started_at, again.restarts) == (first.port, first.started_at, 0)
    assert len((await backend.observe()).instances) == 1


async def test_later_look_may_tell_only_what_has_changed(rig: Rig) -> None:
    """Put together, the looks tell the same as one at everything."""
    backend = rig.backend()
    names, known, cursor = [spec(number=number).id for number in (1, 2, 3)], dict[str, Instance](), ""
    steps: list[Callable[[], Awaitable[Any]]] = [
        lambda: backend.start(spec(number=1)),
        lambda: backend.start(spec(number=2)),
        lambda: backend.stop(names[0], grace=5),
        lambda: backend.start(spec(number=3)),
    ]
    for step in steps:
        await step()
        for name in names:
            if await seen(backend, name):
                await running(backend, name)
        look = await backend.observe(after=cursor)
        if look.complete:
            known = {}
        known = {name: each for name, each in known.items() if name not in look.gone}
        known |= {each.id: each for each in look.instances}
        cursor = look.cursor
    last = await backend.observe(after=cursor)
    assert last.complete or not (last.instances or last.gone)
    assert known == {each.id: each for each in (await backend.observe()).instances}


async def test_another_specification_under_the_same_id_is_refused(rig: Rig) -> None:
    backend = rig.backend()
    await backend.start(spec())
    with pytest.raises(BackendError) as caught:
        await backend.start(spec(env={"NEW": "1"}))
    assert not caught.value.retryable


async def test_stopped_instance_is_gone_and_may_start_again(rig: Rig) -> None:
    backend = rig.backend()
    name = (await backend.start(spec())).id
    await backend.stop(name, grace=5)
    assert await seen(backend, name) is None
    await backend.start(spec(env={"NEW": "1"}))
    assert await running(backend, name)


async def test_stopping_what_is_unknown_does_nothing(rig: Rig) -> None:
    await rig.backend().stop("foo-app-9-web-9", grace=5)


async def test_another_controller_adopts_what_runs(rig: Rig) -> None:
    first = rig.backend()
    started = await first.start(spec(wants_port=True))
    await first.close()
    second = rig.backend()
    found = await running(second, started.id)
    assert (found.address, found.port) == (started.address, started.port)
    assert (found.generation, found.restarts) == (7, 0)
    await second.stop(started.id, grace=5)
    assert await seen(second, started.id) is None


async def test_every_instance_has_an_address_and_port_of_its_own(rig: Rig) -> None:
    backend = rig.backend()
    started = await asyncio.gather(*(backend.start(spec(each, wants_port=True)) for each in range(1, 11)))
    assert len({(each.address, each.port) for each in started}) == 10
    assert all(rig.gave(each.address) and each.port for each in started)
    portless = await backend.start(spec(11))
    assert (portless.address, portless.port) == (None, None)


@pytest.mark.real
@pytest.mark.parametrize("made", REAL_RIGS, ids=rig_name)
async def test_volume_belongs_to_the_user_of_the_app_and_stays_over_versions(made: type[Any]) -> None:
    rig = made()
    backend = rig.backend()
    wanted = spec(
        uid=UID, volumes={"my-data": "/srv/data"}, command='id -u >> "$VOLUME_MY_DATA/users"; exec sleep 1000'
    )
    users = rig.root / "volumes" / "foo" / "app" / "my-data" / "users"

    async def written() -> Sequence[str]:
        return users.read_text().split() if users.exists() else ()

    try:
        await backend.start(wanted)
        assert await eventually(written) == [str(UID)]
        await backend.stop(wanted.id, grace=5)
        await backend.start(replace(wanted, id="foo-app-4-web-1", version=4))

        async def both() -> bool:
            return await written() == [str(UID)] * 2

        assert await eventually(both)
        assert users.stat().st_uid == users.parent.stat().st_uid == UID
        if made is DockerRig:
            mounts = rig.inspect("foo-app-4-web-1")["Mounts"]
            assert str(users.parent) in {
                each["Source"] for each in mounts if each["Destination"] == "/srv/data"
            }
    finally:
        for each in (await backend.observe()).instances:
            await backend.stop(each.id, grace=0)
        await rig.close()


async def exited(backend: Backend, name: str) -> Instance:
    async def look() -> Instance | None:
        found = await seen(backend, name)
        return found if found and found.state is InstanceState.EXITED else None

    found: Instance = await eventually(look)
    return found


@pytest.mark.parametrize("code", [0, 3])
async def test_what_is_started_once_exits_and_stays_so_until_it_is_stopped(rig: Rig, code: int) -> None:
    backend = rig.backend()
    once = spec(process_type="run", command=f"exit {code}", once=True)
    await backend.start(once)
    found = await exited(backend, once.id)
    assert (found.exit_code, found.detail, found.once) == (code, f"exited with status {code}", True)
    again = await backend.start(once)
    assert (again.state, again.exit_code) == (InstanceState.EXITED, code)
    await asyncio.sleep(1.2)
    assert (await exited(backend, once.id)).restarts == 0
    await backend.stop(once.id, grace=5)
    assert await seen(backend, once.id) is None


async def test_what_is_started_once_may_be_stopped_while_it_runs(rig: Rig) -> None:
    backend = rig.backend()
    once = spec(process_type="run", once=True)
    await backend.start(once)
    assert (await running(backend, once.id)).once
    await backend.stop(once.id, grace=5)
    assert await seen(backend, once.id) is None


async def test_instance_that_exits_at_its_start_is_crashed_and_says_why(rig: Rig) -> None:
    backend = rig.backend()
    name = (await backend.start(spec(command=DIES))).id

    async def crashed() -> Instance | None:
        found = await seen(backend, name)
        return found if found and found.state is InstanceState.CRASHED else None

    assert (await eventually(crashed)).detail.startswith("exited with status 3")


async def test_instance_that_keeps_dying_is_crash_looping_and_says_when_it_starts_again(rig: Rig) -> None:
    backend = rig.backend()
    name = (await backend.start(spec(command=DIES))).id

    async def looping() -> Instance | None:
        found = await seen(backend, name)
        return found if found and found.state is InstanceState.CRASH_LOOPING and found.next_start_at else None

    found = await eventually(looping, within=60)
    assert found.restarts >= 4
    assert found.detail.startswith("exited with status 3")
    assert found.next_start_at is not None and found.next_start_at.tzinfo is UTC


async def test_crashed_instance_is_started_again(rig: Rig) -> None:
    backend = rig.backend()
    first = await running(backend, (await backend.start(spec(wants_port=True))).id)
    rig.crash(first)

    async def restarted() -> Instance | None:
        found = await seen(backend, first.id)
        return found if found and found.restarts == 1 and found.state is InstanceState.RUNNING else None

    found = await eventually(restarted)
    assert (found.address, found.port) == (first.address, first.port)


async def test_shutdown_leaves_nothing(rig: Rig) -> None:
    backend = rig.backend()
    assert isinstance(backend, SupportsShutdown)
    await asyncio.gather(*(backend.start(spec(each)) for each in range(1, 4)))
    await backend.shutdown()
    assert (await rig.backend().observe()).instances == ()


async def lines_of(backend: Backend, **changes: Any) -> list[LogLine]:
    assert isinstance(backend, SupportsLogs)
    query = LogQuery(deployment="foo", service="app", **changes)
    return [each async for each in backend.logs(query).past() if each.source is LogSource.APP]


async def test_lines_of_all_instances_come_in_order_and_by_filter(rig: Rig) -> None:
    backend = rig.backend()
    web, worker = rig.talking(1), rig.talking(1, process_type="worker")
    for wanted in (web, worker):
        await backend.start(wanted)
    for number, wanted in zip(range(6), itertools.cycle((web, worker)), strict=False):
        rig.say(backend, wanted.id, f"line {number}")

        async def kept(count: int = number + 1) -> bool:
            return len(await lines_of(backend)) == count

        await eventually(kept)
    assert [each.text for each in await lines_of(backend)] == [f"line {each}" for each in range(6)]
    assert [each.text for each in await lines_of(backend, lines=2)] == ["line 4", "line 5"]
    assert [each.text for each in await lines_of(backend, lines=None)][:2] == ["line 0", "line 1"]
    assert [each.text for each in await lines_of(backend, pattern=Pattern("LINE*3"))] == ["line 3"]
    assert await lines_of(backend, sources=frozenset({LogSource.ROUTER})) == []
    third = (await lines_of(backend))[3].time
    assert [each.text for each in await lines_of(backend, since=third)] == ["line 3", "line 4", "line 5"]
    assert [each.text for each in await lines_of(backend, until=third)] == ["line 0", "line 1", "line 2"]
    assert await lines_of(backend, lines=0) == []
    assert {each.process for each in await lines_of(backend, process="worker")} == {"worker.1"}
    assert {each.instance for each in await lines_of(backend, instance=web.id)} == {web.id}
    await backend.stop(web.id, grace=5)
    assert len(await lines_of(backend, process="web.1")) == 3, "lines outlive their instance"


async def test_following_sees_new_lines_and_new_instances(rig: Rig) -> None:
    backend = rig.backend()
    await backend.start(rig.talking(1))
    rig.say(backend, rig.talking(1).id, "before")

    async def kept() -> bool:
        return bool(await lines_of(backend))

    await eventually(kept)
    got: list[str] = []
    assert isinstance(backend, SupportsLogs)
    follow = read(backend.logs(LogQuery(deployment="foo", service="app")), follow=True)
    async with asyncio.timeout(15), aclosing(follow) as lines:  # type: ignore[type-var]
        async for line in lines:
            if line.source is not LogSource.APP:
                continue
            got.append(line.text)
            if line.text == "before":
                rig.say(backend, line.instance, "after")
            if line.text == "after":
                other = rig.talking(2)
                await backend.start(other)
                rig.say(backend, other.id, "another")
            if line.text == "another":
                break
    assert got == ["before", "after", "another"]


# Out of reach


async def test_unreachable_host_is_named_and_its_instances_stay() -> None:
    backend = MemoryBackend()
    await backend.start(spec())
    backend.set_reachable(False)
    assert (await backend.observe()).unreachable == frozenset({"local"})
    with pytest.raises(BackendError):
        await backend.stop(spec().id, grace=0)
    backend.set_reachable(True)
    assert [each.id for each in (await backend.observe()).instances] == [spec().id]


@pytest.mark.real
async def test_supervisor_that_hangs_is_an_error_and_not_an_empty_answer(
    real: SupervisorRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = real.backend()
    await backend.start(spec())
    os.kill(real.keeper(), signal.SIGSTOP)
    try:
        monkeypatch.setattr(keeper_client, "ANSWER_TIMEOUT", 0.3)
        with pytest.raises(BackendError, match="did not answer"):
            await backend.observe()
    finally:
        os.kill(real.keeper(), signal.SIGCONT)
    monkeypatch.undo()
    assert len((await backend.observe()).instances) == 1


# What an app sees of us

REPORT = """
import json, os, resource
print("reporting", flush=True)
json.dump({
    "env": dict(os.environ), "cwd": os.getcwd(), "ids": [os.getresuid(), os.getresgid(), os.getgroups()],
    "umask": os.umask(0), "session": os.getsid(0) == os.getpid(), "core": resource.getrlimit(resource.RLIMIT_CORE),
    "fds": sorted(os.listdir("/proc/self/fd")), "stdin": os.readlink("/proc/self/fd/0"),
    "ignored": [l for l in open("/proc/self/status") if l.startswith("SigIgn")][0].split()[1],
}, open(os.environ["TMPDIR"] + "/part", "w"))
os.rename(os.environ["TMPDIR"] + "/part", os.environ["TMPDIR"] + "/report")
os.execlp("sleep", "sleep", "1000")
"""


async def reported(real: SupervisorRig, wanted: InstanceSpec) -> dict[str, Any]:
    real.file("report.py", REPORT)
    await real.backend().start(replace(wanted, command="/usr/bin/python3 report.py"))
    path = real.root / "supervisor" / "tmp" / wanted.id / "report"

    async def there() -> bool:
        return path.exists()

    await eventually(there)
    found: dict[str, Any] = json.loads(path.read_text())
    return found


@pytest.mark.real
async def test_app_sees_nothing_of_the_server(real: SupervisorRig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOOR_SECRET_OF_SERVER", "x")
    report = await reported(real, spec(wants_port=True, env={"GREETING": "hello"}))
    of_shell = {"PWD", "SHLVL", "_"}
    ours = {"PATH", "HOME", "LANG", "USER", "LOGNAME", "SHELL", "TMPDIR", "PORT", "MOOR_RUN", "GREETING"}
    assert set(report["env"]) - of_shell == ours
    assert report["env"]["HOME"] == report["cwd"] == str(real.slug)
    assert report["fds"] == ["0", "1", "2", "3"], "the fourth is the listing's own"
    assert (report["stdin"], report["umask"], report["session"]) == ("/dev/null", 0o022, True)
    assert report["core"] == [0, 0]
    ignored = {number for number in range(1, 65) if int(report["ignored"], 16) >> (number - 1) & 1}
    of_python = {signal.SIGPIPE, signal.SIGXFSZ}
    of_libc = {32, 33}  # ignored in what make starts; nobody but the C library itself can set them
    assert ignored <= of_python | of_libc


@pytest.mark.real
async def test_environment_arrives_as_it_was_set(real: SupervisorRig) -> None:
    env = {
        "LINES": "one\ntwo\n",
        "QUOTES": "\"'`\\",
        "PERCENT": "%(here)s %s 100%",
        "SHELLISH": "$(id) $HOME ; # & |",
        "UNICODE": "Grüße 🚀",
        "EMPTY": "",
        "SPACES": "  both ends  ",
        "CONTROL": "\x01\x1b[0m\t\r",
        "LARGE": "x" * 100_000,
        "PATH": "/usr/bin:/bin:/opt/of-the-app",
    }
    report = await reported(real, spec(env=env))
    assert {name: report["env"][name] for name in env} == env


@pytest.mark.real
@pytest.mark.parametrize("value", ["nul\0", "x" * 200_000, "\ud800"])
async def test_value_that_no_process_can_have_is_refused(real: SupervisorRig, value: str) -> None:
    with pytest.raises(BackendError, match="BAD") as caught:
        await real.backend().start(spec(env={"BAD": value}))
    assert not caught.value.retryable


@pytest.mark.real
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can run apps as somebody else")
async def test_app_runs_as_its_user_and_reaches_nothing_of_ours(real: SupervisorRig) -> None:
    report = await reported(real, spec(uid=UID, env={"SECRET": "x"}))
    assert report["ids"] == [[UID] * 3, [UID] * 3, []]
    supervisor, logs = real.root / "supervisor", real.root / "logs"

    async def printed() -> bool:
        return bool(await lines_of(real.backend()))

    await eventually(printed)
    for path in (supervisor / "instances", logs, supervisor / "supervisor.sock"):
        assert path.stat().st_uid == 0
        assert path.stat().st_mode & 0o077 == 0
    for path in (supervisor, supervisor / "tmp"):
        assert path.stat().st_mode & 0o777 == 0o711
    temporary = supervisor / "tmp" / spec().id
    assert (temporary.stat().st_uid, temporary.stat().st_mode & 0o777) == (UID, 0o700)
    await real.backend().stop(spec().id, grace=5)
    assert not temporary.exists()


@pytest.mark.real
async def test_profile_scripts_are_sourced_before_the_command(real: SupervisorRig) -> None:
    real.file(".profile.d/a.sh", "export FROM_PROFILE=1 PATH=$HOME/bin:$PATH")
    report = await reported(real, spec())
    assert report["env"]["FROM_PROFILE"] == "1"
    assert report["env"]["PATH"].startswith(f"{real.slug}/bin:")


# Stopping

STUBBORN = """
import os, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
open(os.environ["READY"], "w").close()
time.sleep(1000)
"""
POLITE = """
import os, signal, sys, time
def leave(*_):
    print("leaving", flush=True); time.sleep(float(os.environ.get("TAKES", 0))); sys.exit(0)
signal.signal(signal.SIGTERM, leave)
open(os.environ["READY"], "w").close()
while True: time.sleep(1000)
"""


async def start_ready(real: SupervisorRig, wanted: InstanceSpec) -> None:
    """Start it and wait for the file that it makes when it is ready."""
    ready = real.root / f"{wanted.id}.ready"
    await real.backend().start(replace(wanted, env={**wanted.env, "READY": str(ready)}))

    async def there() -> bool:
        return ready.exists()

    await eventually(there)


@pytest.mark.real
@pytest.mark.parametrize(
    "command",
    [
        "python3 polite.py",
        "X=1 python3 polite.py 2>&1",
        "true && python3 polite.py",
        "cd . ; python3 polite.py",
    ],
)
async def test_app_receives_the_signal_and_may_finish(real: SupervisorRig, command: str) -> None:
    real.file("polite.py", POLITE)
    await start_ready(real, spec(command=command, env={"TAKES": "0.3"}))
    began = time.monotonic()
    await real.backend().stop(spec().id, grace=10)
    assert 0.25 < time.monotonic() - began < 5
    assert "leaving" in [each.text for each in await lines_of(real.backend())]


LATE = """
import os, signal, sys, time
def leave(*_):
    time.sleep(0.5)  # the shell has ended by then
    for number in range(20_000): print("saved", number)
    sys.exit(0)
signal.signal(signal.SIGTERM, leave)
open(os.environ["READY"], "w").close()
while True: time.sleep(1000)
"""


@pytest.mark.real
async def test_what_is_printed_after_the_shell_has_ended_is_kept(real: SupervisorRig) -> None:
    real.file("late.py", LATE)
    await start_ready(real, spec(command="X=1 python3 late.py 2>&1; true"))
    await real.backend().stop(spec().id, grace=10)
    texts = [each.text for each in await lines_of(real.backend(), lines=30_000)]
    assert [each for each in texts if each.startswith("saved")] == [
        f"saved {number}" for number in range(20_000)
    ]


@pytest.mark.real
async def test_simple_command_replaces_its_shell(real: SupervisorRig) -> None:
    real.file("polite.py", POLITE)
    await start_ready(real, spec(command="python3 polite.py"))
    assert Path(f"/proc/{real.pid(spec().id)}/comm").read_text() == "python3\n"
    assert len(real.processes(spec().id)) == 1


@pytest.mark.real
async def test_ten_that_ignore_the_signal_are_killed_after_one_grace(real: SupervisorRig) -> None:
    real.file("stubborn.py", STUBBORN)
    wanted = [spec(each, command="python3 stubborn.py") for each in range(1, 11)]
    await asyncio.gather(*(start_ready(real, each) for each in wanted))
    backend = real.backend()
    began = time.monotonic()
    await asyncio.gather(*(backend.stop(each.id, grace=1) for each in wanted))
    assert 1 <= time.monotonic() - began < 8
    assert real.processes() == set()


DAEMONISES = """
import os, subprocess, sys, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        for fd in range(3): os.close(fd)
        time.sleep(1000)
    os._exit(0)
os.wait()
subprocess.Popen(["sleep", "1000"], env={} if "bare" in sys.argv else None, start_new_session=True)
time.sleep(0.1)
open(os.environ["READY"], "w").close()
time.sleep(1000)
"""


def below(pid: int) -> set[int]:
    """Who descends from that process."""
    census = Census.take()
    return census.living(census.below({pid}) - {pid})


@pytest.mark.real
async def test_what_an_app_has_daemonised_goes_with_it(real: SupervisorRig) -> None:
    real.file("daemonises.py", DAEMONISES)
    await start_ready(real, spec(command="python3 daemonises.py bare"))
    assert len(below(real.keeper())) == 3
    before = below(real.keeper())
    await real.backend().stop(spec().id, grace=2)
    assert not Census.take().living(before)


@pytest.mark.real
async def test_workers_of_a_master_that_died_are_gone_before_it_starts_again(real: SupervisorRig) -> None:
    real.file("daemonises.py", DAEMONISES)
    await start_ready(real, spec(command="python3 daemonises.py"))
    before = below(real.keeper())
    os.kill(real.pid(spec().id), signal.SIGKILL)

    async def all_gone() -> bool:
        return not Census.take().living(before)

    await eventually(all_gone)


# Killed at any moment


@pytest.mark.real
async def test_killed_supervisor_is_replaced_and_nothing_runs_twice(real: SupervisorRig) -> None:
    backend = real.backend()
    started = await asyncio.gather(
        *(backend.start(spec(n, wants_port=True, command=SERVES)) for n in (1, 2, 3))
    )
    ports = {each.id: each.port for each in started}
    for each in started:
        await running(backend, each.id)
    before = real.processes()
    await real.kill_keeper()
    assert real.processes() == before, "instances go on without their keeper"
    healed = (await real.backend().observe()).instances
    assert {each.id: each.port for each in healed} == ports
    for each in started:
        await running(backend, each.id)
    assert not real.processes() & before
    assert len(real.processes()) == 3


@pytest.mark.real
async def test_after_a_reboot_everything_comes_back_on_its_port(real: SupervisorRig) -> None:
    backend = real.backend()
    first = await running(backend, (await backend.start(spec(wants_port=True, command=SERVES))).id)
    await real.kill_keeper()
    for pid in real.processes():
        os.kill(pid, signal.SIGKILL)
    assert (await running(real.backend(), first.id)).port == first.port


@pytest.mark.real
async def test_supervisor_killed_amid_a_stop_does_not_start_it_again(real: SupervisorRig) -> None:
    real.file("stubborn.py", STUBBORN)
    await start_ready(real, spec(command="python3 stubborn.py"))
    stopping = asyncio.create_task(real.backend().stop(spec().id, grace=60))

    async def told() -> bool:
        found = await seen(real.backend(), spec().id)
        return found is not None and found.state is InstanceState.STOPPING

    await eventually(told)
    stopping.cancel()
    await real.kill_keeper()
    assert await seen(real.backend(), spec().id) is None
    assert real.processes() == set()


@pytest.mark.real
async def test_controller_killed_amid_a_stop_leaves_it_stopping(real: SupervisorRig) -> None:
    real.file("polite.py", POLITE)
    await start_ready(real, spec(command="python3 polite.py", env={"TAKES": "0.5"}))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await real.backend().stop(spec().id, grace=10)

    async def gone() -> bool:  # the keeper hears a moment later that the process has ended
        return not real.processes() and await seen(real.backend(), spec().id) is None

    await eventually(gone)


@pytest.mark.real
async def test_crowd_of_starts_and_stops_leaves_the_supervisor_as_it_was(real: SupervisorRig) -> None:
    backend = real.backend()
    await backend.observe()
    keeper = real.keeper()

    async def come_and_go(number: int) -> None:
        for _ in range(3):
            await backend.start(spec(number, wants_port=True))
            await asyncio.gather(*(backend.stop(spec(number).id, grace=5) for _ in range(3)))

    await asyncio.gather(*(come_and_go(each) for each in range(1, 9)))
    assert (await backend.observe()).instances == ()
    assert real.keeper() == keeper
    assert not (real.root / "supervisor" / "output.log").read_text()


@pytest.mark.real
async def test_two_controllers_at_once_start_one_supervisor(real: SupervisorRig) -> None:
    await asyncio.gather(*(real.backend().start(spec(each)) for each in range(1, 6)))
    assert len((await real.backend().observe()).instances) == 5
    assert {read_process(each).parent for each in real.processes()} == {real.keeper()}  # type: ignore[union-attr]


@pytest.mark.real
async def test_port_that_somebody_else_has_is_passed_over(real: SupervisorRig) -> None:
    async def prepare(_: InstanceSpec) -> Path:
        return real.slug

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        backend = SupervisorBackend(
            folder=real.root / "supervisor",
            logs=real.root / "logs",
            prepare=prepare,
            volumes=real.root / "volumes",
            ports=range(port, port + 1),
        )
        with pytest.raises(BackendError, match="No port from") as caught:
            await backend.start(spec(wants_port=True))
        assert caught.value.retryable
    assert (await backend.start(spec(wants_port=True))).port == port


@pytest.mark.real
async def test_decoys_in_the_folders_of_apps_and_supervisor_are_not_imported(real: SupervisorRig) -> None:
    for folder in (real.slug, real.root / "supervisor"):
        for name in ("controller", "supervisor"):
            (folder / name).mkdir(parents=True)
            (folder / name / "__init__.py").write_text("raise SystemExit('decoy')")
    assert await running(real.backend(), (await real.backend().start(spec())).id)


@pytest.mark.real
async def test_one_broken_file_does_not_keep_the_others_down(real: SupervisorRig) -> None:
    await real.backend().start(spec())
    await real.kill_keeper()
    (real.root / "supervisor" / "instances" / "broken.json").write_text("{")
    assert [each.id for each in (await real.backend().observe()).instances] == [spec().id]


@pytest.mark.real
async def test_supervisor_that_can_not_start_says_why(real: SupervisorRig) -> None:
    obstacle = real.root / "supervisor" / "supervisord.conf"
    obstacle.mkdir(parents=True)
    with pytest.raises(BackendError, match=r"(?s)does not stay up.*IsADirectoryError"):
        await real.backend().observe()
    obstacle.rmdir()
    assert (await real.backend().observe()).instances == ()


@pytest.mark.real
async def test_path_too_long_for_a_socket_is_said_so(tmp_path: Path) -> None:
    async def prepare(_: InstanceSpec) -> Path:
        return tmp_path

    backend = SupervisorBackend(
        folder=tmp_path / ("x" * 100), logs=tmp_path / "logs", prepare=prepare, volumes=tmp_path / "volumes"
    )
    with pytest.raises(BackendError, match="too long for a unix socket") as caught:
        await backend.observe()
    assert not caught.value.retryable


@pytest.mark.real
async def test_missing_folder_shows_as_a_crash_with_its_reason_in_the_log(real: SupervisorRig) -> None:
    backend = real.backend()
    await backend.start(spec())
    await backend.stop(spec().id, grace=1)
    real.slug.rmdir()
    await backend.start(spec())

    async def told() -> bool:
        return any("can't be started" in each.text for each in await lines_of(backend))

    await eventually(told)


# What is printed


@pytest.mark.real
async def test_whatever_is_printed_is_kept_as_lines(real: SupervisorRig) -> None:
    real.file(
        "prints.py",
        "import os, time\n"
        "os.write(1, b'out\\n'); os.write(2, b'err\\n')\n"
        "os.write(1, b'par'); time.sleep(0.2); os.write(1, b'tial\\r\\n')\n"
        "os.write(1, b'\\xff\\x00binary\\n\\n')\n"
        "rest = b'z' * 1_000_000 + b'\\n'\n"
        "while rest: rest = rest[os.write(1, rest):]\n"
        "os.write(1, b'no newline at the end')\n",
    )
    backend = real.backend()
    await backend.start(spec(command="exec python3 prints.py"))

    async def exited() -> bool:
        found = backend.logs(LogQuery(deployment="foo", service="app")).past()
        return any(each.source is LogSource.SYSTEM for each in [line async for line in found])

    await eventually(exited)
    query = LogQuery(deployment="foo", service="app", lines=1000)
    all_lines = [each async for each in backend.logs(query).past()]
    texts = [each.text for each in all_lines][: [each.source for each in all_lines].index(LogSource.SYSTEM)]
    assert texts[:5] == ["out", "err", "partial", "\ufffd\0binary", ""]
    assert "".join(texts[5:-1]) == "z" * 1_000_000
    assert texts[-1] == "no newline at the end"
    assert next(each.text for each in all_lines if each.source is LogSource.SYSTEM) == "exited with status 0"


# What is started once, over the death of its keeper


async def test_outcome_is_kept_over_the_death_of_the_keeper(real: SupervisorRig) -> None:
    backend = real.backend()
    once = spec(process_type="run", command="echo x >>ran; exit 5", once=True)
    real.slug.chmod(0o777)
    await backend.start(once)
    await exited(backend, once.id)
    await real.kill_keeper()
    found = await exited(backend, once.id)
    assert (found.exit_code, found.detail) == (5, "exited with status 5")
    assert (real.slug / "ran").read_text() == "x\n"


async def test_what_a_killed_keeper_ran_once_is_not_run_again_and_its_outcome_is_unknown(
    real: SupervisorRig,
) -> None:
    backend = real.backend()
    once = spec(process_type="run", command="echo x >>ran; sleep 1000", once=True)
    await backend.start(once)

    async def ran() -> bool:
        return (real.slug / "ran").exists()

    await eventually(ran)
    await real.kill_keeper()
    found = await exited(backend, once.id)
    assert found.exit_code is None
    assert "not known" in found.detail
    assert (real.slug / "ran").read_text() == "x\n"
    assert real.processes(once.id) == set()


async def test_signal_that_ended_it_is_told_as_a_shell_does(real: SupervisorRig) -> None:
    backend = real.backend()
    once = spec(process_type="run", command="kill -9 $$", once=True)
    await backend.start(once)
    assert (await exited(backend, once.id)).exit_code == 137


async def test_what_it_left_in_the_background_ends_with_it(real: SupervisorRig) -> None:
    backend = real.backend()
    once = spec(process_type="run", command="setsid sleep 1000 & exit 0", once=True)
    await backend.start(once)
    await exited(backend, once.id)

    async def nothing_left() -> bool:
        return real.processes(once.id) == set()

    await eventually(nothing_left)


# Limits

MIB = 1024**2
HOG = (
    "exec /usr/bin/python3 -c 'import time; time.sleep(0.5); held = bytearray(200_000_000); time.sleep(1000)'"
)
FORKS = """exec /usr/bin/python3 -c '
import subprocess, time
held = []
try:
    for _ in range(60):
        held.append(subprocess.Popen(["/bin/sleep", "1000"]))
    print("started all", flush=True)
except OSError as error:
    print("refused after", len(held), flush=True)
time.sleep(1000)'
"""


def groups_of(rig: SupervisorRig, name: str = "") -> list[Path]:
    realm = (rig.root / "supervisor" / "realm").read_text()
    found = (each / name for each in control_groups(realm) if each.name == realm)
    return sorted(each for each in found if each.exists())


def control_groups(realm: str) -> list[Path]:
    """Those of the realm, and of what it has beside itself. Others come and go while they are looked for."""
    folders = (Path(folder) for folder, _, _ in os.walk("/sys/fs/cgroup"))
    return [each for each in folders if each.parent.name == "mooring" and each.name.startswith(realm)]


def need_groups() -> None:
    """Skip where this machine's control groups can't be had, fail where they must be there."""
    usable = Groups.find("probe")
    missing = {"memory", "pids", "cpu"} - usable.trees.keys()
    usable.close()
    if missing and os.environ.get("MOOR_TEST_REAL") == "1" and os.geteuid() == 0:
        pytest.fail(f"no control groups for {missing}")
    if missing:
        pytest.skip(f"no control groups for {missing}")


@pytest.fixture(params=["groups", "watched"])
async def limiting(request: pytest.FixtureRequest, real: SupervisorRig) -> SupervisorRig:
    """Each way to keep limits."""
    if request.param == "groups":
        need_groups()
    real.groups = request.param == "groups"
    return real


@pytest.mark.real
async def test_instance_that_takes_too_much_memory_is_killed_and_says_so(limiting: SupervisorRig) -> None:
    backend = limiting.backend()
    name = (await backend.start(spec(command=HOG, limits=Limits(memory=64 * MIB)))).id

    async def killed() -> Instance | None:
        found = await seen(backend, name)
        return found if found and found.detail else None

    found = await eventually(killed, within=30)
    assert found.detail.startswith("killed: used more than its limit of 64 MiB")
    assert "killed: used more than its limit of 64 MiB" in (await texts(backend))


async def texts(backend: Backend) -> list[str]:
    assert isinstance(backend, SupportsLogs)
    return [each.text async for each in backend.logs(LogQuery(deployment="foo", service="app")).past()]


@pytest.mark.real
async def test_instance_below_its_limits_is_left_alone(limiting: SupervisorRig) -> None:
    backend = limiting.backend()
    limits = Limits(memory=256 * MIB, pids=20, cpu=1.5, nofile=512)
    name = (await backend.start(spec(command="ulimit -n; ulimit -Hn; exec sleep 1000", limits=limits))).id
    await running(backend, name)
    await asyncio.sleep(2.5)
    found = await running(backend, name)
    assert (found.restarts, found.detail) == (0, "")
    assert await texts(backend) == ["512", "512"]


@pytest.mark.real
async def test_instance_can_not_have_more_processes_than_its_limit(limiting: SupervisorRig) -> None:
    backend = limiting.backend()
    name = (await backend.start(spec(command=FORKS, limits=Limits(pids=20)))).id

    async def held() -> bool:
        found = await seen(backend, name)
        said = await texts(backend)
        return any(each.startswith("refused after") for each in said) or bool(found and found.detail)

    await eventually(held, within=30)
    if limiting.groups:
        assert await running(backend, name)
        assert len(limiting.processes(name)) <= 20
    else:
        said = await texts(backend)
        assert "killed: had more than its limit of 20 processes and threads" in said


@pytest.mark.real
async def test_each_limit_is_set_in_the_groups_and_they_go_with_the_instance(real: SupervisorRig) -> None:
    need_groups()
    backend = real.backend()
    limits = Limits(memory=100 * MIB, pids=33, cpu=0.25)
    name = (await backend.start(spec(limits=limits))).id
    await running(backend, name)
    text = {
        file.name: file.read_text().strip()
        for group in groups_of(real, name)
        for file in group.iterdir()
        if file.name
        in (
            "memory.max",
            "memory.limit_in_bytes",
            "pids.max",
            "cpu.max",
            "cpu.cfs_quota_us",
            "cpu.cfs_period_us",
        )
    }
    assert text.get("memory.max", text.get("memory.limit_in_bytes")) == str(100 * MIB)
    assert text["pids.max"] == "33"
    assert (
        text.get("cpu.max", f"{text.get('cpu.cfs_quota_us')} {text.get('cpu.cfs_period_us')}")
        == "25000 100000"
    )
    assert all(str(real.pid(name)) in (each / "cgroup.procs").read_text() for each in groups_of(real, name))
    await backend.stop(name, grace=5)
    assert groups_of(real, name) == []
    assert set(backend.limits().values()) <= {"cgroup v1", "cgroup v2", "rlimit"}


@pytest.mark.real
async def test_what_left_its_family_ends_with_the_group(real: SupervisorRig) -> None:
    """A daemon that gave up its session, its parent and its environment."""
    need_groups()
    backend = real.backend()
    stray = "env -i setsid /bin/sh -c 'env -i /usr/bin/setsid /bin/sleep 999 & echo $!' ; exec sleep 1000"
    name = (await backend.start(spec(command=stray))).id
    await running(backend, name)
    pid = int((await eventually(lambda: texts(backend)))[0])
    assert read_process(pid)
    await backend.stop(name, grace=1)
    left = read_process(pid)
    assert left is None or left.zombie


@pytest.mark.real
async def test_keeper_that_starts_anew_takes_over_the_groups_and_sweeps_those_left(
    real: SupervisorRig,
) -> None:
    need_groups()
    backend = real.backend()
    limits = Limits(memory=100 * MIB, pids=33)
    first = (await backend.start(spec(1, limits=limits))).id
    other = (await backend.start(spec(2, limits=limits))).id
    await running(backend, first)
    await running(backend, other)
    await real.kill_keeper()
    (real.root / "supervisor" / "instances" / f"{other}.json").unlink()
    found = await running(backend, first)
    assert str(real.pid(first)) in (groups_of(real, first)[0] / "cgroup.procs").read_text()
    assert groups_of(real, other) == []
    assert found.restarts == 0
    await backend.stop(first, grace=1)
    await backend.shutdown()
    assert groups_of(real) == []


@pytest.mark.real
async def test_limits_that_are_kept_by_looking_are_told_as_such(real: SupervisorRig) -> None:
    real.groups = False
    backend = real.backend()
    await backend.observe()
    assert backend.limits() == {"cpu": "not kept", "memory": "watched", "pids": "watched", "nofile": "rlimit"}


@pytest.mark.real
async def test_port_that_was_taken_meanwhile_is_left_to_whoever_has_it(real: SupervisorRig) -> None:
    backend = real.backend()
    taken = await running(backend, (await backend.start(spec(1, wants_port=True, command=SERVES))).id)
    kept = await running(backend, (await backend.start(spec(2, wants_port=True, command=SERVES))).id)
    pids = [real.pid(each.id) for each in (taken, kept)]
    await real.kill_keeper()
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    with socket.socket() as stranger:
        stranger.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        await eventually(lambda: bound(stranger, taken.port))
        stranger.listen()
        moved = await running(backend, taken.id)
        assert moved.port not in (taken.port, kept.port)
        assert (await running(backend, kept.id)).port == kept.port
        await real.kill_keeper()
        assert (await running(backend, taken.id)).port == moved.port


async def bound(listener: socket.socket, port: int | None) -> bool:
    try:
        listener.bind(("127.0.0.1", port or 0))
    except OSError:
        return False
    return True
