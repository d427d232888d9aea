import os
import stat

import pytest

from builder.base import BuildFailed
from builder.tree import megabytes, read_small, remove_tree, seal, walk


def deep(root, levels):
    root.mkdir()
    folder = os.open(root, os.O_RDONLY)
    for _ in range(levels):
        os.mkdir("d", dir_fd=folder)
        inner = os.open("d", os.O_RDONLY, dir_fd=folder)
        os.close(folder)
        folder = inner
    os.close(folder)


def test_a_walk_is_sorted_and_follows_no_link(tmp_path):
    (tmp_path / "b").mkdir()
    (tmp_path / "b/file").touch()
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "c").symlink_to("/")
    assert [node.path for node in walk(tmp_path)] == ["a", "b", "b/file", "c"]


def test_a_tree_nested_too_deep_is_refused_and_can_be_removed(tmp_path):
    root = tmp_path / "deep"
    deep(root, 3000)
    with pytest.raises(BuildFailed, match="nested more than 100 deep"):
        list(walk(root))
    remove_tree(root)
    assert not root.exists()


def test_sealing_drops_special_files_and_bits(tmp_path):
    root = tmp_path / "tree"
    root.mkdir()
    os.mkfifo(root / "pipe")
    (root / "su").write_text("x")
    (root / "su").chmod(0o6711)
    (root / "plain").write_text("x")
    (root / "plain").chmod(0o666)
    (root / "closed").mkdir(mode=0)
    seal(root, None)
    assert not (root / "pipe").exists()
    assert stat.S_IMODE((root / "su").stat().st_mode) == 0o755
    assert stat.S_IMODE((root / "plain").stat().st_mode) == 0o644
    assert stat.S_IMODE(root.stat().st_mode) == 0o700


def test_sealing_leaves_the_target_of_a_link_alone(tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("x")
    victim.chmod(0o600)
    os.utime(victim, (1, 1))
    root = tmp_path / "tree"
    root.mkdir()
    (root / "link").symlink_to(victim)
    seal(root, None)
    assert stat.S_IMODE(victim.stat().st_mode) == 0o600
    assert victim.stat().st_mtime == 1


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give files away")
def test_a_sealed_tree_belongs_to_root_and_is_open_to_one_group(tmp_path):
    root = tmp_path / "tree"
    (root / "sub").mkdir(parents=True)
    (root / "sub/file").write_text("x")
    seal(root, 42990)
    for path, mode in ((root, 0o750), (root / "sub", 0o750), (root / "sub/file", 0o640)):
        info = path.stat()
        assert (info.st_uid, info.st_gid, stat.S_IMODE(info.st_mode)) == (0, 42990, mode)


def test_a_small_file_is_read_without_following_a_link(tmp_path):
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "Procfile").symlink_to("secret")
    assert read_small(tmp_path, "Procfile", 100) is None


def test_a_pipe_in_place_of_a_file_does_not_block(tmp_path):
    os.mkfifo(tmp_path / "Procfile")
    assert read_small(tmp_path, "Procfile", 100) is None


def test_a_large_file_is_read_one_byte_past_the_limit(tmp_path):
    (tmp_path / "Procfile").write_bytes(b"x" * 1000)
    assert len(read_small(tmp_path, "Procfile", 10) or b"") == 11


def test_removing_what_is_not_there_is_fine(tmp_path):
    remove_tree(tmp_path / "nothing")


def test_removing_a_link_keeps_what_it_points_to(tmp_path):
    (tmp_path / "kept").mkdir()
    (tmp_path / "link").symlink_to("kept")
    remove_tree(tmp_path / "link")
    assert (tmp_path / "kept").is_dir() and not (tmp_path / "link").is_symlink()


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0B"),
        (337, "337B"),
        (1056, "1.0K"),
        (1_258_291, "1.2M"),
        (500 * 1024**2, "500M"),
        (3 * 1024**3, "3.0G"),
    ],
)
def test_sizes_read_as_people_write_them(size, text):
    assert megabytes(size) == text
