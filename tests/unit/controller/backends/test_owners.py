"""What of a folder becomes somebody else's, and what becomes of it when that is broken off."""

import os
from pathlib import Path

import pytest

from builder.tree import remove_tree
from controller.backends.owners import Former, Owner, give_over

BEFORE, AFTER, THIRD = Owner(42001, 42001), Owner(1001, 1002), Owner(1003, 1004)
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")


def nothing() -> None: ...


@pytest.mark.parametrize(
    ("uid", "gid", "given"),
    [
        (42001, 42001, AFTER),
        (42001, 100, Owner(1001, 100)),  # a group that it shares with others
        (0, 42001, None),
        (7, 7, None),
        (1001, 1002, None),
    ],
)
def test_what_was_its_owners_is_given_and_nothing_else(uid: int, gid: int, given: Owner | None) -> None:
    assert Former(frozenset({42001}), frozenset({42001})).given(uid, gid, AFTER) == given


def test_what_is_right_already_is_left_alone() -> None:
    assert Former(frozenset({1001}), frozenset({1002})).given(1001, 1002, AFTER) is None


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """One of BEFORE, with things of others in it."""
    root = tmp_path / "data"
    (root / "deep/er").mkdir(parents=True)
    (root / "deep/er/file").write_text("x")
    (root / "script").write_text("x")
    (root / "script").chmod(0o4755)
    os.mkfifo(root / "pipe")
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_text("x")
    (root / "link").symlink_to(outside / "secret")
    (root / "deep/link").symlink_to(outside)
    for each in (root, *root.rglob("*"), outside, outside / "secret"):
        os.chown(each, BEFORE.uid, BEFORE.gid, follow_symlinks=False)
    for name, uid, gid in (("of root", 0, 0), ("of another", 7, 7), ("shared", BEFORE.uid, 100)):
        (root / name).write_text("x")
        os.chown(root / name, uid, gid)
    return root


def owner(path: Path) -> Owner:
    info = path.lstat()
    return Owner(info.st_uid, info.st_gid)


@needs_root
def test_everything_that_was_its_owners_is_given_and_no_link_is_followed(folder: Path) -> None:
    note = folder.with_name(".note")
    give_over(folder, AFTER, note, nothing)
    others = {"of root": Owner(0, 0), "of another": Owner(7, 7), "shared": Owner(AFTER.uid, 100)}
    found = {str(each.relative_to(folder)): owner(each) for each in (folder, *folder.rglob("*"))}
    assert found == dict.fromkeys(found, AFTER) | others
    assert {owner(folder.parent / each) for each in ("outside", "outside/secret")} == {BEFORE}
    assert folder.joinpath("script").stat().st_mode & 0o7777 == 0o755
    assert not note.exists()


@needs_root
def test_what_was_roots_is_given_too_where_that_is_said(folder: Path) -> None:
    give_over(folder, AFTER, folder.with_name(".note"), nothing, also=[Owner(0, 0)])
    assert (owner(folder / "of root"), owner(folder / "of another")) == (AFTER, Owner(7, 7))


class Killed(BaseException):
    pass


@needs_root
@pytest.mark.parametrize("then", [AFTER, THIRD, BEFORE])
@pytest.mark.parametrize("steps", range(8))
def test_one_that_was_broken_off_is_ended_by_the_next_whoever_that_is_for(
    folder: Path, steps: int, then: Owner
) -> None:
    left = iter(range(steps))

    def dies() -> None:
        if next(left, None) is None:
            raise Killed

    note = folder.with_name(".note")
    with pytest.raises(Killed):
        give_over(folder, AFTER, note, dies)
    assert owner(folder) == Owner(0, 0), "whoever looks sees that it is nobody's yet"
    give_over(folder, then, note, nothing)
    assert {
        owner(each) for each in (folder, *folder.rglob("*")) if not each.name.startswith(("of", "sh"))
    } == {then}
    assert owner(folder / "of another") == Owner(7, 7)
    assert not note.exists()


@needs_root
def test_folders_may_be_nested_deeper_than_paths_and_open_files_go(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    here = os.open(folder, os.O_RDONLY)
    for _ in range(3000):
        os.mkdir("d", dir_fd=here)
        inner = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = inner
    give_over(folder, AFTER, tmp_path / ".note", nothing)
    assert os.fstat(here).st_uid == AFTER.uid
    os.close(here)
    remove_tree(folder)


@needs_root
def test_a_note_that_is_damaged_says_nothing(folder: Path) -> None:
    note = folder.with_name(".note")
    note.write_text('{"uids": [')
    give_over(folder, AFTER, note, nothing)
    assert owner(folder / "deep/er/file") == AFTER
    assert not note.exists()


@needs_root
def test_what_was_restored_as_roots_after_one_that_was_broken_off_is_given_too(folder: Path) -> None:
    def dies() -> None:
        raise Killed

    note = folder.with_name(".note")
    with pytest.raises(Killed):
        give_over(folder, AFTER, note, dies)
    for each in folder.rglob("*"):
        os.chown(each, 0, 0, follow_symlinks=False)
    give_over(folder, THIRD, note, nothing)
    assert {owner(each) for each in (folder, *folder.rglob("*"))} == {THIRD}
