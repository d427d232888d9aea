import contextlib
import io
import os
import shutil
import stat
import tarfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builder.pack import canonical_tar
from builder.restore import Damaged, TooMuch, restore

PIECE = 1024


def bytes_of(root):
    return b"".join(canonical_tar(root, lambda: None))


def write(root, content, **limits):
    limits = {"max_files": 100, "max_bytes": 100_000, **limits}
    view = memoryview(content)
    blocks = (view[place : place + PIECE] for place in range(0, len(content), PIECE))
    restore(blocks, root, None, lambda: None, **limits)


def member(name, content=b"", **changes):
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for key, value in changes.items():
        setattr(info, key, value)
    return info, content


def archive(*members):
    buffer = io.BytesIO()
    for info, content in members:
        buffer.write(info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape"))
        buffer.write(content + bytes(-len(content) % 512))
    return buffer.getvalue() + bytes(1024)


def folder(name):
    return member(name, type=tarfile.DIRTYPE)


def link(name, target):
    return member(name, type=tarfile.SYMTYPE, linkname=target)


def test_a_tree_comes_back_as_it_was(tmp_path):
    root = tmp_path / "tree"
    (root / "a/b").mkdir(parents=True)
    (root / "a/b/large").write_bytes(os.urandom(5000))
    (root / "a/run").write_text("x")
    (root / "a/run").chmod(0o755)
    (root / "a-b").mkdir()
    (root / "empty").touch()
    (root / os.fsdecode(b"bad\xff\nname")).write_text("x")
    (root / "long").mkdir()
    (root / "long" / ("n" * 200)).write_text("x" * 512)
    (root / "ü").symlink_to("t" * 150)
    (root / "python").symlink_to("/usr/bin/python3")
    before = bytes_of(root)
    write(tmp_path / "out", before)
    assert bytes_of(tmp_path / "out") == before
    assert (tmp_path / "out/python").readlink().as_posix() == "/usr/bin/python3"


def test_it_is_sealed_for_the_server_itself(tmp_path):
    write(tmp_path / "out", archive(folder("a"), member("a/f", b"x", mode=0o644), member("run", mode=0o755)))
    modes = {"": 0o700, "a": 0o755, "a/f": 0o644, "run": 0o755}
    for path, mode in modes.items():
        assert stat.S_IMODE((tmp_path / "out" / path).stat().st_mode) == mode


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give files away")
def test_it_is_sealed_for_one_group(tmp_path):
    content = memoryview(archive(folder("a"), member("a/f", b"x", mode=0o644)))
    restore(iter([content]), tmp_path / "out", 42990, lambda: None, max_files=9, max_bytes=99)
    for path, mode in (("", 0o750), ("a", 0o750), ("a/f", 0o640)):
        info = (tmp_path / "out" / path).stat()
        assert (info.st_uid, info.st_gid, stat.S_IMODE(info.st_mode)) == (0, 42990, mode)


@pytest.mark.parametrize(
    "name", ["/etc/x", "../x", "..", ".", "a/../x", "a//b", "./a", "no/parent", "x/", "x" * 300]
)
def test_a_path_that_no_tree_has_is_damage(tmp_path, name):
    with pytest.raises(Damaged):
        write(tmp_path / "out", archive(folder("a"), member(name, b"x")))
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize(
    "members",
    [
        (link("a", "../victim"), member("a/file", b"x")),
        (folder("a"), link("a/l", "../../victim"), member("a/l/file", b"x")),
        (link("a", "../victim"), folder("a")),
        (link("a", "../victim/file"), member("a", b"x")),
        (member("a", b"x"), member("a", b"y")),
        (member("a", b"x"), member("a/b", b"y")),
    ],
)
def test_nothing_is_written_through_or_over_a_link_or_file(tmp_path, members):
    (tmp_path / "victim").mkdir()
    with pytest.raises(Damaged):
        write(tmp_path / "out", archive(*members))
    assert list((tmp_path / "victim").iterdir()) == []


@pytest.mark.parametrize("kind", [tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.LNKTYPE, tarfile.GNUTYPE_SPARSE])
def test_other_kinds_are_damage(tmp_path, kind):
    with pytest.raises(Damaged, match="unknown kind"):
        write(tmp_path / "out", archive(member("x", type=kind, linkname="/etc/passwd")))


def test_set_user_id_bits_are_dropped(tmp_path):
    write(tmp_path / "out", archive(member("su", b"x", mode=0o6755)))
    assert stat.S_IMODE((tmp_path / "out/su").stat().st_mode) == 0o755


@pytest.mark.parametrize("limits", [{"max_files": 3}, {"max_bytes": 3}])
def test_more_than_a_slug_may_hold_is_too_much(tmp_path, limits):
    with pytest.raises(TooMuch, match="more than"):
        write(tmp_path / "out", archive(*(member(f"f{number}", b"x") for number in range(4))), **limits)


def test_folders_nested_too_deep_are_damage(tmp_path):
    with pytest.raises(Damaged, match="nested"):
        write(
            tmp_path / "out",
            archive(*(folder("/".join("d" * depth)) for depth in range(1, 102))),
            max_files=999,
        )


def test_a_long_name_of_many_megabytes_is_damage(tmp_path):
    info, content = member("x", bytes(10**6), type=tarfile.XHDTYPE)
    with pytest.raises(Damaged, match="too long"):
        write(tmp_path / "out", archive((info, content)))


WHOLE = archive(folder("a"), member("a/f", b"x" * 700), member("n" * 150, b"y"), link("l", "t" * 150))


@pytest.mark.parametrize("end", range(512, len(WHOLE), 512))
def test_an_archive_that_ends_early_is_damaged(tmp_path, end):
    with pytest.raises(Damaged, match=r"too early|header"):
        write(tmp_path / "out", WHOLE[:end])


def test_what_follows_the_end_is_damage(tmp_path):
    with pytest.raises(Damaged, match="follows"):
        write(tmp_path / "out", WHOLE + bytes(512))


@settings(max_examples=300)
@given(st.integers(0, len(WHOLE) - 1), st.integers(0, 255))
def test_one_wrong_byte_gives_a_tree_or_damage_and_no_other_fault(tmp_path_factory, place, value):
    content = WHOLE[:place] + bytes([value]) + WHOLE[place + 1 :]
    place_of_it = tmp_path_factory.mktemp("one")
    with contextlib.suppress(Damaged):
        write(place_of_it / "out", content)
    assert [path.name for path in place_of_it.iterdir()] == ["out"]


# Files that an earlier tree has too

UID = 42990
as_root = pytest.mark.skipif(os.getuid() != 0, reason="only root can give files away")


def make(root, *members, like=None, uid=UID):
    content = memoryview(archive(*members))
    blocks = (content[place : place + PIECE] for place in range(0, len(content), PIECE))
    restore(blocks, root, uid, lambda: None, max_files=100, max_bytes=10**7, like=like)
    return root


def is_shared(first, second, path):
    return (first / path).stat().st_ino == (second / path).stat().st_ino


@as_root
def test_files_that_did_not_change_are_those_of_the_earlier_tree(tmp_path):
    big = os.urandom(3 * 1024**2)
    same = [folder("lib"), folder("lib/deep"), member("lib/deep/big", big), member("lib/empty", b"")]
    first = make(tmp_path / "one", *same, member("run", b"x", mode=0o755), member("z", b"old"))
    members = [*same, member("run", b"x", mode=0o755), member("z", b"new")]
    second = make(tmp_path / "two", *members, like=first)
    for path in ("lib/deep/big", "lib/empty", "run"):
        assert is_shared(first, second, path), path
    assert not is_shared(first, second, "z")
    assert ((first / "z").read_text(), (second / "z").read_text()) == ("old", "new")
    assert bytes_of(second) == bytes_of(make(tmp_path / "three", *members))
    shutil.rmtree(first)
    assert (second / "lib/deep/big").read_bytes() == big


@as_root
@pytest.mark.parametrize("place", [0, 1, 700_000, 2_000_000 - 1])
def test_a_file_that_differs_anywhere_is_written_anew(tmp_path, place):
    before = bytearray(os.urandom(2_000_000))
    after = bytearray(before)
    after[place] ^= 1
    first = make(tmp_path / "one", member("f", bytes(before)))
    second = make(tmp_path / "two", member("f", bytes(after)), like=first)
    assert (first / "f").read_bytes() == before
    assert (second / "f").read_bytes() == after


@as_root
@pytest.mark.parametrize("what", ["mode", "owner", "link", "folder", "pipe", "inner link"])
def test_what_is_no_sealed_file_of_the_same_kind_is_not_taken(tmp_path, what):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "f").write_bytes(b"secret")
    for each in (outside / "f", outside):
        os.chown(each, 0, UID)
    (outside / "f").chmod(0o640)
    first = make(tmp_path / "one", folder("a"), member("a/f", b"secret"))
    file = first / "a/f"
    match what:
        case "mode":
            file.chmod(0o660)
        case "owner":
            os.chown(file, UID, UID)
        case "link":
            file.unlink()
            file.symlink_to(outside / "f")
        case "folder":
            file.unlink()
            file.mkdir()
        case "pipe":
            file.unlink()
            os.mkfifo(file, 0o640)
            os.chown(file, 0, UID)
        case "inner link":
            shutil.rmtree(first / "a")
            (first / "a").symlink_to(outside)
    second = make(tmp_path / "two", folder("a"), member("a/f", b"secret"), like=first)
    info = (second / "a/f").lstat()
    assert (info.st_nlink, info.st_uid, info.st_gid, stat.S_IMODE(info.st_mode)) == (1, 0, UID, 0o640)
    assert (second / "a/f").read_bytes() == b"secret"


def test_what_apps_may_change_is_not_shared(tmp_path):
    first = make(tmp_path / "one", member("f", b"x"), uid=None)
    second = make(tmp_path / "two", member("f", b"x"), uid=None, like=first)
    assert not is_shared(first, second, "f")


@as_root
def test_an_earlier_tree_may_go_at_any_moment(tmp_path):
    assert (make(tmp_path / "new", member("f", b"x"), like=tmp_path / "gone") / "f").read_bytes() == b"x"
    first = make(tmp_path / "one", member("a", b"x" * 5000), member("b", b"y" * 5000))
    content = archive(member("a", b"x" * 5000), member("b", b"y" * 5000))

    def blocks():
        yield memoryview(content[:1024])
        shutil.rmtree(first)
        yield memoryview(content[1024:])

    second = tmp_path / "two"
    restore(blocks(), second, UID, lambda: None, max_files=9, max_bytes=10**6, like=first)
    assert bytes_of(second) == content
    assert (second / "a").stat().st_nlink == 1
