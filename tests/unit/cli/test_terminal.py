"""The process's own streams: questions, pipes, and what loads how much."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from cli.terminal import StandardInput

MOOR = "import sys; from cli.main import main; sys.exit(main())"


async def test_lines_and_the_rest_are_read_from_a_pipe() -> None:
    reading, writing = os.pipe()
    try:
        given = StandardInput(reading)
        os.write(writing, "first\r\nzwei ü\nrest".encode())
        assert not given.terminal
        assert await given.line(hidden=True) == "first"
        assert await given.line() == "zwei ü"
        os.close(writing)
        assert await given.everything() == "rest"
        assert await given.line() == ""
    finally:
        os.close(reading)


async def test_a_regular_file_is_read_too(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("a key\n")
    with (tmp_path / "key").open() as file:
        assert await StandardInput(file.fileno()).everything() == "a key\n"


async def test_waiting_for_an_answer_can_be_cancelled() -> None:
    reading, writing = os.pipe()
    try:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await StandardInput(reading).line()
    finally:
        os.close(reading)
        os.close(writing)


async def test_a_hidden_answer_is_not_shown_on_the_terminal() -> None:
    ours, theirs = os.openpty()
    try:
        given = StandardInput(theirs)
        assert given.terminal
        asking = asyncio.create_task(given.line(hidden=True))
        await asyncio.sleep(0)
        os.write(ours, b"secret\n")
        assert await asking == "secret"
        os.set_blocking(ours, False)
        with pytest.raises(BlockingIOError):
            os.read(ours, 100)
    finally:
        os.close(ours)
        os.close(theirs)


def moor(*words: str, **options: object) -> subprocess.CompletedProcess[str]:
    environ = {"PATH": os.environ["PATH"], "HOME": "/nowhere"}
    command = [sys.executable, "-c", MOOR, *words]
    return subprocess.run(command, env=environ, capture_output=True, text=True, check=False, **options)  # type: ignore[call-overload, no-any-return]


def test_the_entry_point_prints_help_and_passes_the_status_on() -> None:
    helped, failed = moor("help", "apps"), moor("apps")
    assert (helped.returncode, helped.stderr) == (0, "")
    assert "List your apps." in helped.stdout
    assert (failed.returncode, failed.stdout) == (1, "")
    assert "moor login" in failed.stderr
    assert "Traceback" not in failed.stderr


def test_a_reader_that_has_gone_leaves_no_traceback() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    environ = {"PATH": os.environ["PATH"], "HOME": "/nowhere"}
    done = subprocess.run(
        [sys.executable, "-c", MOOR, "--help"],
        env=environ,
        stdout=writing,
        stderr=subprocess.PIPE,
        check=False,
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (141, b"")


def test_help_loads_nothing_heavy() -> None:
    program = (
        "import sys; from cli.main import main; main(); "
        "sys.exit(','.join(sorted({'asyncio', 'httpx', 'msgspec', 'yaml', 'subprocess', 'controller.types'} "
        "& set(sys.modules))) or 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, "--help"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
