"""What instances print: written, rotated, read back."""

import asyncio
import os
from pathlib import Path

import pytest

from controller.backends.keeper import output
from controller.backends.keeper.output import Output, backup, stamp
from controller.backends.logs import Reader, Selection, Writer, parse, read_logs
from controller.types import LogSource

WRITER = Writer("foo-app-1-web-1", "web.1")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "foo" / "app"


def selection(folder: Path, **changes: str) -> Selection:
    return Selection(folder=folder, deployment="foo", service="app", **changes)


def writer(folder: Path, name: str = WRITER.instance, **limits: int) -> Output:
    return Output(folder / f"{name}.log", **limits)


def texts(folder: Path, lines: int = 1000, **changes: str) -> list[str]:
    return [each.text for each in Reader(selection(folder, **changes)).tail(lines)]


def test_stamp_is_utc_with_microseconds() -> None:
    assert stamp(0.000123) == b"1970-01-01T00:00:00.000123Z"


def test_line_cut_anywhere_is_one_line(folder: Path) -> None:
    out = writer(folder)
    for piece in (b"he", b"llo\nwor", b"ld", b"\n"):
        out.write(piece)
    assert texts(folder) == ["hello", "world"]


def test_last_line_without_newline_is_kept_at_the_end(folder: Path) -> None:
    out = writer(folder)
    out.write(b"partial")
    assert texts(folder) == []
    out.say("exited with status 1")
    found = Reader(selection(folder)).tail(10)
    assert [(each.source, each.text) for each in found] == [
        (LogSource.APP, "partial"),
        (LogSource.SYSTEM, "exited with status 1"),
    ]


def test_long_line_is_kept_in_pieces(folder: Path) -> None:
    writer(folder).write(b"x" * (2 * output.MAX_LINE + 1) + b"\n")
    assert [len(each) for each in texts(folder)] == [output.MAX_LINE, output.MAX_LINE, 1]


def test_files_are_bounded_and_the_youngest_lines_stay(folder: Path) -> None:
    out = writer(folder, max_bytes=1000, backups=2)
    for number in range(200):
        out.write(b"line %d\n" % number)
    files = sorted(folder.iterdir())
    path = folder / "foo-app-1-web-1.log"
    assert set(files) <= {path, backup(path, 1), backup(path, 2)}
    assert sum(each.stat().st_size for each in files) < 3 * 1100
    found = texts(folder)
    assert found[-1] == "line 199"
    assert found == [f"line {each}" for each in range(200 - len(found), 200)]


def test_full_disk_loses_lines_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "foo").write_text("a file where a folder should be")
    out = writer(tmp_path / "foo" / "app")
    out.write(b"lost\n")
    (tmp_path / "foo").unlink()
    out.write(b"kept\n")
    assert texts(tmp_path / "foo" / "app") == ["kept"]


def test_tail_counts_over_all_instances_and_their_older_files(folder: Path) -> None:
    first, second = writer(folder, max_bytes=300), writer(folder, "foo-app-2-worker-1")
    for number in range(20):
        (first if number % 2 else second).write(b"%d\n" % number)
    assert texts(folder, 7) == [str(each) for each in range(13, 20)]
    assert texts(folder, 3, process_type="worker") == ["14", "16", "18"]
    assert texts(folder, 100, instance="foo-app-2-worker-1") == [str(each) for each in range(0, 20, 2)]


def test_old_files_are_passed_over_but_not_for_the_lag_of_their_times(folder: Path) -> None:
    for number, name in enumerate(("foo-app-1-web-1", "foo-app-1-web-2", "foo-app-1-web-3")):
        writer(folder, name).write(b"%d\n" % number)
    now = (folder / "foo-app-1-web-3.log").stat().st_mtime
    os.utime(folder / "foo-app-1-web-1.log", (now - 100, now - 100))
    os.utime(folder / "foo-app-1-web-2.log", (now - 0.02, now - 0.02))
    assert texts(folder, 2) == ["1", "2"]
    assert texts(folder, 1) == ["2"]


def test_following_over_a_rotation_loses_nothing(folder: Path) -> None:
    out = writer(folder, max_bytes=400, backups=2)
    out.write(b"0\n")
    reader = Reader(selection(folder))
    got = [each.text for each in reader.tail(10)]
    for number in range(1, 60):
        out.write(b"%d\n" % number)
        if number % 5 == 0:
            got += [each.text for each in reader.fresh()]
    got += [each.text for each in reader.fresh()]
    assert got == [str(each) for each in range(60)]


def test_line_still_being_written_is_read_once_it_is_whole(folder: Path) -> None:
    writer(folder).write(b"first\n")
    reader = Reader(selection(folder))
    path = folder / "foo-app-1-web-1.log"
    with path.open("ab") as file:
        file.write(stamp(1.0) + b" app sec")
    assert [each.text for each in reader.tail(10)] == ["first"]
    assert reader.fresh() == []
    with path.open("ab") as file:
        file.write(b"ond\n")
    assert [each.text for each in reader.fresh()] == ["second"]


@pytest.mark.parametrize(
    "torn", [b"", b"garbage", b"2026-01-01T00:00:00.000000Z", b"2026-01-01T00:00:00.000000Z other x"]
)
def test_torn_lines_are_left_out(torn: bytes) -> None:
    assert parse(torn + b"\n", WRITER) == []


async def test_service_that_never_ran_has_no_lines(folder: Path) -> None:
    assert [each async for each in read_logs(selection(folder), lines=10, follow=False)] == []


async def test_following_ends_when_its_reader_does(folder: Path) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            async for _ in read_logs(selection(folder), lines=0, follow=True):
                pass
