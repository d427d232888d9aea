"""One suite for every kind of resource, against its real server, as a user of its own: kept by the supervisor with what
is installed here, and in a container with what its image has."""

import asyncio
import hashlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import aclosing, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest
from docker import APIClient

from controller.backends.base import InstanceSpec
from controller.backends.docker.backend import DockerBackend, Prepare
from controller.backends.keeper.processes import Census, Family
from controller.backends.keeper.request import Files
from controller.backends.supervisor import SupervisorBackend
from controller.engine import Engine
from controller.errors import InvalidInput
from controller.resources.backups import BackupFolder
from controller.resources.base import PROCESS, VOLUME, ResourceDriver, ResourceError, Server, Surroundings
from controller.resources.beside import feed, output_of
from controller.resources.postgres import PostgresDriver
from controller.resources.redis import RedisDriver
from controller.types import Artifact, ArtifactKind
from tests.contracts.engine import engine_url
from tests.servers.stack import stack_images

pytestmark = pytest.mark.real

UID = 42002
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def sql(server: Server, *commands: str) -> str:
    """What psql answers."""
    words = [word for command in commands for word in ("-c", command)]
    command = ["psql", server.values["URL"], "-XAtqv", "ON_ERROR_STOP=1", *words]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout.strip()


def redis(server: Server, *words: str) -> str:
    env = {**os.environ, "REDISCLI_AUTH": server.values["PASSWORD"]}
    command = [
        "redis-cli",
        "--no-auth-warning",
        "-h",
        server.values["HOST"],
        "-p",
        server.values["PORT"],
        *words,
    ]
    return subprocess.run(
        command, check=True, capture_output=True, text=True, env=env, timeout=60
    ).stdout.strip()


@dataclass(frozen=True)
class Kind:
    driver: ResourceDriver
    program: str
    fill: Callable[[Server], object]
    change: Callable[[Server], object]
    """After this nothing is as it was filled."""
    look: Callable[[Server], str]
    """The same for the same data, and only for those."""


KINDS = {
    "postgres": Kind(
        PostgresDriver(),
        "/usr/lib/postgresql",
        lambda server: sql(server, "CREATE TABLE t (x text)", "INSERT INTO t VALUES ('kept'), ('too')"),
        lambda server: sql(server, "UPDATE t SET x = 'changed'", "CREATE TABLE later (x int)"),
        lambda server: sql(
            server,
            "SELECT string_agg(x, ',' ORDER BY x) FROM t",
            "SELECT string_agg(tablename, ',' ORDER BY tablename) FROM pg_tables WHERE schemaname = 'public'",
        ),
    ),
    "redis": Kind(
        RedisDriver(),
        "/usr/bin/redis-server",
        lambda server: redis(server, "MSET", "a", "kept", "b", "too"),
        lambda server: redis(server, "MSET", "a", "changed", "later", "1"),
        lambda server: "\n".join([redis(server, "DBSIZE"), redis(server, "MGET", "a", "b", "later")]),
    ),
}


class OnTheMachine:
    """Kept by the supervisor."""

    def __init__(self, root: Path, prepare: Prepare) -> None:
        self._folder = root / "supervisor"
        self.backend = SupervisorBackend(
            folder=self._folder, logs=root / "logs", prepare=prepare, volumes=root / "volumes"
        )

    async def place(self) -> Surroundings:
        return Surroundings()

    def processes(self, instance: str) -> set[int]:
        realm = (self._folder / "realm").read_text()
        leaders = Files(self._folder, instance).leaders()
        return Family(f"{realm}/{instance}", leaders).members(Census.take())


class InContainers:
    """Kept by the engine, in the image of the stack."""

    def __init__(self, root: Path, prepare: Prepare) -> None:
        self._url = engine_url()
        self._image = stack_images().resources
        self._realm = f"test{secrets.token_hex(4)}"
        self.backend = DockerBackend(
            folder=root / "docker",
            logs=root / "logs",
            prepare=prepare,
            volumes=root / "volumes",
            engine=Engine(self._url),
            realm=self._realm,
            runner_image="mooring/nowhere:1",
        )

    async def place(self) -> Surroundings:
        return Surroundings(host=await self.backend.inner_address(), image=self._image)

    def processes(self, instance: str) -> set[int]:
        """But for the first, which is the engine's."""
        client = APIClient(base_url=self._url, version="auto")
        try:
            found = client.top(f"mooring-{self._realm}-{instance}", "-eo pid,comm")["Processes"]
        finally:
            client.close()
        return {int(pid) for pid, name in found if name != "docker-init"}


PLACES = {"machine": OnTheMachine, "container": InContainers}


class Running:
    """A server of that kind, whose data are in a volume."""

    def __init__(self, name: str, where: str = "machine") -> None:
        self.kind = KINDS[name]
        if not Path(self.kind.program).exists():
            pytest.skip(f"{self.kind.program} is not installed")
        self.root = Path(tempfile.mkdtemp(prefix="moor-"))
        self.root.chmod(0o711)
        (self.root / "slug").mkdir(mode=0o755)
        self.here = PLACES[where](self.root, self._prepare)
        self.backend = self.here.backend
        self.server: Server
        self.backups = BackupFolder(self.root / "backups")
        self.id = ""
        self.starts = 0
        self._place = Surroundings()

    async def _prepare(self, _: InstanceSpec) -> Path:
        return self.root / "slug"

    async def _describe(self) -> None:
        self._place = await self.here.place()
        with socket.socket() as probe:
            probe.bind((self._place.host, 0))
            self.port = probe.getsockname()[1]
        self.server = self.kind.driver.server(self.port, secrets.token_hex(8), self._place)

    async def start(self) -> None:
        if not self.starts:
            await self._describe()
        self.starts += 1
        self.id = f"foo-db-{self.starts}-server-1"
        spec = InstanceSpec(
            id=self.id,
            deployment="foo",
            service="db",
            version=self.starts,
            process_type=PROCESS,
            number=1,
            generation=1,
            artifact=Artifact(kind=ArtifactKind.SLUG, reference="0" * 64, runner=self._place.image),
            command=self.server.command,
            env=self.server.secrets,
            uid=UID if os.geteuid() == 0 else None,
            volumes={VOLUME: "/data"},
            publish={f"{self._place.host}:{self.port}": self.port} if self._place.image else {},
        )
        await self.backend.start(spec)
        await self.answers()

    async def answers(self) -> None:
        end = time.monotonic() + 30
        while True:
            with suppress(ResourceError):
                async with aclosing(output_of(self.backend, self.id, self.server.check)) as said:
                    async for _ in said:
                        pass
                return
            assert time.monotonic() < end, (self.root / "logs/foo/db" / f"{self.id}.log").read_text()
            await asyncio.sleep(0.1)

    def dump(self) -> AsyncIterator[bytes]:
        return output_of(self.backend, self.id, self.kind.driver.backup())

    async def restore(self, pieces: AsyncIterator[bytes]) -> None:
        await feed(self.backend, self.id, self.kind.driver.restore(), pieces)

    def processes(self) -> set[int]:
        return self.here.processes(self.id)

    async def close(self) -> None:
        await self.backend.shutdown()
        await self.backend.close()
        shutil.rmtree(self.root)

    async def stop(self) -> None:
        await self.backend.stop(self.id, grace=10)


@pytest.fixture(params=[(kind, where) for kind in KINDS for where in PLACES], ids="-".join)
async def running(request: pytest.FixtureRequest) -> AsyncIterator[Running]:
    made = Running(*request.param)
    try:
        await made.start()
        yield made
    finally:
        await made.close()


async def of(*pieces: bytes) -> AsyncIterator[bytes]:
    for each in pieces:
        yield each


def send(processes: Iterable[int], number: signal.Signals) -> None:
    """Some may have ended by themselves: a database's helpers come and go."""
    for each in processes:
        with suppress(ProcessLookupError):
            os.kill(each, number)


async def test_data_outlive_the_server_and_its_death(running: Running) -> None:
    running.kind.fill(running.server)
    before = running.kind.look(running.server)
    await running.stop()
    await running.start()
    assert running.kind.look(running.server) == before
    await asyncio.sleep(1.1)  # redis writes its log to the disk every second
    send(running.processes(), signal.SIGKILL)
    await running.answers()
    assert running.kind.look(running.server) == before


async def test_what_was_backed_up_is_restored_and_nothing_else_is_there(running: Running) -> None:
    running.kind.fill(running.server)
    before = running.kind.look(running.server)
    made = await running.backups.keep(running.dump(), NOW, "ann")
    running.kind.change(running.server)
    assert running.kind.look(running.server) != before
    await running.restore(running.backups.pieces(made))
    assert running.kind.look(running.server) == before
    await running.stop()
    await running.start()
    assert running.kind.look(running.server) == before, "as restored, also after a restart"


async def test_broken_and_cut_off_backups_leave_the_data_as_they_were(running: Running) -> None:
    running.kind.fill(running.server)
    whole = b"".join([each async for each in running.dump()])
    running.kind.change(running.server)
    before = running.kind.look(running.server)
    for broken in (b"", b"no backup at all", whole[: len(whole) // 2], whole[:-20]):
        with pytest.raises(ResourceError):
            await running.restore(of(broken))
        assert running.kind.look(running.server) == before

    async def breaks_off() -> AsyncIterator[bytes]:
        yield whole[: len(whole) // 2]
        raise ConnectionError

    with pytest.raises(ConnectionError):
        await running.restore(breaks_off())
    assert running.kind.look(running.server) == before
    await running.restore(of(whole))
    assert running.kind.look(running.server) != before


async def test_a_server_that_dies_during_a_backup_leaves_none(running: Running) -> None:
    running.kind.fill(running.server)
    server = running.processes()
    send(server, signal.SIGSTOP)
    backup = asyncio.create_task(running.backups.keep(running.dump(), NOW, "ann"))
    await asyncio.sleep(0.5)
    assert not backup.done(), "it waits for the server"
    send(server, signal.SIGKILL)
    with pytest.raises(ResourceError):
        await backup
    assert list(running.backups.path.iterdir()) == []
    await running.answers()


def test_urls_of_other_kinds_are_refused_and_what_services_get() -> None:
    for kind, scheme in (("postgres", "postgres"), ("redis", "redis")):
        driver = KINDS[kind].driver
        values = driver.external(f"{scheme}://me:p%40ss@db.example.org/x")
        assert (values["HOST"], values["PASSWORD"]) == ("db.example.org", "p@ss")
        (name,) = driver.bind(values, "")
        assert name in ("DATABASE_URL", "REDIS_URL")
        assert driver.bind(values, "CACHE")["CACHE_HOST"] == "db.example.org"
        for wrong in ("mysql://h/x", f"{scheme}:///x", f"{scheme}://h:port/x", f"{scheme}://h/\n"):
            with pytest.raises(InvalidInput, match=r"url|URL"):
                driver.external(wrong)


def test_a_machine_without_the_programs_says_what_to_do(tmp_path: Path) -> None:
    for driver in (PostgresDriver(tmp_path), RedisDriver(str(tmp_path))):
        with pytest.raises(ResourceError, match=r"install Debian's package .* --url") as caught:
            driver.server(31000, "x", Surroundings())
        assert not caught.value.retryable


async def test_100_mb_are_written_backed_up_destroyed_restored_and_compared() -> None:
    first, second = Running("postgres"), Running("postgres")
    fill = (
        "CREATE TABLE big AS SELECT i, (SELECT string_agg(md5((i * 25 + j)::text), '') FROM generate_series(0, 24) j) "
        "AS x FROM generate_series(1, 120000) i"
    )
    compare = "COPY (SELECT * FROM big ORDER BY i) TO STDOUT"

    def checksum(server: Server) -> str:
        printed = subprocess.run(
            ["psql", server.values["URL"], "-Xc", compare], check=True, capture_output=True
        )
        assert len(printed.stdout) > 96_000_000
        return hashlib.sha256(printed.stdout).hexdigest()

    try:
        await first.start()
        await asyncio.to_thread(sql, first.server, fill)
        assert int(sql(first.server, "SELECT pg_table_size('big')")) > 100_000_000
        before = await asyncio.to_thread(checksum, first.server)
        made = await first.backups.keep(first.dump(), NOW, "ann")
        await first.stop()
        shutil.rmtree(first.root / "volumes")
        await second.start()
        assert sql(second.server, "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") == "0"
        await second.restore(first.backups.pieces(made))
        assert await asyncio.to_thread(checksum, second.server) == before
    finally:
        for each in (first, second):
            await each.close()
