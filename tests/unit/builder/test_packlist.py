import pytest

from builder.base import BuildFailed
from builder.packlist import find_wanted, is_inline
from controller.buildpacks import Bundled


def wanted(tmp_path, *, chosen=(), env=None, **files):
    for name, content in files.items():
        (tmp_path / {"buildpacks": ".buildpacks", "app": "app.json"}[name]).write_text(content)
    return find_wanted(tmp_path, chosen=chosen, env=env or {})


def test_nobody_asking_means_that_they_are_detected(tmp_path):
    assert wanted(tmp_path) is None
    assert wanted(tmp_path, buildpacks="# none\n\n", app="{}", env={"BUILDPACK_URL": " "}) is None


def test_the_first_who_says_anything_is_heard(tmp_path):
    found = wanted(
        tmp_path, chosen=("a",), env={"BUILDPACK_URL": "b"}, buildpacks="c", app='{"buildpacks": ["d"]}'
    )
    assert (found.sources, found.by) == ((Bundled("a"),), "buildpacks:set")
    assert wanted(tmp_path, env={"BUILDPACK_URL": "b"}).sources == (Bundled("b"),)
    assert wanted(tmp_path).by == ".buildpacks"


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"app": "{"}, "no valid JSON"),
        ({"app": '{"buildpacks": "x"}'}, "must be a list"),
        ({"app": '{"buildpacks": [{"name": "x"}]}'}, "must be a list"),
        ({"app": '{"buildpacks": ' + "[" * 30_000}, "no valid JSON"),
        ({"buildpacks": "a\na\n"}, "is there twice"),
        ({"buildpacks": "x y\n"}, "names no buildpack"),
        ({"buildpacks": "a\n" * 40_000}, "larger than 64 KB"),
        ({"buildpacks": "\n".join(f"p{number}" for number in range(21))}, "at most 20"),
    ],
)
def test_what_can_not_be_read_is_answered_with_its_name(tmp_path, files, words):
    with pytest.raises(BuildFailed, match=words):
        wanted(tmp_path, **files)


def test_only_two_programs_make_an_app_its_own_buildpack(tmp_path):
    (tmp_path / "bin").mkdir()
    for name in ("detect", "compile"):
        assert not is_inline(tmp_path)
        (tmp_path / "bin" / name).touch(mode=0o755)
    assert is_inline(tmp_path)
    (tmp_path / "bin/compile").chmod(0o644)
    assert not is_inline(tmp_path)


def test_programs_behind_a_link_are_not_the_apps_own(tmp_path):
    (tmp_path / "real").mkdir()
    for name in ("detect", "compile"):
        (tmp_path / "real" / name).touch(mode=0o755)
    (tmp_path / "bin").symlink_to("real")
    assert not is_inline(tmp_path)
