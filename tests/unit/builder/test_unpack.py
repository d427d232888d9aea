import io
import os
import tarfile

import pytest

from builder.base import BuildFailed
from builder.unpack import TreeWriter, unpack_tar


def member(name, content=b"", **changes):
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for key, value in changes.items():
        setattr(info, key, value)
    return info, content


def link(name, target):
    return member(name, type=tarfile.SYMTYPE, linkname=target)


def unpack(root, *members, **changes):
    buffer = io.BytesIO()
    with tarfile.open(
        fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT, errors="surrogateescape"
    ) as archive:
        for info, content in members:
            archive.addfile(info, io.BytesIO(content))
    buffer.seek(0)
    limits = {"max_files": 100, "max_bytes": 10_000, "links_inside": True, **changes}
    unpack_tar(buffer, TreeWriter(root, **limits), lambda: None)


def test_files_folders_and_links_inside_are_written(tmp_path):
    root = tmp_path / "out"
    unpack(
        root,
        member("a/b/c.txt", b"content"),
        member("empty", type=tarfile.DIRTYPE),
        member("run", b"#!/bin/sh", mode=0o755),
        link("a/to-run", "../run"),
        link("dangling", "nowhere"),
    )
    assert (root / "a/b/c.txt").read_bytes() == b"content"
    assert (root / "empty").is_dir()
    assert os.access(root / "run", os.X_OK) and not (root / "a/b/c.txt").stat().st_mode & 0o111
    assert (root / "a/to-run").readlink().as_posix() == "../run"
    assert (root / "dangling").is_symlink()


@pytest.mark.parametrize("name", ["/etc/passwd", "../x", "a/../../x", "a//b", "./a", "a/./b", ".."])
def test_a_path_that_could_leave_the_tree_is_refused(tmp_path, name):
    with pytest.raises(BuildFailed, match="stays inside"):
        unpack(tmp_path / "out", member(name, b"x"))


@pytest.mark.parametrize("target", ["..", "../outside", "a/../../outside", "/etc/passwd", "/"])
def test_a_link_that_leads_out_is_refused(tmp_path, target):
    with pytest.raises(BuildFailed, match="symbolic link"):
        unpack(tmp_path / "out", member("a", type=tarfile.DIRTYPE), link("l", target))


def test_links_that_lead_out_only_together_are_refused(tmp_path):
    with pytest.raises(BuildFailed, match="'p/q/l' leads out"):
        unpack(tmp_path / "out", link("p/q/d", "../.."), link("p/q/l", "d/../outside"))


def test_links_may_point_anywhere_where_nobody_follows_them(tmp_path):
    unpack(tmp_path / "out", link("python", "/usr/bin/python3"), links_inside=False)
    assert (tmp_path / "out/python").readlink().as_posix() == "/usr/bin/python3"


@pytest.mark.parametrize("links_inside", [True, False])
def test_nothing_is_written_through_a_link(tmp_path, links_inside):
    (tmp_path / "victim").mkdir()
    with pytest.raises(BuildFailed):
        unpack(tmp_path / "out", link("a", "../victim"), member("a/file", b"x"), links_inside=links_inside)
    assert list((tmp_path / "victim").iterdir()) == []


def test_nothing_is_written_over_a_link(tmp_path):
    (tmp_path / "victim").write_text("kept")
    with pytest.raises(BuildFailed, match="twice"):
        unpack(tmp_path / "out", link("a", "../victim"), member("a", b"changed"), links_inside=False)
    assert (tmp_path / "victim").read_text() == "kept"


def test_a_path_through_a_file_is_refused(tmp_path):
    with pytest.raises(BuildFailed, match=r"'a'|'a/b'"):
        unpack(tmp_path / "out", member("a", b"x"), member("a/b", b"y"))


@pytest.mark.parametrize("kind", [tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.LNKTYPE])
def test_devices_pipes_and_hard_links_are_refused(tmp_path, kind):
    with pytest.raises(BuildFailed, match="neither a file"):
        unpack(tmp_path / "out", member("x", type=kind, linkname="/etc/passwd"))


def test_set_user_id_bits_are_dropped(tmp_path):
    unpack(tmp_path / "out", member("su", b"x", mode=0o6755))
    assert (tmp_path / "out/su").stat().st_mode & 0o7777 == 0o755


def test_too_many_files_are_refused(tmp_path):
    with pytest.raises(BuildFailed, match="more than 3 files"):
        unpack(tmp_path / "out", *(member(f"f{number}") for number in range(4)), max_files=3)


def test_too_many_bytes_are_refused(tmp_path):
    with pytest.raises(BuildFailed, match=r"larger than 10\.0K"):
        unpack(tmp_path / "out", member("a", b"x" * 6000), member("b", b"x" * 6000), max_bytes=10240)


def test_odd_names_are_kept_as_they_are(tmp_path):
    names = ["new\nline", "bad\udcff", "-rf", " spaced ", "x" * 255]
    unpack(tmp_path / "out", *(member(name, b"x") for name in names))
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(names)


def test_a_name_longer_than_the_system_takes_is_refused(tmp_path):
    with pytest.raises(BuildFailed, match="can't be made"):
        unpack(tmp_path / "out", member("x" * 300, b"x"))


def hard_linked(*members):
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as archive:
        for name, target in members:
            member = tarfile.TarInfo(name)
            if target is None:
                member.size, member.mode = 4, 0o755
                archive.addfile(member, io.BytesIO(b"text"))
            else:
                member.type, member.linkname = tarfile.LNKTYPE, target
                archive.addfile(member)
    data.seek(0)
    return data


def test_a_hard_link_becomes_a_file_of_its_own_where_it_is_taken(tmp_path):
    writer = TreeWriter(tmp_path / "tree", max_files=10, max_bytes=1000, links_inside=False)
    unpack_tar(hard_linked(("bin/a", None), ("b", "bin/a")), writer, lambda: None, hard_links=True)
    first, second = (tmp_path / "tree/bin/a").stat(), (tmp_path / "tree/b").stat()
    assert (tmp_path / "tree/b").read_bytes() == b"text"
    assert first.st_ino != second.st_ino and second.st_mode & 0o100


@pytest.mark.parametrize(
    "target", ["../../etc/passwd", "/etc/passwd", "missing", "link/passwd", "link", "bin"]
)
def test_a_hard_link_to_anything_but_a_file_of_the_tree_is_refused(tmp_path, target):
    writer = TreeWriter(tmp_path / "tree", max_files=10, max_bytes=1000, links_inside=False)
    writer.directory("bin")
    writer.link("link", "/etc")
    with pytest.raises(BuildFailed):
        unpack_tar(hard_linked(("b", target)), writer, lambda: None, hard_links=True)
