from pathlib import Path

import pytest

from builder.base import BuildFailed
from gitreceive.submodules import find_folder, parse_links, parse_modules, remote_of


def test_paths_and_urls_are_taken_from_the_settings_and_nothing_else() -> None:
    text = (
        "submodule.lib.path\nvendor/lib/\0submodule.lib.url\nhttps://x/lib.git\0submodule.lib.update\n!touch /tmp/x\0"
        "submodule.a.b.c.path\nother\0submodule.a.b.c.url\n../c.git\0submodule.half.path\nhalf\0"
        "core.sshcommand\nid\0submodule.lib.branch\n-u\0"
    )
    assert parse_modules(text) == {"vendor/lib": "https://x/lib.git", "other": "../c.git"}
    assert parse_modules("") == {}


def test_commits_are_taken_from_the_tree() -> None:
    listing = b"100644 blob " + b"a" * 40 + b"\tfile\x00160000 commit " + b"b" * 40 + b"\tvendor/x y\nz\x00"
    assert parse_links(listing) == {"vendor/x y\nz": "b" * 40}


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("../lib.git", "relative URL .*`git submodule set-url"),
        ("./lib.git", "relative URL"),
        ("-u./x", "only http, https, ssh"),
        ("/srv/lib.git", "only http, https, ssh"),
        ("ext::sh -c id", "is no URL"),
        ("https://user:pw@example.org/lib.git", "no password"),
    ],
)
def test_a_url_that_is_not_fetched_is_told_with_its_submodule(url: str, words: str) -> None:
    with pytest.raises(BuildFailed, match=f"The submodule 'vendor/lib'.*{words}"):
        remote_of("vendor/lib", url)


def test_a_folder_is_reached_through_folders_alone(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    (outside / "lib").mkdir(parents=True)
    source = tmp_path / "source"
    (source / "vendor/lib").mkdir(parents=True)
    (source / "link").symlink_to(outside)
    (source / "full").mkdir()
    (source / "full/x").write_text("x")
    (source / "file").write_text("x")
    assert find_folder(source, "vendor/lib") == source / "vendor/lib"
    for path in (
        "link/lib",
        "link",
        "../outside",
        "vendor/../../outside/lib",
        "full",
        "file",
        "gone",
        "",
        "/etc",
    ):
        assert find_folder(source, path) is None, path
