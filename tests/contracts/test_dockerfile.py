"""Dockerfiles on a real engine: by BuildKit, and by the engine's own builder."""

import asyncio
import io
import json
import secrets
import tarfile
from datetime import timedelta
from pathlib import Path

import pytest

from builder.base import BuilderUnavailable, BuildFailed
from builder.buildkit import find_program
from builder.buildkit_guard import Guard
from builder.classic_build import Limits
from builder.dockerfile import BUILDKIT, CLASSIC, DockerfileBuilder
from builder.image_archive import unnamed_archive
from builder.images import ImageStore
from builder.types import BuildRequest
from controller.engine import REALM, Engine
from controller.types import ArtifactKind, DockerfileBuild
from tests.contracts.engine import debian_image, engine_url

pytestmark = [pytest.mark.real]

BASE = "FROM debian:bookworm-slim\n"
LONG = 60.0


class Printed:
    def __init__(self):
        self.lines = []

    def step(self, text):
        self.lines.append(f"-----> {text}")

    def line(self, text):
        self.lines.append(f"       {text}")

    def warn(self, text):
        self.lines.append(f" !     {text}")

    @property
    def text(self):
        return "\n".join(self.lines)


@pytest.fixture
async def engine():
    url = engine_url()
    debian_image(url)
    engine = Engine(url)
    yield engine
    await engine.close()


@pytest.fixture
async def realm(engine):
    """A name of our own, of which nothing stays."""
    realm = f"test{secrets.token_hex(4)}"
    yield realm
    store = ImageStore(engine, realm)
    for service in await store.services():
        await store.remove_service(*service)


@pytest.fixture(params=[BUILDKIT, CLASSIC])
async def way(request):
    if request.param == BUILDKIT and await find_program() is None:
        pytest.skip("no docker command here speaks BuildKit")
    return request.param


@pytest.fixture
async def make(engine, realm, tmp_path):
    """`make(way)`: a builder, closed at the end."""
    made = []

    def make(way, **options):
        options = {"image_limit": 4 * 1024**3, **options}
        builder = DockerfileBuilder(
            builds=tmp_path / "builds", engine=engine, realm=realm, dockerfile_builder=way, **options
        )
        made.append(builder)
        return builder

    yield make
    for each in made:
        await each.close()


@pytest.fixture
def source(tmp_path):
    """`source({name: text})`: a request to build these files."""
    numbers = iter(range(100))

    def source(files, *, env=None, timeout=LONG, **dockerfile):
        number = next(numbers)
        folder = tmp_path / f"source-{number}"
        for name, text in files.items():
            place = folder / name
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(text)
        return BuildRequest(
            id=f"build-{number}",
            deployment="foo",
            service="app",
            source=folder,
            env=env or {},
            cache=tmp_path / "caches" / "foo" / "app",
            timeout=timeout,
            dockerfile=DockerfileBuild(**dockerfile),
        )

    return source


async def printed_by(engine, image, *command):
    """What a container of the image prints."""

    def work(client):
        container = client.create_container(
            image, list(command) or None, entrypoint=[] if command else None, labels={"mooring.test": "1"}
        )
        try:
            client.start(container)
            client.wait(container)
            return client.logs(container).decode()
        finally:
            client.remove_container(container, force=True)

    return await engine.call(work)


async def everything_of(engine, image):
    """All that is in the image and its history, as bytes."""

    def work(client):
        saved = b"".join(client.get_image(image))
        history = json.dumps(client.history(image)) + json.dumps(client.inspect_image(image))
        return saved + history.encode()

    return await engine.call(work)


async def containers(engine, words):
    """Those of steps with these words, running or not."""
    found = await engine.call(lambda client: client.containers(all=True))
    return [each["Id"] for each in found if words in each["Command"]]


async def ours(engine, realm):
    filters = {"label": f"{REALM}={realm}"}
    return await engine.call(lambda client: [each["Id"] for each in client.images(filters=filters)])


async def test_image_of_a_dockerfile_is_built_named_and_runs(way, make, source, engine, realm):
    out = Printed()
    files = {
        "Dockerfile": BASE + 'COPY hello /hello\nEXPOSE 8000\nCMD ["cat", "/hello"]\n',
        "hello": "hello\n",
    }
    artifact = await make(way).build(source(files), out)
    assert artifact.kind is ArtifactKind.IMAGE
    assert artifact.reference.startswith("sha256:")
    assert artifact.process_types == {}
    assert await printed_by(engine, artifact.reference) == "hello\n"
    found = await engine.call(lambda client: client.inspect_image(artifact.reference))
    assert artifact.size == found["Size"]
    assert found["RepoTags"] == [f"mooring-{realm}/foo/app:{artifact.reference[7:19]}"]
    assert found["Config"]["Labels"]["mooring.kind"] == "image"
    assert "-----> Dockerfile app detected" in out.lines
    assert "COPY hello /hello" in out.text
    assert "       It exposes 8000/tcp" in out.lines


async def test_same_source_makes_the_same_image_from_the_cache(way, make, source):
    files = {"Dockerfile": BASE + "RUN date >/date\nCMD cat /date\n"}
    builder = make(way)
    first = await builder.build(source(files), Printed())
    out = Printed()
    second = await builder.build(source(files), out)
    assert second == first
    assert "       Taken from the cache" in out.lines


async def test_build_without_the_services_cache_runs_every_step_again(way, make, source, tmp_path):
    files = {"Dockerfile": BASE + "RUN date +%N >/date\nCMD cat /date\n"}
    builder = make(way)
    first = await builder.build(source(files), Printed())
    (tmp_path / "caches" / "foo" / "app" / ".dockerfile").unlink()
    assert (await builder.build(source(files), Printed())).reference != first.reference


async def test_arguments_and_target_are_those_of_the_service(way, make, source, engine):
    dockerfile = BASE.replace("\n", " AS small\n") + (
        'ARG COLOR=grey\nRUN echo "$COLOR" >/color\nCMD ["cat", "/color"]\nFROM small\nCMD ["echo", "last"]\n'
    )
    request = source({"Dockerfile": dockerfile}, args={"COLOR": "blue; $(date)"}, target="small")
    artifact = await make(way).build(request, Printed())
    assert await printed_by(engine, artifact.reference) == "blue; $(date)\n"


async def test_dockerfile_may_lie_anywhere_in_the_source(way, make, source, engine):
    files = {"deploy/app.Dockerfile": BASE + "COPY top /top\nCMD cat /top\n", "top": "found"}
    artifact = await make(way).build(source(files, path="deploy/app.Dockerfile"), Printed())
    assert await printed_by(engine, artifact.reference) == "found"


async def test_dockerignore_keeps_files_out(way, make, source, engine):
    files = {
        "Dockerfile": BASE + 'COPY . /app\nCMD ["find", "/app", "-type", "f"]\n',
        ".dockerignore": "# comment\n*.log\nsecret\n!secret/kept\n",
        "a.log": "",
        "b.txt": "",
        "secret/gone": "",
        "secret/kept": "",
    }
    artifact = await make(way).build(source(files), Printed())
    found = (await printed_by(engine, artifact.reference)).split()
    assert "/app/b.txt" in found
    assert "/app/secret/kept" in found
    assert "/app/a.log" not in found
    assert "/app/secret/gone" not in found


async def test_secret_is_read_and_reaches_neither_image_nor_log(make, source, engine):
    if await find_program() is None:
        pytest.skip("no docker command here speaks BuildKit")
    value = f"s3cret-{secrets.token_hex(8)}"
    dockerfile = BASE + (
        "RUN --mount=type=secret,id=TOKEN cat /run/secrets/TOKEN && wc -c </run/secrets/TOKEN >/length\n"
        "CMD cat /length\n"
    )
    out = Printed()
    request = source({"Dockerfile": dockerfile}, env={"TOKEN": value}, secrets=("TOKEN",))
    artifact = await make(BUILDKIT).build(request, out)
    assert (await printed_by(engine, artifact.reference)).strip() == str(len(value))
    assert value not in out.text
    assert "(hidden)" in out.text
    assert value.encode() not in await everything_of(engine, artifact.reference)


async def test_secret_that_is_not_set_is_named(way, make, source):
    with pytest.raises(BuildFailed, match="config:set TOKEN"):
        await make(way).build(source({"Dockerfile": BASE + "CMD date\n"}, secrets=("TOKEN",)), Printed())


async def test_mount_without_buildkit_is_refused_with_the_way_out(make, source):
    dockerfile = BASE + "RUN --mount=type=secret,id=TOKEN true\nCMD date\n"
    with pytest.raises(BuildFailed, match="BuildKit"):
        await make(CLASSIC).build(source({"Dockerfile": dockerfile}), Printed())


async def test_failing_step_is_named_with_its_status_and_leaves_no_container(
    way, make, source, engine, realm
):
    out = Printed()
    dockerfile = BASE + "RUN echo kept\nRUN echo no compiler here && exit 7\nCMD date\n"
    with pytest.raises(BuildFailed, match=r"exit 7.* ended with status 7"):
        await make(way).build(source({"Dockerfile": dockerfile}), out)
    assert "       no compiler here" in out.lines
    assert await containers(engine, "no compiler here") == []
    store = ImageStore(engine, realm)
    await store.remove_cache("foo", "app")
    assert await store.services() == []
    assert await ours(engine, realm) == []


async def test_failed_build_is_gone_on_with(make, source):
    builder = make(CLASSIC)
    good = BASE + "RUN echo expensive\n"
    await builder.build(source({"Dockerfile": BASE + "CMD date\n"}), Printed())
    with pytest.raises(BuildFailed):
        await builder.build(source({"Dockerfile": good + "RUN false\nCMD date\n"}), Printed())
    out = Printed()
    await builder.build(source({"Dockerfile": good + "RUN true\nCMD date\n"}), out)
    assert (
        out.lines[out.lines.index("-----> Step 2/8: RUN echo expensive") + 1] == "       Taken from the cache"
    )


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"README": "nothing"}, "There is no file 'Dockerfile'"),
        ({"Dockerfile": "FORM debian\n"}, "FORM|unknown instruction"),
        ({"Dockerfile": "FROM no-such-image-here:1\nCMD date\n"}, "no-such-image-here"),
        ({"Dockerfile": "FROM scratch\nCOPY x /x\n", "x": ""}, "Nothing says what the image runs"),
        ({"Dockerfile": BASE + "CMD date\n", "Procfile": "web\n"}, "Procfile line 1"),
    ],
)
async def test_what_can_not_be_built_is_told_in_words(way, make, source, files, words):
    with pytest.raises(BuildFailed, match=words):
        await make(way).build(source(files), Printed())


async def test_procfile_names_the_process_types(way, make, source):
    files = {"Dockerfile": BASE, "Procfile": "web: sleep 1\nworker: sleep 2\n"}
    out = Printed()
    artifact = await make(way).build(source(files), out)
    assert artifact.process_types == {"web": "sleep 1", "worker": "sleep 2"}
    assert "       Procfile declares types -> web, worker" in out.lines


async def test_link_out_of_the_source_is_no_dockerfile(way, make, source, tmp_path):
    (tmp_path / "outside").write_text(BASE + "CMD date\n")
    request = source({"README": ""})
    (request.source / "Dockerfile").symlink_to(tmp_path / "outside")
    with pytest.raises(BuildFailed, match="There is no file"):
        await make(way).build(request, Printed())


async def test_cancel_ends_the_step_and_leaves_nothing(way, make, source, engine, realm, tmp_path):
    out = Printed()
    mark = f"mark{secrets.token_hex(4)}"
    request = source({"Dockerfile": BASE + f"RUN echo {mark}; sleep 6543\nCMD date\n"})
    task = asyncio.create_task(make(way).build(request, out))
    async with asyncio.timeout(LONG):
        while f"       {mark}" not in out.lines:
            await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    async with asyncio.timeout(20):
        while await containers(engine, mark) or _runs("sleep 6543"):
            await asyncio.sleep(0.1)
    assert await ours(engine, realm) == []
    assert list((tmp_path / "builds").iterdir()) == []
    assert not request.source.exists()


def _runs(words):
    for each in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = each.read_bytes().replace(b"\0", b" ").decode("utf-8", "replace").strip()
        except OSError:
            continue
        if line == words:
            return True
    return False


async def test_time_limit_ends_the_build_in_words(way, make, source, engine):
    request = source({"Dockerfile": BASE + "RUN sleep 5432\nCMD date\n"}, timeout=3.0)
    with pytest.raises(BuildFailed, match="build_timeout"):
        await make(way).build(request, Printed())
    async with asyncio.timeout(20):
        while await containers(engine, "sleep 5432"):
            await asyncio.sleep(0.1)


async def test_image_above_the_limit_is_refused_and_gone(way, make, source, engine, realm):
    with pytest.raises(BuildFailed, match="image_limit"):
        await make(way, image_limit=1024**2).build(source({"Dockerfile": BASE + "CMD date\n"}), Printed())
    assert await ours(engine, realm) == []


async def test_full_disk_ends_the_build(way, make, source):
    request = source({"Dockerfile": BASE + "RUN sleep 600\nCMD date\n"})
    with pytest.raises(BuilderUnavailable, match="are free"):
        await make(way, disk_reserve=2**60).build(request, Printed())


async def test_steps_keep_within_memory_and_processes(way, make, source):
    if way == BUILDKIT and not Guard(Limits(), "").can_see:
        pytest.skip("the control groups of steps are not to be seen here")
    builder = make(way, build_memory=64 * 1024**2, build_pids=20)
    greedy = BASE + "RUN sleep 1; head -c 200M /dev/zero | tail >/dev/null\nCMD date\n"
    with pytest.raises(BuildFailed, match="build_memory"):
        await builder.build(source({"Dockerfile": greedy}), Printed())
    out = Printed()
    forks = BASE + "RUN sleep 1; for i in $(seq 60); do sleep 3 & done; wait\nCMD date\n"
    with pytest.raises(BuildFailed):
        await builder.build(source({"Dockerfile": forks}), out)
    assert "fork" in out.text.lower()


async def test_image_is_kept_while_it_is_held_and_goes_afterwards(make, source, engine, realm):
    artifact = await make(CLASSIC).build(source({"Dockerfile": BASE + "RUN date\nCMD date\n"}), Printed())
    store = ImageStore(engine, realm)
    assert (await store.collect(lambda _: False)).count == 0, "it was named just now"
    old = ImageStore(engine, realm, fresh=timedelta(0))
    assert (await old.collect(lambda reference: reference == artifact.reference)).count == 0
    assert (await old.sizes())[("foo", "app")] == artifact.size
    assert (await old.collect(lambda _: False)).count == 1
    assert await ours(engine, realm) == []


async def test_saved_image_is_loaded_without_its_names(make, source, engine, realm, tmp_path):
    built = await make(CLASSIC).build(source({"Dockerfile": BASE + "RUN date\nCMD date\n"}), Printed())
    name = f"mooring-test-{secrets.token_hex(4)}"

    def save(client):
        client.tag(built.reference, name, tag="1")
        saved = b"".join(client.get_image(f"{name}:1"))
        client.remove_image(f"{name}:1")
        return saved

    (tmp_path / "saved.tar").write_bytes(await engine.call(save))
    unnamed_archive(
        tmp_path / "saved.tar", tmp_path / "unnamed.tar", f"{name}:1", limit=0, check=lambda: None
    )
    store = ImageStore(engine, realm)
    assert await store.load(tmp_path / "unnamed.tar") == built.reference
    kept = await store.keep("bar", "app", built.reference)
    assert kept.starts
    found = await engine.call(lambda client: client.inspect_image(built.reference))
    assert sorted(found["RepoTags"]) == [
        f"mooring-{realm}/{each}/app:{built.reference[7:19]}" for each in ("bar", "foo")
    ]


def test_archive_that_holds_no_image_is_refused(tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        info = tarfile.TarInfo("hello")
        info.size = 2
        archive.addfile(info, io.BytesIO(b"hi"))
    with pytest.raises(BuildFailed, match="docker save"):
        unnamed_archive(tmp_path / "a.tar", tmp_path / "b.tar", "x", limit=0, check=lambda: None)
