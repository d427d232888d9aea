"""Which server is asked, with which token."""

import json
from pathlib import Path

import pytest

from cli.credentials import DEFAULT_URL, Server, credentials_path, find_server, keep_credentials
from controller.config import DataFolder
from controller.errors import InvalidInput, Unauthenticated, Unavailable


@pytest.fixture
def home(tmp_path: Path) -> dict[str, str]:
    return {"HOME": str(tmp_path)}


def data_folder(tmp_path: Path) -> Path:
    folder = DataFolder(tmp_path / "data")
    folder.root.mkdir()
    folder.server_info.write_text(json.dumps({"api": "http://127.0.0.1:7777", "pid": 1}))
    folder.local_token.write_text("local\n")
    return folder.root


def test_the_environment_comes_first(home: dict[str, str], tmp_path: Path) -> None:
    keep_credentials(home, "http://kept:1", "kept")
    environ = {**home, "MOOR_DATA": str(data_folder(tmp_path))}
    assert find_server(environ) == Server("http://127.0.0.1:7777", "local")
    environ |= {"MOOR_URL": "https://there/", "MOOR_TOKEN": "t"}
    assert find_server(environ) == Server("https://there", "t")
    assert find_server(environ | {"MOOR_URL": "http://kept:1", "MOOR_TOKEN": ""}) == Server(
        "http://kept:1", "kept"
    )


def test_the_last_login_is_the_default_and_others_can_be_named(home: dict[str, str]) -> None:
    keep_credentials(home, "http://one:1", "t1")
    keep_credentials(home, "https://two.example.org", "t2")
    assert find_server(home) == Server("https://two.example.org", "t2")
    assert find_server(home, wanted="one:1") == Server("http://one:1", "t1")
    with pytest.raises(InvalidInput, match=r"not logged in to three.*http://one:1"):
        find_server(home, wanted="three")


def test_a_named_server_comes_before_the_environment(home: dict[str, str]) -> None:
    keep_credentials(home, "http://one:1", "t1")
    environ = {**home, "MOOR_URL": "http://other", "MOOR_DATA": "/nowhere"}
    assert find_server(environ, wanted="http://one:1") == Server("http://one:1", "t1")


def test_without_anything_the_default_address_and_the_way_out_are_named(home: dict[str, str]) -> None:
    with pytest.raises(Unauthenticated, match="moor login") as caught:
        find_server(home)
    assert DEFAULT_URL in str(caught.value)
    assert find_server(home | {"MOOR_TOKEN": "t"}) == Server(DEFAULT_URL, "t")


def test_a_server_that_does_not_run_is_said_not_to(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="No server runs on"):
        find_server({"MOOR_DATA": str(tmp_path)})


def test_a_damaged_server_file_is_said_to_be_unreadable(tmp_path: Path) -> None:
    data = data_folder(tmp_path)
    DataFolder(data).server_info.write_text("[")
    with pytest.raises(Unavailable, match="can't be read"):
        find_server({"MOOR_DATA": str(data)})


def test_the_token_of_another_user_is_said_to_be_theirs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = data_folder(tmp_path)

    def refuse(self: Path, *_: object, **__: object) -> str:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "read_text", refuse)
    with pytest.raises(Unauthenticated, match=r"local-token belongs to the server's user.*sudo"):
        find_server({"MOOR_DATA": str(data)})


@pytest.mark.parametrize("url", ["", "there", "ftp://there", "http://", "//there"])
def test_an_address_must_be_one(url: str) -> None:
    with pytest.raises(InvalidInput, match="MOOR_URL"):
        find_server({"MOOR_URL": url or " ", "MOOR_TOKEN": "t"})


def test_the_file_is_for_its_owner_only_and_written_whole(home: dict[str, str]) -> None:
    path = keep_credentials(home, "http://one:1", "t1")
    assert path == credentials_path(home)
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert list(path.parent.iterdir()) == [path]


def test_a_damaged_file_is_told_and_mended_by_the_next_login(home: dict[str, str]) -> None:
    path = keep_credentials(home, "http://one:1", "t1")
    path.write_text("{")
    with pytest.raises(InvalidInput, match="moor login"):
        find_server(home)
    keep_credentials(home, "http://two:1", "t2")
    assert find_server(home) == Server("http://two:1", "t2")


def test_the_usual_folder_for_settings_is_honoured(tmp_path: Path) -> None:
    environ = {"HOME": "/nowhere", "XDG_CONFIG_HOME": str(tmp_path)}
    assert keep_credentials(environ, "http://one:1", "t").is_relative_to(tmp_path)
