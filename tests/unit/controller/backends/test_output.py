"""What instances print: written, rotated, read back."""

import asyncio
import os
from pathlib import Path

import pytest

from controller.backends.keeper import output
from controller.backends.keeper.output import Output, backup, stamp
from controller.backends.logs import instance_logs
from controller.logs.query import LogQuery, read
from controller.types import LogSource

NAME = "foo-app-1-web-1"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "foo" / "app"


def query(lines: int | None = 1000, **filters: str) -> LogQuery:
    return LogQuery(deployment="foo", service="app", lines=lines, **filters)  # type: ignore[arg-type]


def writer(folder: Path, name: str = NAME, **limits: int) -> Output:
    return Output(folder / f"{name}.log", **limits)


async def texts(folder: Path, lines: int | None = 1000, **filters: str) -> list[str]:
    return [each.text async for each in instance_logs(folder, query(lines, **filters)).past()]


def test_stamp_is_utc_with_microseconds() -> None:
    assert stamp(0.000123) == b"1970-01-01T00:00:00.000123Z"


async def test_line_cut_anywhere_is_one_line(folder: Path) -> None:
    out = writer(folder)
    for piece in (b"he", b"llo\nwor", b"ld", b"\n"):
        out.write(piece)
    assert await texts(folder) == ["hello", "world"]


async def test_last_line_without_newline_is_kept_at_the_end(folder: Path) -> None:
    out = writer(folder)
    out.write(b"partial")
    assert await texts(folder) == []
    out.say("exited with status 1")
    found = instance_logs(folder, query(10)).past()
    assert [(each.source, each.text) async for each in found] == [
        (LogSource.APP, "partial"),
        (LogSource.SYSTEM, "exited with status 1"),
    ]


async def test_long_line_is_kept_in_pieces(folder: Path) -> None:
    writer(folder).write(b"x" * (2 * output.MAX_LINE + 1) + b"\n")
    assert [len(each) for each in await texts(folder)] == [output.MAX_LINE, output.MAX_LINE, 1]


async def test_files_are_bounded_and_the_youngest_lines_stay(folder: Path) -> None:
    out = writer(folder, max_bytes=1000, backups=2)
    for number in range(200):
        out.write(b"line %d\n" % number)
    files = sorted(folder.iterdir())
    path = folder / "foo-app-1-web-1.log"
    assert set(files) <= {path, backup(path, 1), backup(path, 2)}
    assert sum(each.stat().st_size for each in files) < 3 * 1100
    found = await texts(folder)
    assert found[-1] == "line 199"
    assert found == [f"line {each}" for each in range(200 - len(found), 200)]


async def test_full_disk_loses_lines_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "foo").write_text("a file where a folder should be")
    out = writer(tmp_path / "foo" / "app")
    out.write(b"lost\n")
    (tmp_path / "foo").unlink()
    out.write(b"kept\n")
    assert await texts(tmp_path / "foo" / "app") == ["kept"]


async def test_tail_counts_over_all_instances_and_their_older_files(folder: Path) -> None:
    first, second = writer(folder, max_bytes=300), writer(folder, "foo-app-2-worker-1")
    for number in range(20):
        (first if number % 2 else second).write(b"%d\n" % number)
    assert await texts(folder, 7) == [str(each) for each in range(13, 20)]
    assert await texts(folder, 3, process="worker") == ["14", "16", "18"]
    assert await texts(folder, 100, instance="foo-app-2-worker-1") == [str(each) for each in range(0, 20, 2)]


async def test_old_files_are_passed_over_but_not_for_the_lag_of_their_times(folder: Path) -> None:
    for number, name in enumerate(("foo-app-1-web-1", "foo-app-1-web-2", "foo-app-1-web-3")):
        writer(folder, name).write(b"%d\n" % number)
    now = (folder / "foo-app-1-web-3.log").stat().st_mtime
    os.utime(folder / "foo-app-1-web-1.log", (now - 100, now - 100))
    os.utime(folder / "foo-app-1-web-2.log", (now - 0.02, now - 0.02))
    assert await texts(folder, 2) == ["1", "2"]
    assert await texts(folder, 1) == ["2"]


async def test_service_that_never_ran_has_no_lines(folder: Path) -> None:
    assert await texts(folder) == []


async def test_following_ends_when_its_reader_does(folder: Path) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            async for _ in read(instance_logs(folder, query(0)), follow=True):
                pass
