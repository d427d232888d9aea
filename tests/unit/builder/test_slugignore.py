import pytest

from builder.base import BuildFailed
from builder.slugignore import ignore_files, parse_patterns


def ignored(line, path, *, is_directory=False):
    (pattern,) = parse_patterns(line)
    return pattern.matches(path.split("/"), is_directory=is_directory)


@pytest.mark.parametrize(
    ("line", "path"),
    [
        ("*.psd", "a.psd"),
        ("*.psd", "deep/in/it/a.psd"),
        ("/docs", "docs"),
        ("docs/*.md", "docs/a.md"),
        ("a/**/b", "a/b"),
        ("a/**/b", "a/x/y/b"),
        ("**/b", "b"),
        ("a/**", "a/x/y"),
        ("we[ab]", "wea"),
    ],
)
def test_what_a_pattern_names(line, path):
    assert any(each.matches(path.split("/"), is_directory=False) for each in parse_patterns(line))


@pytest.mark.parametrize(
    ("line", "path"),
    [
        ("/docs", "sub/docs"),
        ("docs/*.md", "docs/sub/a.md"),
        ("docs/*.md", "sub/docs/a.md"),
        ("a/**", "a"),
        ("*.psd", "a.psd.txt"),
        ("docs/", "docs"),
    ],
)
def test_what_a_pattern_does_not_name(line, path):
    assert not ignored(line, path)


def test_a_slash_at_the_end_means_folders():
    assert ignored("docs/", "sub/docs", is_directory=True)


def test_a_hostile_pattern_takes_no_time():
    assert not ignored("*a" * 50 + "b", "a" * 250)
    assert not ignored("/".join(["**", "a"] * 40) + "/b", "/".join("a" * 90))


@pytest.mark.parametrize(("text", "words"), [("a\n!b", "line 2"), ("x\n" * 501, "501 patterns")])
def test_what_is_not_understood_is_refused(text, words):
    with pytest.raises(BuildFailed, match=words):
        parse_patterns(text)


def test_links_are_removed_and_not_followed(tmp_path):
    root, victim = tmp_path / "root", tmp_path / "victim"
    (root / "inner").mkdir(parents=True)
    victim.mkdir()
    (victim / "file").touch()
    (root / "link").symlink_to(victim)
    (root / "inner/file").touch()
    (root / ".slugignore").write_text("link\ninner\n# a comment\n")
    assert ignore_files(root) == 2
    assert [each.name for each in root.iterdir()] == [".slugignore"]
    assert (victim / "file").exists()
