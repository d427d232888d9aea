"""What only builds in containers promise, on a real engine."""

import asyncio
import contextlib
import io
import shutil
import tarfile
import time

import pytest

from builder.base import BuilderUnavailable, BuildFailed
from builder.buildpack import BUNDLED
from builder.container import BUILD, KIND
from builder.docker import DockerBuilder
from controller.engine import REALM, Engine
from tests.contracts.building import UID, Place, docker_builder
from tests.contracts.engine import engine_url, runner_image
from tests.unit.builder.printed import Printed

pytestmark = [pytest.mark.real, pytest.mark.timeout(180)]

MIB = 1024**2


@pytest.fixture
def packs(folder):
    """One buildpack, which runs the app's own build.sh."""
    programs = folder / "packs/scripted/bin"
    programs.mkdir(parents=True)
    (programs / "detect").write_text('#!/bin/sh\n[ -f "$1/build.sh" ] && echo Scripted\n')
    (programs / "compile").write_text('#!/bin/sh\ncd "$1" && exec sh build.sh "$@"\n')
    for each in programs.iterdir():
        each.chmod(0o755)
    return folder / "packs"


@pytest.fixture
async def make(folder, packs):
    """`make(**settings)`: a place whose builder has these; nothing of any of them is left afterwards."""
    made: list[tuple[Place, str]] = []

    def one(**settings) -> Place:
        place = Place(folder)
        realm = f"test{len(made)}x{time.monotonic_ns() % 10**9}"
        place.builder = docker_builder(place, buildpacks=packs, realm=realm, **settings)
        made.append((place, realm))
        return place

    yield one
    engine = Engine(engine_url())
    for place, realm in made:
        await place.builder.close()
        assert await containers(engine, realm) == []
        assert await networks(engine, realm) == []
    await engine.close()


async def containers(engine, realm):
    found = await engine.call(
        lambda client: client.containers(all=True, filters={"label": [f"{REALM}={realm}"]})
    )
    return [each["Id"] for each in found]


async def networks(engine, realm):
    return await engine.call(lambda client: client.networks(filters={"label": [f"{REALM}={realm}"]}))


async def scripted(place, script, **changes):
    return await place.build(place.source(build_sh=script, Procfile="web: x"), **changes)


async def test_a_buildpack_sees_what_the_api_promises_and_nothing_of_the_host(make, folder):
    place = make(build_env={"FROM_SETTINGS": "yes"})
    script = (
        'echo "args $1 $2 $3"; cat "$3/APP_VAR"; echo; env | sort; id -u; umask; ls /var/run/docker.sock; '
        f"ls {folder}; grep -E 'CapEff|NoNewPrivs' /proc/self/status"
    )
    artifact, out = await scripted(place, script, env={"APP_VAR": "a\nb"})
    printed = out.text.splitlines()
    assert "args /tmp/build /tmp/cache/mooring-1 /tmp/env" in printed
    for line in (
        "STACK=mooring-1",
        "REQUEST_ID=build1",
        f"SOURCE_VERSION={'a' * 40}",
        "FROM_SETTINGS=yes",
        "0022",
    ):
        assert line in printed, line
    assert "a" in printed and "b" in printed and "APP_VAR=" not in out.text
    assert "CapEff:\t0000000000000000" in out.text and "NoNewPrivs:\t1" in out.text
    assert out.text.count("No such file or directory") == 2, "neither a socket nor a folder of the host"
    if UID is not None:
        assert str(UID) in printed
    assert artifact.process_types == {"web": "x"}


async def test_config_is_no_environment_of_the_container(make):
    place = make()
    builder = place.builder
    assert isinstance(builder, DockerBuilder)
    building = asyncio.create_task(scripted(place, "echo begun; sleep 3", env={"SECRET": "hush-hush"}))
    await asyncio.sleep(1.5)
    shown = await builder._engine.call(
        lambda client: str([client.inspect_container(each["Id"]) for each in client.containers()])
    )
    assert "hush-hush" not in shown
    await building


async def test_the_cache_is_kept_and_what_a_step_left_behind_is_not(make):
    place = make()
    script = 'echo "kept $(cat "$2/mark" 2>/dev/null)"; echo before > "$2/mark"; (setsid sleep 1000 &)'
    begun = time.monotonic()
    await scripted(place, script)
    _, out = await scripted(place, script)
    assert "kept before" in out.text
    assert time.monotonic() - begun < 30, "a process in the background is not waited for"


async def test_several_buildpacks_run_in_order_and_export_to_those_after_them(make, packs, folder):
    for name, compile_ in (
        ("first", 'echo "export GIVEN=on" > "$(dirname "$0")/../export"'),
        (
            "second",
            'echo "was given $GIVEN"; mkdir -p "$1/.profile.d"; echo "export A=1" > "$1/.profile.d/a.sh"',
        ),
    ):
        programs = folder / f"shelf/{name}/bin"
        programs.mkdir(parents=True)
        (programs / "detect").write_text(f"#!/bin/sh\necho {name}\n")
        (programs / "compile").write_text(f"#!/bin/sh\n{compile_}\n")
        (programs / "release").write_text(
            f"#!/bin/sh\necho 'config_vars: {{BY_{name.upper()}: yes please}}'\n"
            "echo 'default_process_types: {worker: ./work}'\n"
        )
        for each in programs.iterdir():
            each.chmod(0o755)
    place = make(buildpack_folders=[folder / "shelf"])
    wanted = tuple(str(folder / "shelf" / name) for name in ("first", "second"))
    artifact, out = await place.build(place.source(Procfile="web: x"), buildpacks=wanted)
    assert "was given on" in out.text
    assert artifact.env == {"BY_FIRST": "yes please", "BY_SECOND": "yes please"}
    assert artifact.process_types == {"web": "x", "worker": "./work"}
    assert artifact.buildpack == "first + second"
    assert (await place.tree(artifact) / ".profile.d/a.sh").exists()
    with pytest.raises(BuildFailed, match="buildpack_folders"):
        await place.build(place.source(Procfile="web: x"), buildpacks=("/etc",))


async def test_a_failure_is_told_in_the_words_of_the_buildpack(make):
    place = make()
    with pytest.raises(BuildFailed, match="this is why"):
        await scripted(place, "echo ' !     this is why'; exit 3")
    with pytest.raises(BuildFailed, match="ended with status 3"):
        await scripted(place, "exit 3")


@pytest.mark.parametrize(
    ("settings", "script", "words"),
    [
        ({"build_memory": 96 * MIB}, "python3 -c 'x = bytearray(400_000_000)'; sleep 60", "96.0M of memory"),
        ({"build_pids": 60}, "f() { f | f & }; f; sleep 60", "more than 60 processes"),
        ({"build_disk": 50 * MIB}, "head -c 200M /dev/zero > big; sleep 60", "wrote more than 50.0M"),
        ({"build_disk": 50 * MIB}, 'head -c 200M /dev/zero > "$2/big"; sleep 60', "wrote more than 50.0M"),
    ],
    ids=["memory", "processes", "disk", "cache"],
)
async def test_a_build_over_a_limit_is_ended_and_says_which(make, settings, script, words):
    place = make(**settings)
    begun = time.monotonic()
    with pytest.raises(BuildFailed, match=words):
        await scripted(place, script)
    assert time.monotonic() - begun < 45
    assert place.leftovers() == []


async def test_a_full_disk_and_a_hanging_build_are_ended(make):
    with pytest.raises(BuilderUnavailable, match="are free on the server's disk"):
        await scripted(make(disk_reserve=2**60), "sleep 60")
    with pytest.raises(BuildFailed, match="longer than 2 seconds"):
        await scripted(make(), "sleep 60", timeout=2.0)


async def test_a_gigabyte_of_output_is_cut(make):
    place = make()
    _, out = await scripted(place, "head -c 1G /dev/zero | tr '\\0' 'x' | fold -w 200; echo the end")
    assert "only the end follows" in out.text and "the end" in out.text
    assert len(out.text) < 8 * MIB


async def test_a_build_that_is_cancelled_or_closed_ends_at_once(make):
    place = make()
    for end in ("cancel", "close"):
        building = asyncio.create_task(scripted(place, "echo begun; sleep 100"))
        await asyncio.sleep(1.2)
        begun = time.monotonic()
        if end == "cancel":
            building.cancel()
        else:
            await place.builder.close()
        with contextlib.suppress(asyncio.CancelledError):
            await building
        assert time.monotonic() - begun < 10
        assert place.leftovers() == []


async def test_what_a_killed_server_left_is_swept(make):
    place = make()
    builder = place.builder
    assert isinstance(builder, DockerBuilder)
    realm = builder._slugs._realm

    def leave(client):
        image = client.create_container(
            builder._slugs._images._base, ["sleep", "1000"], labels={REALM: realm, KIND: BUILD}
        )
        client.start(image["Id"])

    await builder._engine.call(leave)
    await builder.sweep()
    assert await containers(builder._engine, realm) == []


async def test_trusted_certificates_are_in_the_container(make, folder):
    bundle = folder / "ca.crt"
    bundle.write_text("TRUSTED")
    place = make(ca_bundle=bundle)
    _, out = await scripted(
        place, 'cat "$SSL_CERT_FILE"; echo; [ "$PIP_CERT" = "$SSL_CERT_FILE" ] && echo same'
    )
    assert "TRUSTED" in out.text and "same" in out.text


@pytest.mark.parametrize(("network", "interfaces"), [("none", "lo"), ("isolated", "eth0 lo")])
async def test_the_network_of_builds_is_chosen(make, network, interfaces):
    _, out = await scripted(
        make(build_network=network), "echo has $(ls /sys/class/net | grep -E '^(lo|eth)')"
    )
    assert f"has {interfaces}" in out.text


async def test_a_missing_image_is_ours_to_mend_and_says_how(make):
    with pytest.raises(BuilderUnavailable, match="contrib/stack/build"):
        await scripted(make(builder_image="mooring/nowhere:1"), "true")


FOREIGN = """#!/bin/sh
[ "$1" = - ] || exit 9
mkdir -p /tmp/app && tar -x -C /tmp/app 2>/dev/null
echo "-----> Foreign app detected" >&2
[ -f /tmp/app/broken ] && { echo " !     it is broken" >&2; exit 1; }
echo "from outside: $FROM_CONFIG" > /tmp/app/note
ln /tmp/app/note /tmp/app/twin
echo 'default_process_types: {web: ./serve}' > /tmp/app/.release
tar -C /tmp/app -cz .
"""


@pytest.fixture
async def foreign():
    """An image in the form of flynn/slugbuilder, without our label."""
    engine = Engine(engine_url())
    dockerfile = (
        f'FROM {runner_image(engine_url())}\nLABEL mooring.stack=\nCOPY build /build\nENTRYPOINT ["/build"]\n'
    )
    context = io.BytesIO()
    with tarfile.open(fileobj=context, mode="w") as archive:
        for name, text in (("Dockerfile", dockerfile), ("build", FOREIGN)):
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(text), 0o755
            archive.addfile(member, io.BytesIO(text.encode()))
    context.seek(0)
    name = f"mooring-test-foreign:{time.monotonic_ns()}"
    await engine.call(
        lambda client: list(
            client.build(fileobj=context, custom_context=True, tag=name, rm=True, decode=True)
        )
    )
    yield name
    await engine.call(lambda client: client.remove_image(name, force=True))
    await engine.close()


async def test_an_image_in_the_form_of_flynn_drops_in(make, foreign):
    place = make(builder_image=foreign)
    artifact, out = await place.build(place.source(code="x"), env={"FROM_CONFIG": "yes"})
    assert artifact.process_types == {"web": "./serve"}
    assert ("step", "Foreign app detected") in out.lines
    tree = await place.tree(artifact)
    assert (tree / "note").read_text() == (tree / "twin").read_text() == "from outside: yes\n"
    with pytest.raises(BuildFailed, match="it is broken"):
        await place.build(place.source(broken="x"))
    with pytest.raises(BuildFailed, match="not ours"):
        await place.inspect(place.source(code="x"))


async def test_a_build_that_was_expected_finds_its_container_started(make):
    place = make()
    builder = place.builder
    await scripted(place, "echo first > $2/mark")
    request = place.request(place.source(build_sh='cat "$2/mark"; hostname', Procfile="web: x"))
    builder.expect(request.expected)
    early = await until_one_runs(builder)
    out = Printed()
    await builder.build(request, out)
    assert "first" in out.text and early[:12] in out.text
    await until_none_is_left(builder)


async def test_what_the_last_build_installed_is_copied_while_a_container_waits(make, packs):
    shutil.copytree(BUNDLED / "lib", packs / "lib")
    place = make()
    builder = place.builder
    await scripted(place, "mkdir -p $2/layers/venv/key/content; echo kept > $2/layers/venv/key/content/file")
    request = place.request(
        place.source(
            build_sh='ls "$MOORING_READY/venv"; cat "$MOORING_READY/venv/key/file"', Procfile="web: x"
        )
    )
    builder.expect(request.expected)
    await until_one_runs(builder)
    await asyncio.sleep(2)  # longer than the container looks for a source before it copies
    out = Printed()
    await builder.build(request, out)
    assert "key" in out.text.split() and "kept" in out.text.split()
    await until_none_is_left(builder)


async def test_a_cache_that_was_purged_meanwhile_is_not_brought_back(make):
    place = make()
    builder = place.builder
    await scripted(place, "echo old > $2/mark")
    request = place.request(place.source(build_sh='echo "has $(cat "$2/mark")"; hostname', Procfile="web: x"))
    builder.expect(request.expected)
    early = await until_one_runs(builder)
    shutil.rmtree(request.cache)
    out = Printed()
    await builder.build(request, out)
    assert "has \n" in out.text and early[:12] not in out.text
    await until_none_is_left(builder)


async def until_none_is_left(builder) -> None:
    async with asyncio.timeout(30):
        while await containers(builder._engine, builder._slugs._realm):
            await asyncio.sleep(0.05)


async def until_one_runs(builder) -> str:
    """Its id."""
    async with asyncio.timeout(30):
        while not (found := await running(builder)):
            await asyncio.sleep(0.05)
    return found[0]


async def running(builder) -> list[str]:
    labels = [f"{REALM}={builder._slugs._realm}", f"{KIND}={BUILD}"]
    found = await builder._engine.call(
        lambda client: client.containers(filters={"label": labels, "status": "running"})
    )
    return [each["Id"] for each in found]
