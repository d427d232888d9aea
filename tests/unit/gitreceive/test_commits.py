"""Commits of our own making, read back by the real git."""

import os
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from dulwich.repo import Repo

from gitreceive.commits import Made, author_of, make_commit, tree_of
from gitreceive.git import Git, find_git
from gitreceive.ground import object_folder
from gitreceive.quarantine import Quarantine, quarantine

ODD = ["two\nlines", 'quo"te', "back\\slash", "\udcff\udcfe", "a b", "-rf", "\u00e4"]


@pytest.fixture
def git() -> Git:
    found = find_git()
    assert found is not None
    return found


@pytest.fixture
async def place(tmp_path: Path, git: Git) -> AsyncIterator[Quarantine]:
    Repo.init_bare(str(tmp_path / "app.git"), mkdir=True).close()
    async with quarantine(tmp_path / "app.git", git) as place:
        yield place


def asked(place: Quarantine, *words: str) -> bytes:
    return subprocess.run(
        ["git", "--git-dir", str(place.repository), *words],
        env={"PATH": os.environ["PATH"], **place.environment},
        stdout=subprocess.PIPE,
        check=True,
    ).stdout


def made(tree: Path | str, parent: str | None = None) -> Made:
    return Made(tree=tree, parent=parent, author="Ann <ann@x>", message="Source\n")


async def test_files_are_kept_byte_by_byte_and_git_folders_left_out(
    tmp_path: Path, git: Git, place: Quarantine
) -> None:
    tree = tmp_path / "tree"
    for folder in (".git", "sub/.GIT"):
        (tree / folder).mkdir(parents=True)
        (tree / folder / "config").write_text("[core]\n\thooksPath = /tmp\n")
    for name in ODD:
        (tree / name).write_bytes(b"x\r\n" + os.fsencode(name))
    (tree / ".gitattributes").write_text("* text=auto eol=lf\n")
    (tree / "sub/run").write_bytes(b"#!/bin/sh\n")
    (tree / "sub/run").chmod(0o755)
    (tree / "link").symlink_to("sub/run")
    (tree / "empty").write_bytes(b"")

    first = await make_commit(git, place, made(tree))

    listing = asked(place, "ls-tree", "-r", "-z", first).split(b"\0")[:-1]
    found = {os.fsdecode(line.partition(b"\t")[2]): line.split(b" ")[0] for line in listing}
    assert found == {
        **dict.fromkeys([*ODD, ".gitattributes", "empty"], b"100644"),
        "sub/run": b"100755",
        "link": b"120000",
    }
    assert asked(place, "cat-file", "blob", f"{first}:a b") == b"x\r\na b"
    assert asked(place, "cat-file", "blob", f"{first}:link") == b"sub/run"
    asked(place, "fsck", "--strict", "--no-dangling", first)
    assert not (place.repository / "refs/heads/made").exists()

    place.keep()
    second = await make_commit_later(tmp_path, git, place, first)
    assert second != first


async def make_commit_later(tmp_path: Path, git: Git, before: Quarantine, first: str) -> str:
    """Another one on top, of the tree that is there."""
    async with quarantine(before.repository, git) as place:
        tree = await tree_of(git, place, first)
        second = await make_commit(git, place, made(tree, parent=first))
        assert await tree_of(git, place, second) == tree
        assert asked(place, "rev-parse", f"{second}^").decode().strip() == first
        assert asked(place, "log", "-1", "--format=%an <%ae> %s", second) == b"Ann <ann@x> Source\n"
        place.keep()
    asked(place, "cat-file", "-e", second)
    return second


@pytest.mark.parametrize(
    ("user", "author"),
    [
        ("ann", "ann <ann@example.org>"),
        ("Ann B", "Ann B <Ann.B@example.org>"),
        ("<x>\n", "x <x@example.org>"),
        ("<>", "unknown <unknown@example.org>"),
    ],
)
def test_a_user_is_an_author(user: str, author: str) -> None:
    assert author_of(user, "example.org") == author


@pytest.mark.parametrize("program", [True, False])
async def test_one_file_of_a_commit_is_read(
    tmp_path: Path, git: Git, place: Quarantine, program: bool
) -> None:
    tree = tmp_path / "tree"
    (tree / "sub").mkdir(parents=True)
    (tree / "sub/app.json").write_bytes(b"{}")
    (tree / "link").symlink_to("sub/app.json")
    commit = await make_commit(git, place, made(tree))
    reader = place if program else Quarantine(place.repository, object_folder(place), None)
    assert await reader.file(commit, "sub/app.json", 10) == b"{}"
    assert len(await reader.file(commit, "sub/app.json", 1) or b"") == 2
    for missing in ("app.json", "link", "sub", "sub/app.json/x", "link/app.json"):
        assert await reader.file(commit, missing, 10) is None
