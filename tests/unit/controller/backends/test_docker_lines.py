"""Lines of an instance, from what the engine kept to our file, exactly once."""

import struct

import pytest

from controller.backends.docker.lines import Lines, Mark, last_mark, last_note, to_width
from controller.backends.docker.wire import Frames

FIRST, SECOND = "2026-01-31T12:00:00.100000001Z", "2026-01-31T12:00:00.2Z"


def frame(text: bytes, stamp: str = FIRST, stream: int = 1) -> bytes:
    payload = stamp.encode() + b" " + text
    return struct.pack(">BxxxI", stream, len(payload)) + payload


def test_pieces_are_found_however_they_are_cut() -> None:
    data = frame(b"one\n") + frame(b"two\n", stream=2)
    frames = Frames()
    found = [each for index in range(len(data)) for each in frames.feed(data[index : index + 1])]
    assert found == Frames().feed(data)
    assert [stream for stream, _ in found] == [1, 2]


def test_lines_are_stamped_by_the_engine_to_the_microsecond() -> None:
    lines = Lines(Mark())
    assert lines.feed(frame(b"one\r\n") + frame(b"\n", SECOND)) == (
        b"2026-01-31T12:00:00.100000Z app one\n2026-01-31T12:00:00.200000Z app \n"
    )
    assert lines.mark == Mark(b"2026-01-31T12:00:00.200000Z", 1)


@pytest.mark.parametrize(
    ("stamp", "width"),
    [
        (b"2026-01-31T12:00:00Z", b"2026-01-31T12:00:00.000000Z"),
        (b"2026-01-31T12:00:00.1Z", b"2026-01-31T12:00:00.100000Z"),
        (b"2026-01-31T12:00:00.123456789Z", b"2026-01-31T12:00:00.123456Z"),
    ],
)
def test_stamps_have_one_width(stamp: bytes, width: bytes) -> None:
    assert to_width(stamp) == width


def test_pieces_of_one_line_are_joined_per_stream() -> None:
    lines = Lines(Mark())
    part = b"p" * 16_384
    data = frame(part) + frame(b"other\n", SECOND, 2) + frame(b"tial\n")
    assert [each.split(b" app ")[1] for each in lines.feed(data).splitlines()] == [b"other", part + b"tial"]


def test_line_without_an_end_is_kept_when_the_next_begins_or_the_stream_ends() -> None:
    lines = Lines(Mark())
    part = b"p" * 16_384
    assert b"app " + part + b"\n" in lines.feed(frame(part) + frame(b"begin\n", SECOND))
    lines.feed(frame(part, SECOND))
    assert lines.finish() == b"2026-01-31T12:00:00.200000Z app " + part + b"\n"


def test_last_piece_of_a_line_may_lack_its_newline() -> None:
    lines = Lines(Mark())
    found = lines.feed(frame(b"p" * 16_384) + frame(b"q" * 16_384) + frame(b"") + frame(b"next"))
    assert [len(each.split(b" app ")[1]) for each in found.splitlines()] == [2 * 16_384, 4]


def test_longest_line_is_cut_where_it_was_cut_before() -> None:
    data = b"".join(frame(b"z" * 16_384) for _ in range(20)) + frame(b"end\n")
    lines = Lines(Mark())
    whole = lines.feed(data)
    assert b"".join(each.split(b" app ")[1] for each in whole.splitlines()) == b"z" * 16_384 * 20 + b"end"
    half = b"".join(each + b"\n" for each in whole.splitlines()[:2])
    assert half + Lines(last_mark([half])).feed(data) == whole


@pytest.mark.parametrize("had", range(7))
def test_nothing_is_lost_or_there_twice_wherever_it_was_broken_off(had: int) -> None:
    data = b"".join(frame(b"%d\n" % each, FIRST if each < 4 else SECOND) for each in range(6))
    whole = Lines(Mark()).feed(data)
    kept = b"".join(each + b"\n" for each in whole.splitlines()[:had])
    mark = last_mark([kept])
    begin = data if had <= 4 else b"".join(frame(b"%d\n" % each, SECOND) for each in (4, 5))
    assert kept + Lines(mark).feed(begin) == whole


def test_mark_is_of_the_apps_lines_over_blocks_and_words_of_ours() -> None:
    older = b"2026-01-31T12:00:00.100000Z app a\n2026-01-31T12:00:00.200000Z app b\r \n"
    newer = b"2026-01-31T12:00:00.200000Z app \n2026-01-31T12:00:09.000000Z system exited with status 0\n"
    assert last_mark([newer, older]) == Mark(b"2026-01-31T12:00:00.200000Z", 2)
    assert last_mark([]) == Mark()
    assert last_note([newer]) == b"2026-01-31T12:00:09.000000Z"
    assert last_note([older]) == b""


def test_mark_is_told_to_the_engine_in_its_own_way() -> None:
    assert Mark(b"1970-01-01T00:01:00.250000Z", 1).since == "60.250000000"
    assert Mark().since == "0"
