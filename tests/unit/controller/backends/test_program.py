"""What the keeper hands to supervisord."""

import json
from pathlib import Path

import pytest

from controller.backends.keeper.child import default_environment, shell_command
from controller.backends.keeper.exits import describe_exit
from controller.backends.keeper.request import Files, Request

REQUEST = Request(
    id="foo-app-1-web-1",
    labels={"deployment": "foo"},
    command="python app.py",
    folder="/srv/foo",
    env={"A": "1"},
    uid=4_000_000,
    log="/var/log/foo.log",
    address="127.0.0.1",
    ports=(20000, 30000),
)


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (0, "exited with status 0"),
        (3 << 8, "exited with status 3"),
        (9, "killed by SIGKILL"),
        (40, "killed by signal 40"),
    ],
)
def test_exit_is_told_in_words(status: int, words: str) -> None:
    assert describe_exit(status) == words


def test_request_comes_back_from_its_file(tmp_path: Path) -> None:
    (tmp_path / "instances").mkdir()
    files = Files(tmp_path, REQUEST.id)
    files.write(REQUEST, 20001)
    saved = json.loads(files.running.read_text())
    assert (Request.parse(saved["request"]), saved["port"]) == (REQUEST, 20001)
    assert files.running.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("text", ["", "half a", "other-boot 1 2", "x y z"])
def test_process_file_of_another_boot_or_torn_names_nobody(tmp_path: Path, text: str) -> None:
    (tmp_path / "instances").mkdir()
    files = Files(tmp_path, REQUEST.id)
    assert files.leaders() == frozenset()
    files.process.write_text(text)
    assert files.leaders() == frozenset()


def test_command_is_an_argument_and_never_part_of_the_script() -> None:
    _, arguments = shell_command("echo '\"$(id)")
    assert arguments[-1] == "echo '\"$(id)"
    assert "echo" not in arguments[2]


def test_user_without_an_entry_is_called_app() -> None:
    env = default_environment(REQUEST)
    assert (env["USER"], env["HOME"]) == ("app", "/srv/foo")
