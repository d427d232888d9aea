"""What the server does by itself: disk use stays bounded, a full disk is survived, builds queue and are ended."""

import asyncio
import os
import shutil
import subprocess

import pytest

from builder.slugs import SlugStore
from contrib.installation import Installation
from controller.client import Client
from controller.config import DataFolder
from controller.names import Address
from controller.types import Artifact, ArtifactKind, BuildStatus, VersionStatus
from tests.acceptance.conftest import missing_commands

pytestmark = [pytest.mark.real, pytest.mark.acceptance]

MIB = 1024**2
SERVE = "exec python3 -m http.server $PORT --bind 127.0.0.1"
FOO = Address("foo")


def installation(**settings):
    if missing := missing_commands():
        text = f"not installed: {', '.join(missing)}"
        if os.environ.get("MOOR_TEST_REAL"):
            pytest.fail(text)
        pytest.skip(text)
    return Installation(settings={"stop-grace": "5", **settings})


@pytest.fixture
def start():
    """Start an installation with these settings; `size`: on a disk of so many bytes of its own."""
    running, mounted = [], []

    def begin(*, size=None, **settings):
        here = installation(**settings)
        running.append(here)
        if size is not None:
            here.data.mkdir()
            mount = ["mount", "-t", "tmpfs", "-o", f"size={size},mode=0711", "tmpfs", str(here.data)]
            done = subprocess.run(mount, capture_output=True, text=True)
            if done.returncode:
                pytest.skip(f"no disk of our own can be had here: {done.stderr.strip()}")
            mounted.append(here.data)
        here.start()
        here.add_key()
        return here

    yield begin
    for here in running:
        log = here.last_lines(100)
        with_own_disk = here.data in mounted
        if with_own_disk:
            here.run("moor", "server:stop", "--all", timeout=90)
            subprocess.run(["umount", "-l", str(here.data)], check=True)
        here.remove()
        print(log)


def usage(folder):
    return (
        int(
            subprocess.run(["du", "-sk", folder], capture_output=True, text=True, check=True).stdout.split()[
                0
            ]
        )
        * 1024
    )


def events(here, kind):
    return [each for each in here.json("events", "-n", "1000") if each["kind"] == kind]


def problems(here):
    return here.json("status")["problems"]


# Retention


def test_thirty_versions_leave_what_is_kept_of_five(start):
    here = start(**{"keep-versions": "5", "keep-builds": "3"})
    here.moor("create", "foo")
    folders = DataFolder(here.data)
    slugs = SlugStore(folders.slugs, folders.apps, limit=100 * MIB)

    async def release(client, number):
        service = (await client.ensure_service(FOO)).service
        tree = here.folder / "tree"
        tree.mkdir()
        (tree / "data").write_bytes(os.urandom(MIB))
        build = await client.open_build(FOO, commit=None)
        slug = await slugs.keep(tree, deployment="foo", service="app", uid=service.uid)
        artifact = Artifact(
            kind=ArtifactKind.SLUG, reference=slug.reference, size=slug.size, process_types={"web": SERVE}
        )
        await client.close_build(build.id, BuildStatus.SUCCEEDED, artifact=artifact)
        change = await client.release(FOO, artifact, commit=None, build=build.id, reason=f"release {number}")
        assert change.version is not None
        async for step in client.follow(FOO, change.version.number):
            if step.done:
                assert step.version is not None
                assert step.version.status is VersionStatus.LIVE, step

    async def release_all():
        token = folders.local_token.read_text().strip()
        most = 0
        async with Client(f"http://127.0.0.1:{here.api}", token) as client:
            for number in range(30):
                await release(client, number)
                most = max(most, usage(folders.slugs) + usage(folders.apps))
        return most

    most = asyncio.run(release_all())

    def settled():
        archives, trees = len(list(folders.slugs.iterdir())), len(list((folders.apps / "foo/app").iterdir()))
        return archives == 5 and trees == 2

    here.moor("disk:collect")
    here.wait_until(settled, "only what is kept is left")
    assert [each["number"] for each in here.json("releases", "-a", "foo", "-n", "100")] == [
        30,
        29,
        28,
        27,
        26,
    ]
    assert len(here.json("builds", "-a", "foo", "-n", "100")) == 3
    assert usage(folders.slugs) < 6 * MIB
    assert most < 40 * MIB, f"{most / MIB:.0f} MiB"
    assert sum(len(each["data"]["versions"]) for each in events(here, "versions.collected")) == 25
    here.moor("rollback", "-a", "foo")
    assert here.json("releases", "-a", "foo")[0]["reason"] == "rollback to v29"
    print(f"30 versions of 1 MiB, keep 5: at most {most / MIB:.0f} MiB in slugs and apps")


# The queue


SLOW = "#!/bin/sh\necho building\nwhile [ ! -e {gate} ]; do sleep 0.1; done\n"


def slow_app(here, name, gate):
    here.moor("create", name)
    folder = here.checkout(name)
    (folder / "bin").mkdir()
    (folder / "bin/pre_compile").write_text(SLOW.format(gate=gate))
    (folder / "bin/pre_compile").chmod(0o755)
    here.commit(folder, "slow to build")
    return folder


def begin_push(here, folder):
    return subprocess.Popen(
        ["git", "push", "deploy", "master"],
        cwd=folder,
        env=here.env,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


def states(here):
    return sorted(each["state"] for each in here.json("deploys"))


def test_builds_queue_are_shown_cancelled_and_survive_a_killed_server(start):
    here = start(**{"builds-at-once": "2"})
    gate = here.folder / "gate"
    folders = [slow_app(here, f"app{number}", gate) for number in range(5)]
    pushes = []
    for number, folder in enumerate(folders):
        pushes.append(begin_push(here, folder))
        here.wait_until(lambda count=number + 1: len(states(here)) == count, "the push has a build record")

    found = here.json("deploys")
    assert [each["state"] for each in found] == ["building"] * 2 + ["queued"] * 3
    assert [each["deployment"] for each in found] == [f"app{number}" for number in range(5)]
    assert "as many as this server runs at once" in found[2]["doing"]
    assert found[2]["reason"].startswith("push of ")

    # One leaves the line because somebody says so, one because its client dies: places are free at once.
    here.moor("deploy:cancel", "-a", "app2")
    assert "admin cancelled the build" in pushes[2].communicate(timeout=30)[0]
    os.killpg(pushes[0].pid, 9)
    here.wait_until(lambda: states(here) == ["building", "building", "queued"], "the next one builds")

    here.kill()
    for push in (pushes[1], pushes[3], pushes[4]):
        push.communicate(timeout=60)
    here.start()
    assert states(here) == []
    for number in (1, 3, 4):
        (build,) = here.json("builds", "-a", f"app{number}")
        assert build["status"] == "abandoned"
        assert "the server stopped while it" in build["error"]
    gate.write_text("")
    gate.chmod(0o644)
    done = here.push(folders[4])
    assert done.returncode == 0, done.stdout
    pushes[0].communicate()


# The disk


def fill(here, leave):
    """Write a file so that only so many bytes are left."""
    file = here.data / "ballast"
    free = shutil.disk_usage(here.data).free
    # Unbuffered: where others write too, what does not fit would be tried again at the end.
    with file.open("ab", buffering=0) as out:
        while free > leave:
            size = min(MIB, free - leave)
            try:
                out.write(b"\0" * size)
            except OSError:
                break
            free -= size
    return file


def test_a_disk_that_fills_up_is_warned_of_refuses_pushes_and_recovers(start):
    here = start(size=300 * MIB, **{"disk-reserve": "20M", "disk-warning": "60M"})
    here.moor("create", "foo")
    folder = here.checkout("foo")
    assert here.push(folder).returncode == 0
    cache = here.data / "caches/foo/app"
    (cache / "old").write_bytes(os.urandom(5 * MIB))

    ballast = fill(here, 50 * MIB)
    here.wait_until(lambda: any("disk_warning" in each for each in problems(here)), "the warning is shown")
    (problem,) = problems(here)
    assert "pushes are refused below 20 MiB" in problem
    assert len(events(here, "disk.low")) == 1
    here.wait_until(lambda: not cache.exists(), "room is made of caches that nobody uses")

    fill(here, 10 * MIB)
    here.commit(folder, "more")
    refused = here.push(folder)
    assert refused.returncode != 0
    assert "keeps 20 MiB in reserve" in refused.stdout
    assert "Mooring's own files:" in refused.stdout
    assert "disk:collect" in refused.stdout
    assert here.get("foo")[0] == 200

    ballast.unlink()
    here.wait_until(lambda: not problems(here), "the warning goes")
    assert len(events(here, "disk.recovered")) == 1
    done = here.push(folder)
    assert done.returncode == 0, done.stdout


def test_a_build_that_fills_the_disk_ends_with_the_right_words_and_leaves_nothing(start):
    here = start(size=200 * MIB, **{"disk-reserve": "20M", "disk-warning": "20M"})
    here.moor("create", "foo")
    folder = here.checkout("foo")
    assert here.push(folder).returncode == 0
    before = shutil.disk_usage(here.data).free
    (folder / "bin").mkdir()
    (folder / "bin/pre_compile").write_text("#!/bin/sh\nhead -c 1000000000 /dev/zero > ballast\nexit 1\n")
    (folder / "bin/pre_compile").chmod(0o755)
    here.commit(folder, "too large")

    refused = here.push(folder)

    assert refused.returncode != 0
    assert "free on the server's disk" in " ".join(refused.stdout.replace("remote:", "").split()), (
        refused.stdout
    )
    build = here.json("builds", "-a", "foo")[0]
    assert build["status"] == "failed"
    assert "disk" in build["error"]
    assert not list((here.data / "builds").glob("*.tmp"))
    assert shutil.disk_usage(here.data).free > before - 5 * MIB
    assert here.get("foo")[0] == 200


def test_a_disk_without_a_byte_left_loses_nothing_and_goes_on_by_itself(start):
    here = start(size=200 * MIB, **{"disk-reserve": "5M", "disk-warning": "10M"})
    here.moor("create", "foo")
    folder = here.checkout("foo")
    assert here.push(folder).returncode == 0
    here.moor("config:set", "-a", "foo", "BEFORE=1")

    ballast = fill(here, 0)
    refused = here.run("moor", "config:set", "-a", "foo", f"DURING={'x' * 50_000}")
    assert refused.returncode != 0
    assert "full" in refused.stdout or "space" in refused.stdout, refused.stdout
    assert here.get("foo")[0] == 200
    assert "BEFORE" in here.moor("config", "-a", "foo")
    here.wait_until(lambda: problems(here), "the problem is shown")
    pushed = here.push(folder)
    assert pushed.returncode == 0 or "disk" in pushed.stdout, pushed.stdout

    ballast.unlink()
    here.wait_until(lambda: not problems(here), "it goes on by itself")
    here.moor("config:set", "-a", "foo", "AFTER=1")
    assert set(here.json("config", "-a", "foo")) >= {"BEFORE", "AFTER"}
    assert "DURING" not in here.json("config", "-a", "foo")
    here.kill()
    here.start()
    here.wait_until(lambda: here.get("foo")[0] == 200, "it serves after a restart")
    assert set(here.json("config", "-a", "foo")) >= {"BEFORE", "AFTER"}
