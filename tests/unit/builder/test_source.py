import asyncio
import os
import shutil
import stat
import subprocess

import pytest

from builder import source
from builder.base import BuilderUnavailable, BuildFailed
from builder.source import export_source

IDENTITY = {
    "GIT_AUTHOR_NAME": "Ann",
    "GIT_AUTHOR_EMAIL": "ann@example.org",
    "GIT_COMMITTER_NAME": "Ann",
    "GIT_COMMITTER_EMAIL": "ann@example.org",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "PATH": os.environ["PATH"],
}


class Repository:
    def __init__(self, folder):
        self.work = folder / "work"
        self.git_dir = self.work / ".git"
        self.work.mkdir()
        self.git("init", "-q")

    def git(self, *arguments, **env):
        done = subprocess.run(
            ["git", *arguments], cwd=self.work, env={**IDENTITY, **env}, check=True, capture_output=True
        )
        return done.stdout.decode().strip()

    def commit(self, **env):
        self.git("add", "-A", **env)
        self.git("commit", "-q", "-m", "x", **env)
        return self.git("rev-parse", "HEAD", **env)


@pytest.fixture
def repository(tmp_path):
    return Repository(tmp_path)


@pytest.fixture(params=["git", "dulwich"])
def reader(request, monkeypatch):
    """Both ways to read a commit: with git on the machine, and without."""
    if request.param == "dulwich":
        monkeypatch.setattr(source.shutil, "which", lambda _name: None)
    return request.param


async def test_a_commit_becomes_a_folder(repository, tmp_path, reader):
    (repository.work / "sub/inner").mkdir(parents=True)
    (repository.work / "sub/inner/file").write_bytes(b"\x00binary")
    (repository.work / "run").write_text("#!/bin/sh\n")
    (repository.work / "run").chmod(0o755)
    (repository.work / "link").symlink_to("sub/inner/file")
    commit = repository.commit()
    await export_source(repository.git_dir, commit, tmp_path / "out")
    assert (tmp_path / "out/sub/inner/file").read_bytes() == b"\x00binary"
    assert stat.S_IMODE((tmp_path / "out/run").stat().st_mode) == 0o755
    assert (tmp_path / "out/link").read_bytes() == b"\x00binary"
    assert not (tmp_path / "out/.git").exists()


async def test_names_may_hold_any_bytes(repository, tmp_path, reader):
    names = [b"new\nline", b"bad\xff\xfe", b" ", b"-rf", "grüezi".encode(), b"l" * 200]
    for name in names:
        (repository.work / os.fsdecode(name)).write_bytes(name)
    commit = repository.commit()
    await export_source(repository.git_dir, commit, tmp_path / "out")
    assert sorted(os.fsencode(path.name) for path in (tmp_path / "out").iterdir()) == sorted(names)


@pytest.mark.parametrize("target", ["/etc/passwd", "../outside", ".git/../../outside"])
async def test_a_link_out_of_the_tree_is_refused_and_nothing_stays(repository, tmp_path, reader, target):
    (repository.work / "link").symlink_to(target)
    commit = repository.commit()
    with pytest.raises(BuildFailed, match="'link'"):
        await export_source(repository.git_dir, commit, tmp_path / "out")
    assert not (tmp_path / "out").exists()


async def test_limits_are_said_in_words(repository, tmp_path, reader):
    for number in range(5):
        (repository.work / f"f{number}").write_text("x" * 1000)
    commit = repository.commit()
    with pytest.raises(BuildFailed, match="more than 4 files"):
        await export_source(repository.git_dir, commit, tmp_path / "out", max_files=4)
    with pytest.raises(BuildFailed, match="larger than"):
        await export_source(repository.git_dir, commit, tmp_path / "out", max_bytes=3000)
    assert not (tmp_path / "out").exists()


async def test_a_commit_is_read_from_the_quarantine_of_its_push(repository, tmp_path, reader):
    (repository.work / "kept").write_text("old")
    repository.commit()
    quarantine = tmp_path / "quarantine"
    quarantine.mkdir()
    env = {
        "GIT_OBJECT_DIRECTORY": str(quarantine),
        "GIT_ALTERNATE_OBJECT_DIRECTORIES": str(repository.git_dir / "objects"),
    }
    (repository.work / "new").write_text("new")
    commit = repository.commit(**env)
    with pytest.raises(BuilderUnavailable):
        await export_source(repository.git_dir, commit, tmp_path / "out")
    await export_source(repository.git_dir, commit, tmp_path / "out", env=env)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["kept", "new"]


async def test_an_unknown_commit_is_our_fault_with_the_reason(repository, tmp_path, reader):
    (repository.work / "a").write_text("x")
    repository.commit()
    with pytest.raises(BuilderUnavailable):
        await export_source(repository.git_dir, "0" * 39 + "1", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("commit", ["HEAD", "--output=/tmp/x", "master", "", "A" * 40])
async def test_only_a_full_commit_id_reaches_git(repository, tmp_path, commit):
    with pytest.raises(BuilderUnavailable, match="no full commit id"):
        await export_source(repository.git_dir, commit, tmp_path / "out")


async def test_a_commit_without_files_is_an_empty_folder(repository, tmp_path, reader):
    repository.git("commit", "-q", "--allow-empty", "-m", "x")
    commit = repository.git("rev-parse", "HEAD")
    await export_source(repository.git_dir, commit, tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


async def test_nothing_of_the_servers_environment_reaches_git(repository, tmp_path, monkeypatch):
    (repository.work / "a").write_text("x")
    commit = repository.commit()
    monkeypatch.setenv("GIT_DIR", "/nonexistent")
    monkeypatch.setenv("GIT_OBJECT_DIRECTORY", "/nonexistent")
    await export_source(repository.git_dir, commit, tmp_path / "out")
    assert (tmp_path / "out/a").is_file()


async def test_a_git_that_hangs_is_ended(repository, tmp_path, monkeypatch):
    (repository.work / "a").write_text("x")
    commit = repository.commit()
    monkeypatch.setattr(source, "archive_command", lambda *_: ["-c", "alias.hang=!sleep 0.6", "hang"])
    with pytest.raises(BuilderUnavailable, match="took longer"):
        await export_source(repository.git_dir, commit, tmp_path / "out", timeout=0.1)
    assert not (tmp_path / "out").exists()


async def test_a_cancel_leaves_nothing(repository, tmp_path):
    for number in range(300):
        (repository.work / f"f{number}").write_text("x")
    commit = repository.commit()
    task = asyncio.create_task(export_source(repository.git_dir, commit, tmp_path / "out"))
    while not (tmp_path / "out").exists():
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not (tmp_path / "out").exists()


async def test_set_user_id_files_of_a_forged_tree_lose_the_bit(repository, tmp_path, reader):
    (repository.work / "a").write_text("x")
    repository.commit()
    blob = repository.git("rev-parse", "HEAD:a")
    tree = (
        subprocess.run(
            ["git", "hash-object", "-t", "tree", "-w", "--stdin", "--literally"],
            input=b"104755 a\0" + bytes.fromhex(blob),
            cwd=repository.work,
            env=IDENTITY,
            check=True,
            capture_output=True,
        )
        .stdout.decode()
        .strip()
    )
    commit = repository.git("commit-tree", tree, "-m", "x")
    await export_source(repository.git_dir, commit, tmp_path / "out")
    assert stat.S_IMODE((tmp_path / "out/a").stat().st_mode) == 0o755


def test_git_is_on_this_machine():
    assert shutil.which("git"), "half of these tests would silently test dulwich"
