"""The app that a folder's git remote names."""

import os
import subprocess
from pathlib import Path

import pytest

from cli.folder import Folder, app_of
from controller.errors import InvalidInput


@pytest.mark.parametrize(
    ("url", "app"),
    [
        ("ssh://deploy@host:2222/foo.git", "foo"),
        ("ssh://deploy@host:2222/foo/website.git", "foo/website"),
        ("ssh://host/foo", "foo"),
        ("ssh://deploy@[::1]:2222/foo.git/", "foo"),
        ("deploy@host:foo.git", "foo"),
        ("deploy@host:foo/website", "foo/website"),
        ("host:/foo.git", "foo"),
        ("https://github.com/somebody/Project.git", None),
        ("/srv/git/foo.git", None),
        ("../foo", None),
        ("ssh://deploy@host", None),
        ("ssh://deploy@host/a/b/c.git", None),
    ],
)
def test_push_urls_name_an_app(url: str, app: str | None) -> None:
    assert app_of(url) == app


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    environ = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    subprocess.run(["git", "init", "--quiet", tmp_path], env=environ, check=True)
    return Folder(tmp_path, environ)


def test_a_remote_is_added_read_and_changed(folder: Folder) -> None:
    assert folder.remote_app() is None
    folder.set_remote("deploy", "ssh://deploy@host:2222/foo.git")
    assert folder.remote_app() == "foo"
    folder.set_remote("deploy", "deploy@host:bar")
    assert folder.remote_app() == "bar"
    assert folder.remote_app("other") is None


def test_a_folder_below_the_repository_has_its_remotes(folder: Folder) -> None:
    folder.set_remote("deploy", "ssh://deploy@host:2222/foo.git")
    below = folder.path / "src"
    below.mkdir()
    assert Folder(below, folder.environ).remote_app() == "foo"


def test_a_folder_without_repository_has_none(tmp_path: Path) -> None:
    folder = Folder(tmp_path, {"PATH": os.environ["PATH"], "HOME": str(tmp_path)})
    assert folder.remote_app() is None
    with pytest.raises(InvalidInput, match="not a git repository"):
        folder.set_remote("deploy", "ssh://h/foo.git")


def test_a_machine_without_git_has_no_remotes(tmp_path: Path) -> None:
    folder = Folder(tmp_path, {"PATH": str(tmp_path)})
    assert folder.remote_app() is None
    with pytest.raises(InvalidInput, match="git is not installed"):
        folder.set_remote("deploy", "ssh://h/foo.git")


def test_names_of_remotes_are_no_options(folder: Folder) -> None:
    assert folder.remote_app("--global") is None


def test_a_file_that_cannot_be_read_is_named(folder: Folder) -> None:
    with pytest.raises(InvalidInput, match=r"key\.pub can't be read"):
        folder.read("key.pub")
    (folder.path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InvalidInput, match="no text file"):
        folder.read("binary")
