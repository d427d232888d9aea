import os

from builder.ties import Ties


def cut(root, *names):
    opened = os.open(root, os.O_RDONLY)
    try:
        ties = Ties(opened)
        for name in names:
            ties.cut(name, name, opened, (root / name).stat())
    finally:
        os.close(opened)


def test_what_is_done_to_one_name_is_no_longer_done_to_the_other(tmp_path):
    (tmp_path / "tree").mkdir()
    (tmp_path / "outside").write_text("x")
    (tmp_path / "outside").chmod(0o755)
    os.link(tmp_path / "outside", tmp_path / "tree/inside")
    cut(tmp_path / "tree", "inside")
    assert (tmp_path / "outside").stat().st_nlink == 1
    assert (tmp_path / "tree/inside").read_text() == "x"
    assert (tmp_path / "tree/inside").stat().st_mode & 0o777 == 0o755
    assert [path.name for path in (tmp_path / "tree").iterdir()] == ["inside"]


def test_names_that_were_one_file_stay_one(tmp_path):
    (tmp_path / "outside").write_text("x")
    (tmp_path / "tree").mkdir()
    for name in "abc":
        os.link(tmp_path / "outside", tmp_path / "tree" / name)
    cut(tmp_path / "tree", "a", "b", "c")
    assert len({(tmp_path / "tree" / name).stat().st_ino for name in "abc"}) == 1
    assert (tmp_path / "tree/a").stat().st_nlink == 3


def test_holes_stay_holes(tmp_path):
    with (tmp_path / "file").open("wb") as file:
        file.write(b"begin")
        file.seek(100 * 1024**2)
        file.write(b"end")
        file.truncate(200 * 1024**2)
    os.link(tmp_path / "file", tmp_path / "other")
    cut(tmp_path, "file")
    info = (tmp_path / "file").stat()
    assert info.st_size == 200 * 1024**2 and info.st_blocks * 512 < 1024**2
    with (tmp_path / "file").open("rb") as file:
        assert file.read(6) == b"begin\0"
        file.seek(100 * 1024**2)
        assert file.read(4) == b"end\0"
