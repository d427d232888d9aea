"""Which control groups are used, and what is written into them. The trees are folders that look like them."""

from pathlib import Path

import pytest

from controller.backends.keeper.groups import Groups, Tree
from controller.backends.keeper.limits import LimitKeeper, Watch

MIB = 1024**2
V1_FILES = {
    "memory": ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes", "memory.oom_control"),
    "pids": ("pids.max",),
    "cpu": ("cpu.cfs_period_us", "cpu.cfs_quota_us"),
}
V2_FILES = ("memory.max", "memory.swap.max", "memory.oom.group", "memory.events", "pids.max", "cpu.max")


def mounts(*lines: tuple[str, Path, str]) -> str:
    return "".join(f"none {place} {kind} {options} 0 0\n" for kind, place, options in lines)


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the kernel does, a new folder in a tree comes with its files."""
    mkdir, rmdir = Path.mkdir, Path.rmdir

    def make(path: Path, *arguments: object, **options: object) -> None:
        mkdir(path, *arguments, **options)  # type: ignore[arg-type]
        top = next((each for each in path.parents if (each / "is-a-tree").exists()), None)
        if top is not None:
            for name in ("cgroup.procs", *(top / "is-a-tree").read_text().split()):
                if not (path / name).exists():
                    (path / name).write_text("")

    def remove(path: Path) -> None:
        for each in path.iterdir():
            if each.is_file():
                each.unlink()
        rmdir(path)

    monkeypatch.setattr(Path, "mkdir", make)
    monkeypatch.setattr(Path, "rmdir", remove)


def tree_v2(root: Path, controllers: str) -> Path:
    place = root / "unified"
    place.mkdir()
    (place / "cgroup.controllers").write_text(controllers)
    (place / "cgroup.subtree_control").write_text("")
    (place / "is-a-tree").write_text(" ".join((*V2_FILES, "cgroup.subtree_control")))
    return place


def tree_v1(root: Path, controller: str) -> Path:
    place = root / controller
    place.mkdir()
    (place / "is-a-tree").write_text(" ".join(V1_FILES[controller]))
    return place


def content(folder: Path) -> dict[str, str]:
    return {each.name: each.read_text() for each in folder.iterdir() if each.is_file() and each.read_text()}


def test_the_one_tree_of_version_2_is_used_where_it_has_the_controllers(tmp_path: Path, kernel: None):
    place = tree_v2(tmp_path, "cpuset cpu io memory pids")
    groups = Groups.find("realm", mounts(("cgroup2", place, "rw")))
    assert LimitKeeper(groups).ways == {
        "cpu": "cgroup v2",
        "memory": "cgroup v2",
        "pids": "cgroup v2",
        "nofile": "rlimit",
    }
    files = groups.make("foo-app-1-web-1", {"memory": 512 * MIB, "pids": 512, "cpu": 0.5, "nofile": 9})
    group = place / "mooring" / "realm" / "foo-app-1-web-1"
    assert files == [str(group / "cgroup.procs")]
    assert content(group) == {
        "memory.max": str(512 * MIB),
        "memory.swap.max": "0",
        "memory.oom.group": "1",
        "pids.max": "512",
        "cpu.max": "50000 100000",
    }
    assert groups.remove("foo-app-1-web-1")
    assert not group.exists()


def test_no_limit_is_written_too_as_the_group_may_be_older(tmp_path: Path, kernel: None):
    place = tree_v2(tmp_path, "cpu memory pids")
    groups = Groups.find("realm", mounts(("cgroup2", place, "rw")))
    groups.make("a", {"memory": None, "pids": None})
    found = content(place / "mooring" / "realm" / "a")
    assert (found["memory.max"], found["pids.max"], found["cpu.max"]) == ("max", "max", "max 100000")


def test_each_controller_is_taken_from_where_it_is(tmp_path: Path, kernel: None):
    """As on a machine that is half way from version 1 to version 2."""
    unified, memory = tree_v2(tmp_path, "pids"), tree_v1(tmp_path, "memory")
    text = mounts(("cgroup", memory, "rw,memory"), ("cgroup2", unified, "rw"), ("tmpfs", tmp_path, "rw"))
    groups = Groups.find("realm", text)
    assert {name: tree.version for name, tree in groups.trees.items()} == {"pids": 2, "memory": 1}
    assert LimitKeeper(groups).ways["cpu"] == "not kept"
    assert len(groups.make("a", {"memory": 64 * MIB, "pids": 9})) == 2
    assert content(memory / "mooring" / "realm" / "a") == {
        "memory.limit_in_bytes": str(64 * MIB),
        "memory.memsw.limit_in_bytes": str(64 * MIB),
    }


def test_what_can_not_be_written_is_not_used(tmp_path: Path):
    """A folder without the kernel's files behind it: as where the trees are mounted read-only."""
    place = tmp_path / "memory"
    place.mkdir()
    groups = Groups.find(
        "realm", mounts(("cgroup", place, "ro,memory"), ("cgroup2", tmp_path / "gone", "rw"))
    )
    assert groups.trees == {}
    assert groups.make("a", {"memory": 1}) == []
    assert groups.remove("a")


@pytest.mark.parametrize(
    ("version", "file", "text"),
    [
        (1, "memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n"),
        (2, "memory.events", "low 0\noom 4\noom_kill 3\noom_group_kill 1\n"),
    ],
)
def test_what_was_killed_for_memory_is_counted(tmp_path: Path, version: int, file: str, text: str):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / file).write_text(text)
    groups = Groups({"memory": Tree(version, tmp_path)})
    assert (groups.kills("a"), groups.kills("gone")) == (3, 0)


def test_end_after_a_kill_for_memory_says_so_and_a_later_one_does_not(
    tmp_path: Path, kernel: None, monkeypatch: pytest.MonkeyPatch
):
    place = tree_v2(tmp_path, "memory")
    watch = Watch(LimitKeeper(Groups.find("r", mounts(("cgroup2", place, "rw")))), "a", {"memory": 512 * MIB})
    events = place / "mooring" / "r" / "a" / "memory.events"
    now = [1000.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    watch.begin()
    assert (watch.news(), watch.cause_of_end()) == ("", "")
    events.write_text("oom_kill 1\n")
    now[0] += 6
    assert watch.news() == "a process of it was killed: used more than its limit of 512 MiB"
    assert watch.cause_of_end() == "killed: used more than its limit of 512 MiB"
    now[0] += 60
    assert (watch.news(), watch.cause_of_end()) == ("", "")
    watch.begin()
    assert watch.cause_of_end() == ""
