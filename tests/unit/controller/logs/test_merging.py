"""Streams of many kinds as one; text and moments as people write them."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.errors import InvalidInput
from controller.logs import merging
from controller.logs.merging import MergedStream
from controller.logs.moments import parse_moment
from controller.logs.query import LogQuery, Pattern, read
from controller.types import LogLine
from tests.factories import NOW, log_line


class Told:
    """A stream of what it is given."""

    def __init__(
        self, lines: list[LogLine], following: list[LogLine] | None = None, fault: bool = False
    ) -> None:
        self.lines = lines
        self.later = following or []
        self.fault = fault
        self.closed = False

    async def past(self) -> AsyncGenerator[LogLine, None]:
        for each in self.lines:
            yield each

    async def following(self) -> AsyncGenerator[LogLine, None]:
        try:
            for each in self.later:
                yield each
            if self.fault:
                raise RuntimeError("gone")
            await asyncio.Event().wait()
        finally:
            self.closed = True


def query(**changes: object) -> LogQuery:
    return LogQuery(deployment="foo", service="app", **changes)  # type: ignore[arg-type]


def at(seconds: float, text: str = "") -> LogLine:
    return log_line(text or str(seconds), time=NOW + timedelta(seconds=seconds))


@given(st.lists(st.lists(st.integers(0, 20)), max_size=4), st.one_of(st.none(), st.integers(0, 30)))
async def test_past_of_all_streams_is_ordered_and_complete(times: list[list[int]], lines: int | None) -> None:
    streams = [Told([at(each) for each in sorted(own)]) for own in times]
    found = [each.time async for each in MergedStream(query(lines=lines), streams).past()]
    everything = sorted(line.time for stream in streams for line in stream.lines)
    assert found == (everything if lines is None else everything[max(0, len(everything) - lines) :])


async def test_followed_lines_come_from_all_streams_and_all_are_closed() -> None:
    streams = [Told([at(1)], [at(3, "c"), at(4, "d")]), Told([at(2)], [at(5, "e")])]
    async with aclosing(read(MergedStream(query(), streams), follow=True)) as lines:
        got = [(await anext(lines)).text for _ in range(5)]
    assert got[:2] == ["1", "2"]
    assert sorted(got[2:]) == ["c", "d", "e"]
    assert all(each.closed for each in streams)


async def test_fault_of_one_stream_ends_all() -> None:
    streams = [Told([], fault=True), Told([])]
    with pytest.raises(RuntimeError, match="gone"):
        async for _ in MergedStream(query(), streams).following():
            pass
    assert streams[1].closed


async def test_slow_reader_holds_the_streams_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(merging, "WAITING", 3)
    given = 0

    class Counting(Told):
        async def following(self) -> AsyncGenerator[LogLine, None]:
            nonlocal given
            while True:
                given += 1
                yield at(given)

    async with aclosing(MergedStream(query(), [Counting([])]).following()) as lines:
        await anext(lines)
        for _ in range(20):
            await asyncio.sleep(0)
        assert given <= 6


async def test_last_lines_are_bounded_by_their_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(merging, "KEPT_BYTES", 100)
    found = [
        each.text async for each in MergedStream(query(), [Told([at(n, "x" * 30) for n in range(9)])]).past()
    ]
    assert len(found) == 3


@pytest.mark.parametrize(
    ("text", "line", "matches"),
    [
        ("", "anything", True),
        ("*", "", True),
        ("Time", "request TIMEd out", True),
        ("a*b*c", "xxaxxbxxcxx", True),
        ("a*b*c", "xxaxxcxxbxx", False),
        ("aa*aa", "aaa", False),
        ("é", "café", True),
        ("(a+)+$", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaa!", False),
    ],
)
def test_pattern_is_plain_text_with_stars(text: str, line: str, matches: bool) -> None:
    pattern = Pattern(text)
    assert pattern.matches(line.encode()) is matches
    assert not matches or pattern.may_be_in(b"before\n" + line.encode() + b"\nbehind\n")


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("10m", NOW - timedelta(minutes=10)),
        ("1h30m", NOW - timedelta(minutes=90)),
        ("2d", NOW - timedelta(days=2)),
        ("45", NOW - timedelta(seconds=45)),
        ("0s", NOW),
        ("2026-11-22T08:00", datetime(2026, 11, 22, 8, tzinfo=UTC)),
        ("2026-11-22", datetime(2026, 11, 22, tzinfo=UTC)),
        ("2026-11-22T08:00:01.5+02:00", datetime(2026, 11, 22, 6, 0, 1, 500000, tzinfo=UTC)),
        ("2026-11-22T08:00:00Z", datetime(2026, 11, 22, 8, tzinfo=UTC)),
        ("999999d", datetime.min.replace(tzinfo=UTC)),
    ],
)
def test_moments_are_read_as_people_write_them(text: str, moment: datetime) -> None:
    assert parse_moment(text, "since", NOW) == moment


@pytest.mark.parametrize(
    "text", ["", " ", "yesterday", "10x", "-5m", "m", "2026-13-01", "0001-01-01T00:00+23:00"]
)
def test_what_is_no_moment_is_refused_with_the_way_out(text: str) -> None:
    with pytest.raises(InvalidInput, match="10m") as caught:
        parse_moment(text, "since", NOW)
    assert caught.value.field == "since"
