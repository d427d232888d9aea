"""Builds that mean harm, or go wrong as if they did: each ends with the right words, and leaves nothing behind."""

import os
import resource
import shutil
from pathlib import Path

import pytest

from builder.base import BuildFailed
from controller.backends.keeper.groups import Groups
from tests.contracts.building import MARK, UID, host_builder

pytestmark = [pytest.mark.real, pytest.mark.alone]

HUNGRY = '/usr/bin/python3 -c "x = [bytearray(10**6) for _ in range(2000)]; import time; time.sleep(1000)"'
FORKING = f"i=0; while [ $i -lt 300 ]; do sleep {MARK + 50} & i=$((i + 1)); done; wait"


def sleeping() -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if f"sleep\0{MARK + 50}".encode() in path.read_bytes():
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found


@pytest.fixture(params=["groups", "looking"])
def limited(request, scripted, monkeypatch):
    """Builds with limits: kept by control groups where there are any, and by looking."""
    if request.param == "looking":
        monkeypatch.setattr(Groups, "find", classmethod(lambda _cls, _realm, _mounts=None: Groups({})))
    elif not Groups.find("trial").trees:
        pytest.skip("no control groups can be made here")

    def make(**limits):
        scripted.builder = host_builder(scripted, buildpacks=scripted.folder / "packs", **limits)
        return scripted

    return make


async def test_a_build_that_takes_all_memory_is_ended(limited):
    place = limited(build_memory=200 * 1024**2)
    with pytest.raises(BuildFailed, match=r"used more than 200M of memory, the limit .*build_memory"):
        await place.build(place.source(build_sh=HUNGRY, Procfile="web: x"))
    assert place.leftovers() == []


async def test_memory_of_many_small_processes_is_counted_together(limited):
    place = limited(build_memory=200 * 1024**2)
    part = '/usr/bin/python3 -c "x = bytearray(60 * 10**6); import time; time.sleep(1000)" & '
    with pytest.raises(BuildFailed, match="used more than 200M"):
        await place.build(place.source(build_sh=part * 6 + "wait", Procfile="web: x"))
    assert place.leftovers() == []


async def test_a_build_that_forks_without_end_is_ended(limited):
    place = limited(build_pids=60)
    with pytest.raises(BuildFailed, match="more than 60 processes and threads at once"):
        await place.build(place.source(build_sh=FORKING, Procfile="web: x"))
    assert sleeping() == [] and place.leftovers() == []


async def test_a_bomb_of_forks_is_ended(limited):
    place = limited(build_pids=100)
    with pytest.raises(BuildFailed, match="more than 100 processes"):
        await place.build(place.source(build_sh="f() { f | f & }; f; sleep 600", Procfile="web: x"))
    assert place.leftovers() == []


async def test_a_build_within_its_limits_knows_nothing_of_them(limited):
    place = limited(build_memory=500 * 1024**2, build_pids=50, build_cpu=1.0)
    artifact, _ = await place.build(place.source(build_sh="echo done > made", Procfile="web: x"))
    assert (await place.tree(artifact) / "made").exists()


async def test_no_group_is_left_when_a_build_has_ended(scripted):
    groups = Groups.find("trial")
    if not groups.trees:
        pytest.skip("no control groups can be made here")
    scripted.builder = host_builder(scripted, buildpacks=scripted.folder / "packs", build_pids=100)
    script = "cat /proc/self/cgroup"
    _, out = await scripted.build(scripted.source(build_sh=script, Procfile="web: x"))
    assert "/mooring/builds-" in out.text and "/build1" in out.text
    for folder in groups.folders:
        assert not list(folder.parent.glob("builds-*/build1"))
    groups.close()


async def test_a_slug_of_a_hundred_thousand_files_is_packed_and_unpacked(scripted):
    program = """
import os
for folder in range(100):
    os.mkdir(f"d{folder}")
    for file in range(1000):
        open(f"d{folder}/{file}", "w").close()
"""
    script = f"cat > make.py <<'END'\n{program}END\n/usr/bin/python3 make.py"
    artifact, out = await scripted.build(scripted.source(build_sh=script, Procfile="web: x"))
    shutil.rmtree(scripted.folder / "apps")
    tree = await scripted.tree(artifact)
    assert sum(len(files) for _, _, files in os.walk(tree)) == 100_003
    assert "Compiled slug size is" in out.text


async def test_files_with_special_rights_lose_them(scripted):
    script = "touch a b; chmod 4755 a; chmod 2755 b; mkdir s; chmod 1777 s; mkfifo f; ln -s /dev/sda d"
    artifact, _ = await scripted.build(scripted.source(build_sh=script, Procfile="web: x"))
    tree = await scripted.tree(artifact)
    assert not any(path.lstat().st_mode & 0o7000 for path in tree.iterdir() if not path.is_symlink())
    assert not (tree / "f").exists()


@pytest.mark.skipif(UID is None, reason="only root has a user of its own for each build")
async def test_a_build_can_not_make_a_device_nor_become_root(scripted):
    script = "mknod sda b 8 0 2>&1; cp /bin/sh ./sh; chown 0 sh 2>&1; chmod u+s sh; ./sh -p -c id; su -c id 2>&1; true"
    _, out = await scripted.build(scripted.source(build_sh=script, Procfile="web: x"))
    assert "uid=0" not in out.text and f"uid={UID}" in out.text
    assert "not permitted" in out.text


async def test_a_growing_slug_is_told_of_while_it_is_packed(scripted, monkeypatch):
    monkeypatch.setattr("builder.slugs._TOLD_EVERY", 0.0)
    script = "head -c 5000000 /dev/urandom > x"
    _, out = await scripted.build(scripted.source(build_sh=script, Procfile="web: x"))
    assert any(text.startswith("Packing: ") and text.endswith("at most 50.0M") for _, text in out.lines)


async def test_a_file_larger_than_the_server_allows_is_named(scripted, monkeypatch):
    monkeypatch.setattr("builder.steps.LIMITS", {"FSIZE": 100_000, "NOFILE": 1000})
    with pytest.raises(BuildFailed, match=r"larger than the server allows|ended with status"):
        await scripted.build(
            scripted.source(build_sh="exec head -c 1000000 /dev/zero > x", Procfile="web: x")
        )
    assert scripted.leftovers() == []
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 100_000
