"""What only containers can get wrong: isolation, addresses, images, an engine that goes away, logs over restarts."""

import asyncio
import contextlib
import io
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from controller.backends.base import BackendError, InstanceSpec
from controller.backends.docker.backend import DockerBackend
from controller.engine import Engine
from controller.logs.query import LogQuery
from controller.types import Artifact, ArtifactKind, Instance, InstanceState, Limits, LogSource
from tests.contracts.test_backend import (
    FORKS,
    HOG,
    MIB,
    UID,
    DockerRig,
    eventually,
    exited,
    lines_of,
    running,
    seen,
    spec,
    texts,
)

pytestmark = pytest.mark.real

SERVES = "exec python3 -m http.server --bind 0.0.0.0 $PORT"


@pytest.fixture
async def rig() -> AsyncIterator[DockerRig]:
    rig = DockerRig()
    yield rig
    await rig.close()


async def answer(instance: Instance) -> int:
    """The status of its answer to a request from this machine, once it answers."""
    async with httpx.AsyncClient(timeout=2, trust_env=False) as client:

        async def ask() -> int | None:
            with contextlib.suppress(httpx.HTTPError):
                return (await client.get(f"http://{instance.address}:{instance.port}/")).status_code
            return None

        status: int = await eventually(ask)
        return status


async def printed(backend: DockerBackend, count: int) -> list[str]:
    """At least so many lines of the app, all of them."""

    async def look() -> list[str] | None:
        found = [each.text for each in await lines_of(backend, lines=None)]
        return found if len(found) >= count else None

    found: list[str] = await eventually(look, within=60)
    return found


# What an app has around itself

LOOKS = """
import json, os, resource
def writable(path):
    try:
        open(path + "/probe", "w").close()
        return True
    except OSError:
        return False
status = dict(line.split(":\\t", 1) for line in open("/proc/self/status").read().splitlines() if ":\\t" in line)
print(json.dumps({
    "ids": [os.getresuid(), os.getresgid(), os.getgroups()], "cwd": os.getcwd(), "home": os.environ["HOME"],
    "rights": [status["CapEff"], status["CapBnd"], status["NoNewPrivs"]],
    "writable": [each for each in ("/", "/app", "/tmp", "/etc", "/usr", "/var") if writable(each)],
    "sockets": [each for each in ("/var/run/docker.sock", "/run/docker.sock") if os.path.exists(each)],
    "core": resource.getrlimit(resource.RLIMIT_CORE), "env": dict(os.environ),
    "parent": open(f"/proc/{os.getppid()}/comm").read().strip(),
}), flush=True)
os.execlp("sleep", "sleep", "1000")
"""


async def looked(rig: DockerRig, wanted: InstanceSpec) -> dict[str, Any]:
    rig.file("looks.py", LOOKS)
    backend = rig.backend()
    await backend.start(replace(wanted, command="python3 looks.py"))
    found: dict[str, Any] = json.loads((await printed(backend, 1))[0])
    return found


async def test_slug_has_no_rights_and_writes_nowhere_but_to_its_own_temporary_folder(rig: DockerRig) -> None:
    found = await looked(rig, spec(uid=UID, wants_port=True))
    assert found["ids"] == [[UID] * 3, [UID] * 3, [UID]] or found["ids"] == [[UID] * 3, [UID] * 3, []]
    assert found["rights"] == ["0" * 16, "0" * 16, "1"]
    assert (found["writable"], found["sockets"], found["core"]) == (["/tmp"], [], [0, 0])
    assert (found["cwd"], found["home"], found["env"]["TMPDIR"]) == ("/app", "/app", "/tmp")
    assert found["parent"] in ("docker-init", "tini")


async def test_app_sees_nothing_of_the_server(rig: DockerRig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOOR_SECRET_OF_SERVER", "x")
    env = {
        "LINES": "one\ntwo\n",
        "QUOTES": "\"'`\\$(id)",
        "UNICODE": "Grüße 🚀",
        "EMPTY": "",
        "LARGE": "x" * 50_000,
    }
    found = await looked(rig, spec(env=env))
    assert {name: found["env"][name] for name in env} == env
    assert not [name for name in found["env"] if name.startswith("MOOR")]
    assert "PORT" not in found["env"]


async def test_value_that_no_process_can_have_is_refused(rig: DockerRig) -> None:
    for value in ("nul\0", "x" * 200_000, "\ud800"):
        with pytest.raises(BackendError, match="BAD") as caught:
            await rig.backend().start(spec(env={"BAD": value}))
        assert not caught.value.retryable


async def test_secrets_are_in_no_label(rig: DockerRig) -> None:
    await rig.backend().start(spec(env={"PASSWORD": "correct-horse"}))
    assert "correct-horse" not in json.dumps(rig.inspect(spec().id)["Config"]["Labels"])


async def test_limits_are_the_containers(rig: DockerRig) -> None:
    backend = rig.backend()
    limits = Limits(memory=100 * MIB, pids=33, cpu=0.25, nofile=77)
    await backend.start(spec(limits=limits, command="ulimit -n; exec sleep 1000"))
    host = rig.inspect(spec().id)["HostConfig"]
    assert (host["Memory"], host["MemorySwap"], host["PidsLimit"]) == (100 * MIB, 100 * MIB, 33)
    assert host["CpuQuota"] / host["CpuPeriod"] == 0.25
    assert await printed(backend, 1) == ["77"]
    await backend.observe()
    assert set(backend.limits()) == {"cpu", "memory", "pids", "nofile"}
    assert backend.limits()["memory"] in ("container cgroup v1", "container cgroup v2")


async def test_limit_of_open_files_above_the_engines_own_leaves_that_one(rig: DockerRig) -> None:
    backend = rig.backend()
    await backend.start(spec(limits=Limits(nofile=2**30 + 1)))
    assert await running(backend, spec().id)


async def test_instance_that_takes_too_much_memory_is_killed_and_says_so(rig: DockerRig) -> None:
    backend = rig.backend()
    hog = HOG.replace("/usr/bin/python3", "python3")
    name = (await backend.start(spec(command=hog, limits=Limits(memory=64 * MIB)))).id

    async def killed() -> Instance | None:
        found = await seen(backend, name)
        return found if found and found.detail else None

    found = await eventually(killed, within=30)
    assert found.detail.startswith("killed: used more than its limit of 64 MiB")

    async def told() -> bool:
        return "killed: used more than its limit of 64 MiB" in await texts(backend)

    await eventually(told)


async def test_instance_can_not_have_more_processes_than_its_limit(rig: DockerRig) -> None:
    backend = rig.backend()
    forks = FORKS.replace("/usr/bin/python3", "python3")
    await backend.start(spec(command=forks, limits=Limits(pids=20)))
    assert (await printed(backend, 1))[0].startswith("refused after")
    assert await running(backend, spec().id)


# Addresses


async def test_host_reaches_an_instance_and_instances_do_not_reach_each_other(rig: DockerRig) -> None:
    backend = rig.backend()
    serving = await backend.start(spec(1, wants_port=True, command=SERVES))
    assert await answer(serving) == 200
    asks = (
        "import socket\n"
        "s = socket.socket(); s.settimeout(2)\n"
        f"print(s.connect_ex(('{serving.address}', {serving.port})), flush=True)\n"
    )
    rig.file("asks.py", asks)
    await backend.start(spec(2, command="python3 asks.py; exec sleep 1000"))
    assert (await printed(backend, 1))[-1] != "0"


async def test_address_stays_its_own_while_it_is_down(rig: DockerRig) -> None:
    """A router's table still names it: whoever else had it would get its requests."""
    backend = rig.backend()
    dying = await backend.start(spec(1, wants_port=True, command="sleep 0.2; exit 3"))
    started = await asyncio.gather(*(backend.start(spec(each, wants_port=True)) for each in range(2, 8)))
    assert dying.address not in {each.address for each in started}

    async def looping() -> bool:
        found = await seen(backend, dying.id)
        return found is not None and found.restarts >= 3

    await eventually(looping, within=30)
    found = await seen(backend, dying.id)
    assert found is not None
    assert found.address == dying.address
    addresses = [
        network.get("IPAddress")
        for each in rig.containers()
        for network in each["NetworkSettings"]["Networks"].values()
        if network.get("IPAddress")
    ]
    assert len(set(addresses)) == len(addresses)


async def test_address_is_not_given_out_again_at_once(rig: DockerRig) -> None:
    backend = rig.backend()
    first = await backend.start(spec(1, wants_port=True))
    await backend.stop(first.id, grace=0)
    second = await backend.start(spec(2, wants_port=True))
    assert second.address != first.address


async def test_address_that_somebody_else_took_is_passed_over(rig: DockerRig) -> None:
    backend = rig.backend()
    first = await backend.start(spec(1, wants_port=True))
    assert first.address is not None
    network = f"mooring-{rig.realm}"
    following = first.address.rpartition(".")[0] + f".{int(first.address.rpartition('.')[2]) + 1}"
    client: Any = rig.client
    taken = client.create_container(
        rig.image,
        entrypoint=["sleep", "1000"],
        host_config=rig.client.create_host_config(network_mode=network, init=True),
        networking_config=client.create_networking_config(
            {network: rig.client.create_endpoint_config(ipv4_address=following)}
        ),
    )["Id"]
    rig.client.start(taken)
    try:
        second = await backend.start(spec(2, wants_port=True))
        assert second.address not in (first.address, following)
        assert await running(backend, second.id)
    finally:
        rig.client.remove_container(taken, force=True)


# Images


def image(rig: DockerRig, *lines: str) -> Artifact:
    """Made of the runner's image, with these lines of a Dockerfile."""
    name = f"mooring-test/{rig.realm}:{abs(hash(lines))}"
    text = "\n".join([f"FROM {rig.image}", "ENTRYPOINT []", "WORKDIR /", *lines])
    for _ in rig.client.build(fileobj=io.BytesIO(text.encode()), tag=name, rm=True):
        pass
    return Artifact(kind=ArtifactKind.IMAGE, reference=name)


@pytest.fixture
async def images(rig: DockerRig) -> AsyncIterator[Callable[..., Artifact]]:
    made: list[Artifact] = []

    def make(*lines: str) -> Artifact:
        made.append(image(rig, *lines))
        return made[-1]

    yield make
    backend = rig.backend()
    for each in (await backend.observe()).instances:
        await backend.stop(each.id, grace=0)
    for artifact in made:
        with contextlib.suppress(Exception):
            rig.client.remove_image(artifact.reference, force=True)


async def test_image_runs_its_own_command_on_the_port_that_it_exposes(
    rig: DockerRig, images: Callable[..., Artifact]
) -> None:
    artifact = images("EXPOSE 9001 8123 53/udp", 'CMD ["python3", "-m", "http.server", "8123"]')
    started = await rig.backend().start(spec(artifact=artifact, command="", wants_port=True))
    assert started.port == 8123
    assert await answer(started) == 200


async def test_command_takes_the_place_of_an_images_entrypoint_and_gets_its_port(
    rig: DockerRig, images: Callable[..., Artifact]
) -> None:
    artifact = images('ENTRYPOINT ["false"]', "ENV PORT=7000", "EXPOSE 9001")
    backend = rig.backend()
    started = await backend.start(
        spec(artifact=artifact, command="cd /tmp && python3 -m http.server $PORT", wants_port=True)
    )
    assert started.port == 7000
    assert await answer(started) == 200
    chosen = await backend.start(
        spec(2, artifact=artifact, command=SERVES, wants_port=True, env={"PORT": "7001"})
    )
    assert chosen.port == 7001
    assert await answer(chosen) == 200


async def test_image_keeps_only_the_rights_that_images_need(
    rig: DockerRig, images: Callable[..., Artifact]
) -> None:
    artifact = images(
        "USER root", 'CMD ["sh", "-c", "grep CapEff /proc/self/status; id -u; exec sleep 1000"]'
    )
    backend = rig.backend()
    await backend.start(spec(artifact=artifact, command=""))
    rights = int((await printed(backend, 2))[0].split()[1], 16)
    chown, dac_override, fowner, kill, setgid, setuid, net_bind_service = 0, 1, 3, 5, 6, 7, 10
    kept = {chown, dac_override, fowner, kill, setgid, setuid, net_bind_service}
    assert {number for number in range(64) if rights >> number & 1} == kept


async def test_image_that_nobody_has_is_refused_by_name(rig: DockerRig) -> None:
    artifact = Artifact(kind=ArtifactKind.IMAGE, reference="127.0.0.1:9/nobody/has-this:1")
    with pytest.raises(BackendError, match="9/nobody/has-this:1") as caught:
        await rig.backend().start(spec(artifact=artifact, command=""))
    assert not caught.value.retryable


async def test_image_whose_program_is_missing_says_so_in_its_log(
    rig: DockerRig, images: Callable[..., Artifact]
) -> None:
    artifact = images('CMD ["/no/such/program"]')
    backend = rig.backend()
    await backend.start(spec(artifact=artifact, command=""))

    async def told() -> bool:
        return any("/no/such/program" in each for each in await texts(backend))

    await eventually(told)

    async def crashed() -> bool:
        found = await seen(backend, spec().id)
        return found is not None and found.detail.startswith("exited with status 127")

    await eventually(crashed)


# Volumes of images that run as somebody else

SAILOR = "RUN groupadd -g 1777 crew && groupadd -g 1888 guests && useradd -u 1666 -g crew sailor"
WRITES = 'echo "$(id -u):$(id -g)" >> "$VOLUME_DATA/log" && echo written; exec sleep 1000'


async def said_by(rig: DockerRig, artifact: Artifact, **changes: Any) -> str:
    """What the log in the volume has after the image wrote to it. It has stopped by then."""
    backend, log = rig.backend(), rig.root / "volumes/foo/app/data/log"
    before = log.read_text() if log.exists() else ""
    wanted = spec(uid=UID, artifact=artifact, command=WRITES, volumes={"data": "/srv/data"}, **changes)
    started = await backend.start(wanted)
    await eventually(lambda: _async(log.exists() and log.read_text() != before))
    await backend.stop(started.id, grace=0)
    return log.read_text()


@pytest.mark.parametrize(
    ("lines", "uid", "gid"),
    [
        (["USER sailor"], 1666, 1777),
        (["USER 1666"], 1666, 1777),
        (["USER sailor:guests"], 1666, 1888),
        (["USER 1999"], 1999, 0),
        (["USER 1999:1998"], 1999, 1998),
        (["RUN mkdir /lib/etc && mv /etc/passwd /lib/etc && ln -s ../lib/etc/passwd /etc", "USER sailor"], 1666, 1777),
        (["VOLUME /srv/data /etc", "USER sailor:guests"], 1666, 1888),
    ],
    ids=["name", "number", "name and group", "number of nobody", "numbers", "linked passwd", "volumes of its own"],
)  # fmt: skip
async def test_volume_belongs_to_whom_the_image_runs_as(
    rig: DockerRig, images: Callable[..., Artifact], lines: list[str], uid: int, gid: int
) -> None:
    artifact = images("USER root", SAILOR, *lines)
    assert await said_by(rig, artifact) == f"{uid}:{gid}\n"
    folder = rig.root / "volumes/foo/app/data"
    info = folder.stat()
    assert (info.st_uid, info.st_gid, info.st_mode & 0o777) == (uid, gid, 0o700)
    assert (folder / "log").stat().st_uid == uid
    above = (rig.root / "volumes", rig.root / "volumes/foo", rig.root / "volumes/foo/app")
    assert {(each.stat().st_uid, each.stat().st_mode & 0o777) for each in above} == {(0, 0o700)}
    assert rig.containers() == [], "nothing is left of the look into the image"


async def test_one_off_of_an_image_writes_to_its_volume(
    rig: DockerRig, images: Callable[..., Artifact]
) -> None:
    artifact = images("USER root", SAILOR, "USER sailor")
    once = spec(
        uid=UID,
        artifact=artifact,
        command='id -un > "$VOLUME_DATA/me"; cat "$VOLUME_DATA/me"',
        volumes={"data": "/srv/data"},
        once=True,
    )
    attached = await rig.backend().run(once, terminal=None)
    assert b"".join([data async for _, data in attached.output()]) == b"sailor\n"
    assert (await attached.wait())[0] == 0


async def test_volume_over_the_list_of_users_says_nothing_of_them(
    rig: DockerRig, images: Callable[..., Artifact]
) -> None:
    artifact = images("USER root", SAILOR, "USER sailor")
    folder = rig.root / "volumes/foo/app/etc"
    folder.mkdir(parents=True)
    (folder / "passwd").write_text("sailor:x:4444:4444::/:/bin/sh\n")
    wanted = spec(uid=UID, artifact=artifact, command="exec sleep 1000", volumes={"etc": "/etc"})
    await rig.backend().start(wanted)
    await running(rig.backend(), wanted.id)
    assert folder.stat().st_uid == 1666


async def test_volume_is_given_over_to_an_image_that_runs_as_somebody_else(
    rig: DockerRig, images: Callable[..., Artifact]
) -> None:
    """From root to one user and to another, and never while one of them works with it."""
    first = images("USER root", SAILOR, "USER sailor")
    second = images("USER root", SAILOR, "USER 1999")
    log = rig.root / "volumes/foo/app/data/log"
    assert await said_by(rig, images("USER root")) == "0:0\n"
    assert (log.parent.stat().st_uid, log.stat().st_uid) == (UID, 0)
    assert await said_by(rig, first) == "0:0\n1666:1777\n"
    backend = rig.backend()
    keeps = spec(uid=UID, artifact=first, volumes={"data": "/srv/data"})
    await backend.start(keeps)
    with pytest.raises(BackendError, match=f"{keeps.id} as another one"):
        await said_by(rig, second, number=2, version=4)
    assert (log.parent.stat().st_uid, log.stat().st_uid) == (1666, 1666)
    await backend.stop(keeps.id, grace=0)
    assert await said_by(rig, second, number=2, version=4) == "0:0\n1666:1777\n1999:0\n"
    assert (log.parent.stat().st_uid, log.stat().st_uid) == (1999, 1999)
    assert await said_by(rig, first) == "0:0\n1666:1777\n1999:0\n1666:1777\n"


async def test_code_has_the_volume_that_an_image_had(rig: DockerRig, images: Callable[..., Artifact]) -> None:
    await said_by(rig, images("USER root", SAILOR, "USER sailor"))
    slug = spec().artifact
    assert await said_by(rig, slug) == f"1666:1777\n{UID}:{UID}\n"


@pytest.mark.parametrize(
    ("user", "words"),
    [
        ("captain", "/etc/passwd has no user 'captain'"),
        ("sailor:pirates", "/etc/group has no group 'pirates'"),
    ],
)
async def test_user_that_an_image_does_not_have_is_named_with_the_way_out(
    rig: DockerRig, images: Callable[..., Artifact], user: str, words: str
) -> None:
    artifact = images("USER root", SAILOR, f"USER {user}")
    with pytest.raises(BackendError) as caught:
        await said_by(rig, artifact)
    assert not caught.value.retryable
    for each in (artifact.reference, repr(user), words, "USER 1000:1000"):
        assert each in str(caught.value)
    assert rig.containers() == []


async def test_list_of_users_that_is_no_file_is_refused_and_not_read(
    rig: DockerRig, images: Callable[..., Artifact]
) -> None:
    for spoilt in ("mkfifo /etc/passwd", "truncate -s 2M /etc/passwd", "ln -s /dev/zero /etc/passwd"):
        artifact = images("USER root", f"RUN rm /etc/passwd && {spoilt}", "USER sailor")
        with pytest.raises(BackendError, match="USER 1000:1000"):
            await said_by(rig, artifact)


async def test_port_of_the_machine_leads_to_one_instance_and_is_refused_to_the_next(rig: DockerRig) -> None:
    backend = rig.backend()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        place = f"127.0.0.1:{probe.getsockname()[1]}"
    serves = "exec python3 -m http.server $PORT"
    await backend.start(spec(1, command=serves, wants_port=True, publish={place: 0}))

    async def answers() -> bool:
        try:
            async with httpx.AsyncClient(trust_env=False) as client:
                return (await client.get(f"http://{place}/")).status_code == 200
        except httpx.HTTPError:
            return False

    await eventually(answers)
    with pytest.raises(BackendError, match="a port of the machine that is to lead to it is in use"):
        await backend.start(spec(2, command=serves, wants_port=True, publish={place: 0}))
    with pytest.raises(BackendError, match="takes no requests"):
        await backend.start(spec(3, command=serves, publish={place: 0}))
    await backend.stop(spec(1).id, grace=1)
    await backend.start(spec(2, command=serves, wants_port=True, publish={place: 0}))
    await eventually(answers)


async def test_runner_image_that_is_missing_says_how_to_get_it(rig: DockerRig) -> None:
    backend = rig.backend(runner_image="127.0.0.1:9/no/runner:1")
    with pytest.raises(BackendError, match="contrib/stack/build"):
        await backend.start(spec())


# Killed at any moment


async def test_made_and_never_started_is_no_instance_and_the_next_start_finishes_it(
    rig: DockerRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = rig.backend()

    class Killed(BaseException):
        pass

    async def dies(*_: Any, **__: Any) -> None:
        raise Killed

    call = Engine.call

    async def until_start(engine: Engine, work: Callable[[Any], Any]) -> Any:
        if "start" in work.__code__.co_names and "container" in work.__code__.co_freevars:
            raise Killed
        return await call(engine, work)

    monkeypatch.setattr(Engine, "call", until_start)
    with pytest.raises(Killed):
        await backend.start(spec(wants_port=True))
    monkeypatch.undo()
    assert [each["State"] for each in rig.containers()] == ["created"]
    second = rig.backend()
    assert (await second.observe()).instances == ()
    started = await second.start(spec(wants_port=True))
    assert (await running(second, started.id)).address == started.address


async def test_stop_that_was_begun_is_known_to_whoever_comes_next(
    rig: DockerRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = rig.backend()
    rig.file("stubborn.sh", "trap '' TERM; while :; do sleep 0.1; done\n")
    await backend.start(spec(command="exec bash stubborn.sh"))
    await asyncio.sleep(0.5)
    stopping = asyncio.create_task(backend.stop(spec().id, grace=30))

    async def told() -> bool:
        found = await seen(backend, spec().id)
        return found is not None and found.state is InstanceState.STOPPING

    await eventually(told)
    stopping.cancel()
    await backend.close()
    second = rig.backend()
    found = await seen(second, spec().id)
    assert found is not None
    assert found.state is InstanceState.STOPPING
    assert rig.inspect(spec().id)["HostConfig"]["RestartPolicy"]["Name"] == "no"
    with pytest.raises(BackendError):
        await second.start(spec(command="exec bash stubborn.sh"))
    os.kill(rig.pid(spec().id), signal.SIGKILL)
    await asyncio.sleep(1.5)
    found = await seen(second, spec().id)
    assert found is not None
    assert (found.state, found.restarts) == (InstanceState.STOPPING, 0)
    await second.stop(spec().id, grace=0)
    assert rig.containers() == []


CONTROLLER = """
import asyncio, json, sys
from pathlib import Path
from controller.backends.base import InstanceSpec
from controller.backends.docker.backend import DockerBackend
from controller.engine import Engine
from controller.types import Artifact, ArtifactKind

async def main(root, url, realm, image, command):
    async def prepare(_):
        return root / "slug"
    backend = DockerBackend(folder=root / "docker", logs=root / "logs", prepare=prepare, engine=Engine(url),
                            realm=realm, runner_image=image, volumes=root / "volumes")
    artifact = Artifact(kind=ArtifactKind.SLUG, reference="0" * 64)
    names = dict(deployment="foo", service="app", version=3, generation=7, number=1, artifact=artifact)
    started = await backend.start(InstanceSpec(id="foo-app-3-web-1", process_type="web", command=command,
                                               wants_port=True, **names))
    run = InstanceSpec(id="foo-app-3-run-1", process_type="run", once=True,
                       command="trap '' HUP TERM; sleep 1753", **names)
    attached = await backend.run(run, terminal=None)
    beside = await backend.enter(started.id, "trap '' HUP TERM; sleep 1753; true", env={}, terminal=None)
    await asyncio.sleep(1)
    print(json.dumps([started.address, started.port]), flush=True)
    await asyncio.sleep(1000)

asyncio.run(main(Path(sys.argv[1]), *sys.argv[2:]))
"""
COUNTS = (
    'i=0; while [ $i -lt 3000 ]; do i=$((i+1)); echo "line $i"; [ $((i % 20)) = 0 ] && sleep 0.02; done; '
    "exec sleep 1000"
)


async def test_controller_that_is_killed_is_followed_by_one_that_knows_all(rig: DockerRig) -> None:
    """Also of what was printed: nothing is lost, nothing there twice; and who was attached has ended."""
    arguments = [str(rig.root), rig.url, rig.realm, rig.image, COUNTS]
    controller = subprocess.Popen(
        [sys.executable, "-c", CONTROLLER, *arguments], stdout=subprocess.PIPE, text=True
    )
    assert controller.stdout is not None
    address, port = json.loads(await asyncio.to_thread(controller.stdout.readline))
    log = rig.root / "logs/foo/app/foo-app-3-web-1.log"

    async def writes() -> bool:
        return log.exists() and log.read_bytes().count(b"\n") > 300

    await eventually(writes, within=30)
    assert len(rig.left("sleep 1753")) == 2
    controller.kill()
    controller.wait()
    await eventually(lambda: _async(not rig.left("sleep 1753")))
    assert await asyncio.to_thread(controller.stdout.read) == ""
    backend = rig.backend()
    found = await running(backend, spec().id)
    assert (found.address, found.port, found.restarts) == (address, port, 0)
    assert await printed(backend, 3000) == [f"line {each}" for each in range(1, 3001)]


async def test_what_was_attached_to_a_server_that_died_with_its_guard_is_swept(
    rig: DockerRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("controller.backends.docker.container.boot_id", lambda: "another-boot")
    first = rig.backend()
    attached = await first.run(spec(process_type="run", command="sleep 1753", once=True), terminal=None)
    monkeypatch.undo()
    await eventually(lambda: _async(rig.left("sleep 1753")))
    await rig.backend().observe()
    await eventually(lambda: _async(not rig.left("sleep 1753")))
    await attached.end()


async def test_what_the_engine_gave_up_is_started_again(rig: DockerRig) -> None:
    backend = rig.backend()
    await backend.start(spec())
    await running(backend, spec().id)
    await asyncio.to_thread(rig.client.stop, rig.inspect(spec().id)["Id"], timeout=0)

    async def back() -> bool:
        found = await seen(backend, spec().id)
        return found is not None and found.state is InstanceState.RUNNING

    await eventually(back)
    assert rig.inspect(spec().id)["HostConfig"]["RestartPolicy"]["Name"] == "always"


async def test_crashes_while_nobody_looked_are_told_by_whoever_comes_next(rig: DockerRig) -> None:
    first = rig.backend()
    await first.start(spec(command="sleep 0.3; exit 3"))
    await first.close()
    await asyncio.sleep(6)
    backend = rig.backend()

    async def looping() -> Instance | None:
        found = await seen(backend, spec().id)
        return found if found and found.state is InstanceState.CRASH_LOOPING and found.next_start_at else None

    found = await eventually(looping, within=30)
    assert found.restarts >= 3
    assert found.detail.startswith("exited with status 3")


# An engine that goes away


class Proxy:
    """A way to the engine that can be cut."""

    def __init__(self, target: str) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="moor-"))
        self.path = self.folder / "engine.sock"
        self.asked = 0
        self._target = target
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    async def open(self) -> None:
        self._server = await asyncio.start_unix_server(self._serve, self.path)

    async def cut(self) -> None:
        assert self._server is not None
        self._server.close()
        for each in list(self._writers):
            each.transport.abort()
        self.path.unlink(missing_ok=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.asked += 1
        there, back = await asyncio.open_unix_connection(self._target)
        self._writers |= {writer, back}

        async def copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
            with contextlib.suppress(OSError):
                while data := await source.read(65536):
                    target.write(data)
                    await target.drain()
            with contextlib.suppress(OSError, RuntimeError):
                target.write_eof() if target.can_write_eof() else target.close()

        await asyncio.gather(copy(reader, back), copy(there, writer))
        for each in (writer, back):
            each.close()
            self._writers.discard(each)


@pytest.fixture
async def proxy(rig: DockerRig) -> AsyncIterator[Proxy]:
    proxy = Proxy(rig.url.removeprefix("unix://"))
    await proxy.open()
    yield proxy
    with contextlib.suppress(OSError):
        await proxy.cut()
    shutil.rmtree(proxy.folder)


async def test_engine_out_of_reach_is_an_error_and_not_an_empty_answer(rig: DockerRig, proxy: Proxy) -> None:
    backend = rig.backend(engine=Engine(f"unix://{proxy.path}"))
    await backend.start(spec(1))
    cursor = (await backend.observe()).cursor
    await proxy.cut()
    await asyncio.sleep(0.1)
    for after in ("", cursor):
        with pytest.raises(BackendError, match="can't be reached") as caught:
            await backend.observe(after=after)
        assert caught.value.retryable
    with pytest.raises(BackendError):
        await backend.stop(spec(1).id, grace=0)
    other = rig.backend()
    await other.start(spec(2))
    await other.stop(spec(1).id, grace=0)
    await proxy.open()
    look = await backend.observe(after=cursor)
    assert {each.id for each in look.instances} == {spec(2).id}
    assert look.complete or look.gone == {spec(1).id}


async def test_look_without_a_change_asks_the_engine_nothing(rig: DockerRig, proxy: Proxy) -> None:
    backend = rig.backend(engine=Engine(f"unix://{proxy.path}"))
    await asyncio.gather(*(backend.start(spec(each)) for each in range(1, 4)))
    cursor = (await backend.observe()).cursor
    await asyncio.sleep(0.5)
    cursor = (await backend.observe(after=cursor)).cursor
    asked, began = proxy.asked, time.thread_time()
    for _ in range(1000):
        look = await backend.observe(after=cursor)
        assert not (look.complete or look.instances or look.gone)
    assert proxy.asked == asked
    assert time.thread_time() - began < 1


async def test_change_is_seen_without_a_look_at_everything(rig: DockerRig) -> None:
    backend = rig.backend()
    started = await backend.start(spec())
    cursor = (await backend.observe()).cursor
    rig.crash(started)

    async def restarted() -> Instance | None:
        found = {each.id: each for each in (await backend.observe(after=cursor)).instances}.get(started.id)
        return found if found and found.restarts == 1 and found.state is InstanceState.RUNNING else None

    assert (await eventually(restarted)).detail == "killed by SIGKILL (1 restart)"


async def test_remote_engine_is_refused(rig: DockerRig) -> None:
    backend = rig.backend(engine=Engine("tcp://10.0.0.1:2376"))
    for attempt in (backend.observe(), backend.start(spec()), backend.stop(spec().id, grace=0)):
        with pytest.raises(BackendError, match="this machine only") as caught:
            await attempt
        assert not caught.value.retryable


# Others on the same engine


async def test_what_is_not_ours_is_left_alone(rig: DockerRig) -> None:
    stranger = rig.client.create_container(
        rig.image, entrypoint=["sleep", "1000"], labels={"mooring.realm": "somebody-else"}
    )["Id"]
    rig.client.start(stranger)
    other = DockerRig()
    try:
        backend, second = rig.backend(), other.backend()
        mine = await backend.start(spec(wants_port=True))
        theirs = await second.start(spec(wants_port=True))
        assert mine.address != theirs.address
        assert [each.address for each in (await backend.observe()).instances] == [mine.address]
        await backend.shutdown()
        assert await running(second, theirs.id)
        assert rig.client.inspect_container(stranger)["State"]["Running"]
    finally:
        rig.client.remove_container(stranger, force=True)
        await other.close()


# What is printed

PRINTS = """
import os, time
os.write(1, b'out\\n'); time.sleep(0.05); os.write(2, b'err\\n'); time.sleep(0.05)
os.write(1, b'par'); time.sleep(0.2); os.write(1, b'tial\\r\\n')
os.write(1, b'\\xff\\x00binary\\n\\n')
rest = b'z' * 1_000_000 + b'\\n'
while rest: rest = rest[os.write(1, rest):]
os.write(1, b'no newline at the end')
"""


async def test_whatever_is_printed_is_kept_as_lines_and_its_end_comes_behind(rig: DockerRig) -> None:
    rig.file("prints.py", PRINTS)
    backend = rig.backend()
    await backend.start(spec(command="exec python3 prints.py", once=True, process_type="run"))
    await exited(backend, spec(process_type="run").id)

    async def told() -> list[Any] | None:
        query = LogQuery(deployment="foo", service="app", lines=1000)
        found = [each async for each in backend.logs(query).past()]
        return found if any(each.source is LogSource.SYSTEM for each in found) else None

    found = await eventually(told)
    said = [each.text for each in found]
    assert said[:5] == ["out", "err", "partial", "\ufffd\0binary", ""]
    assert "".join(said[5:-2]) == "z" * 1_000_000
    assert len(said[5]) == 64 * 1024
    assert said[-2:] == ["no newline at the end", "exited with status 0"]


async def test_lines_are_all_there_once_over_restarts_of_the_backend(rig: DockerRig) -> None:
    backend = rig.backend()
    await backend.start(spec(command=COUNTS))
    for _ in range(4):
        await asyncio.sleep(0.4)
        await backend.close()
        backend = rig.backend()
        await backend.observe()
    assert await printed(backend, 3000) == [f"line {each}" for each in range(1, 3001)]


async def test_last_words_outlive_the_container_and_its_end_is_told_once(rig: DockerRig) -> None:
    rig.file(
        "leaving.py",
        "import signal, sys, time\n"
        "def leave(*_):\n"
        "    for each in range(2000): print('bye', each)\n"
        "    sys.exit(0)\n"
        "signal.signal(signal.SIGTERM, leave)\n"
        "print('ready', flush=True)\n"
        "while True: time.sleep(1000)\n",
    )
    backend = rig.backend()
    await backend.start(spec(command="python3 leaving.py"))
    await printed(backend, 1)
    await backend.stop(spec().id, grace=10)
    assert rig.containers() == []
    query = LogQuery(deployment="foo", service="app", lines=None)
    said = [each.text async for each in backend.logs(query).past()]
    assert said == ["ready", *(f"bye {each}" for each in range(2000)), "exited with status 0"]


async def test_end_is_told_once_over_a_restart_of_the_backend(rig: DockerRig) -> None:
    backend = rig.backend()
    await backend.start(spec(command="echo hello; exit 3", once=True, process_type="run"))
    await exited(backend, spec(process_type="run").id)

    async def told() -> bool:
        return "exited with status 3" in await texts(backend)

    await eventually(told)
    await backend.close()
    second = rig.backend()
    await second.observe()
    await asyncio.sleep(1)
    assert await texts(second) == ["hello", "exited with status 3"]


async def test_end_that_nobody_saw_is_told_by_whoever_comes_next(rig: DockerRig) -> None:
    backend = rig.backend()
    await backend.start(spec(command="sleep 1; echo hello; exit 3", once=True, process_type="run"))
    await backend.close()
    await asyncio.sleep(2)
    second = rig.backend()
    assert (await exited(second, spec(process_type="run").id)).exit_code == 3

    async def told() -> bool:
        return await texts(second) == ["hello", "exited with status 3"]

    await eventually(told)


async def test_flood_leaves_the_loop_answering_and_keeps_its_lines(rig: DockerRig) -> None:
    backend = rig.backend()
    await backend.start(spec(command="seq 200000; exec sleep 1000"))
    worst = 0.0

    async def all_there() -> bool:
        return [each.text for each in await lines_of(backend, lines=1)] == ["200000"]

    async def measure() -> None:
        """The most that the loop computes at one go: a busy machine does not count as a busy loop."""
        nonlocal worst
        while True:
            last = time.thread_time()
            await asyncio.sleep(0.005)
            worst = max(worst, time.thread_time() - last)

    measuring = asyncio.create_task(measure())

    async def slowly() -> bool:
        await asyncio.sleep(0.3)
        return await all_there()

    await eventually(slowly, within=60)
    measuring.cancel()
    assert worst < 0.2
    log = rig.root / "logs/foo/app" / f"{spec().id}.log"
    assert [int(each.split()[2]) for each in log.read_bytes().splitlines()] == list(range(1, 200001))


async def test_only_one_server_writes(rig: DockerRig) -> None:
    first, second = rig.backend(), rig.backend()
    await first.observe()
    await second.observe()
    wanted = rig.talking(1)
    await second.start(wanted)
    rig.say(second, wanted.id, "once")
    assert await printed(first, 1) == ["once"]
    await asyncio.sleep(0.5)
    assert await printed(first, 1) == ["once"]
    await first.close()
    await second.observe()  # whoever wrote is gone
    rig.say(second, wanted.id, "twice")
    assert await printed(second, 2) == ["once", "twice"]


# Commands beside and on their own


@pytest.mark.parametrize("root", [True, False])
async def test_what_a_command_left_beside_an_instance_goes_with_it(
    rig: DockerRig, monkeypatch: pytest.MonkeyPatch, root: bool
) -> None:
    backend = rig.backend()
    await backend.start(spec())
    await running(backend, spec().id)
    if not root:
        monkeypatch.setattr(os, "geteuid", lambda: 1000)
    attached = await backend.enter(
        spec().id, "setsid sleep 1753 >/dev/null 2>&1 & sleep 0.3; exit 4", env={}, terminal=None
    )
    async with asyncio.timeout(20):
        assert await attached.wait() == (4, "exited with status 4")
    await attached.end()
    assert rig.left("sleep 1753") == set()
    attached = await backend.enter(spec().id, "trap '' HUP TERM; sleep 1753; true", env={}, terminal=None)
    await eventually(lambda: _async(rig.left("sleep 1753")))
    await attached.end(grace=0.2)
    assert rig.left("sleep 1753") == set()
    assert (await running(backend, spec().id)).restarts == 0


async def _async(value: Any) -> Any:
    return value


async def test_command_beside_an_instance_is_signalled(rig: DockerRig) -> None:
    backend = rig.backend()
    await backend.start(spec())
    await running(backend, spec().id)
    attached = await backend.enter(spec().id, "exec sleep 1753", env={}, terminal=None)
    await eventually(lambda: _async(rig.left("sleep 1753")))
    await attached.signal(signal.SIGINT)
    async with asyncio.timeout(10):
        assert (await attached.wait())[0] == 130
    await attached.end()


async def test_ten_that_ignore_the_signal_are_killed_after_one_grace(rig: DockerRig) -> None:
    backend = rig.backend()
    stubborn = "trap '' TERM; while :; do sleep 0.2; done"
    await asyncio.gather(*(backend.start(spec(each, command=stubborn)) for each in range(1, 11)))
    await asyncio.sleep(0.5)
    began = time.monotonic()
    await asyncio.gather(*(backend.stop(spec(each).id, grace=1) for each in range(1, 11)))
    assert 1 <= time.monotonic() - began < 15
    assert rig.containers() == []


@pytest.mark.parametrize(
    "command",
    [
        "python3 polite.py",
        "X=1 python3 polite.py 2>&1",
        "true && python3 polite.py",
        "python3 polite.py | cat",
    ],
)
async def test_app_receives_the_signal_and_may_finish(rig: DockerRig, command: str) -> None:
    rig.file(
        "polite.py",
        "import signal, sys, time\n"
        "def leave(*_):\n"
        "    time.sleep(0.3); print('leaving', file=sys.stderr, flush=True); sys.exit(0)\n"
        "signal.signal(signal.SIGTERM, leave)\n"
        "print('ready', file=sys.stderr, flush=True)\n"
        "while True: time.sleep(1000)\n",
    )
    backend = rig.backend()
    await backend.start(spec(command=command))
    await printed(backend, 1)
    began = time.monotonic()
    await backend.stop(spec().id, grace=10)
    assert time.monotonic() - began < 8
    assert "leaving" in await texts(backend)
