"""What HAProxy writes of a request, read."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.access import Fault, fair_share
from router.haproxy_access import AccessPipe, find_fault, parse_batch, parse_line

LINE = (
    b"1795333201865 foo/app foo-app-1-web-2 -- 200 1234 2 0 1 17 127.0.0.1 GET "
    b"0123456789-0123456789 foo.example.org /a/b"
)


def test_line_of_a_request() -> None:
    line = parse_line(LINE)
    assert line is not None
    assert (line.ended_at, line.pool, line.target, line.fault) == (
        1795333201.865,
        "foo/app",
        "foo-app-1-web-2",
        None,
    )
    assert (line.status, line.size, line.connect, line.service) == (200, 1234, 1, 14)
    assert (line.client, line.method, line.host, line.path) == ("127.0.0.1", "GET", "foo.example.org", "/a/b")
    assert line.request_id == "0123456789-0123456789"


def test_times_that_were_never_reached_count_nothing() -> None:
    line = parse_line(b"1 foo/app <NOSRV> SC 503 300 0 -1 -1 0 ::1 GET - foo.example.org /")
    assert line is not None
    assert (line.target, line.fault, line.connect, line.service) == ("", Fault.NO_TARGET, 0, 0)


def test_spaces_of_a_host_shift_nothing_and_are_not_shown() -> None:
    line = parse_line(LINE.replace(b"foo.example.org", b'foo.example.org "x\\ y'))
    assert line is not None
    assert (line.host, line.path, line.pool) == ("foo.example.org??x??y", "/a/b", "foo/app")


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"[NOTICE] something else",
        b"1795333201865 - <NOSRV> CR 400 0 -1 -1 -1 3 127.0.0.1 <BADREQ> - - <BADREQ>",
        LINE.replace(b" 200 ", b" x "),
        LINE[:40],
        b"Proxy web started.",
    ],
)
def test_what_is_no_line_of_a_request_to_a_pool_is_passed_over(line: bytes) -> None:
    assert parse_batch([line, LINE], most=10).lines == [parse_line(LINE)]


def test_of_a_flood_each_pool_has_an_equal_share_and_the_rest_is_counted() -> None:
    other = LINE.replace(b"foo/app", b"bar/app")
    batch = parse_batch([LINE] * 5 + [other], most=3)
    assert [each.pool for each in batch.lines] == ["foo/app", "foo/app", "bar/app"]
    assert batch.skipped == {"foo/app": 3}


@given(st.lists(st.integers(1, 50)), st.integers(0, 100))
def test_fair_share_uses_what_there_is_and_favours_nobody(counts: list[int], most: int) -> None:
    share = fair_share(counts, most)
    taken = sum(min(each, share) for each in counts)
    assert taken <= most or not counts
    if sum(counts) <= most:
        assert taken == sum(counts)
    else:
        assert taken + sum(each > share for each in counts) > most, "one more of each would be too many"


@pytest.mark.parametrize(
    ("end", "server", "status", "fault"),
    [
        ("--", "one", 500, None),
        ("LR", "<NOSRV>", 503, Fault.MAINTENANCE),
        ("LR", "<NOSRV>", 302, None),
        ("SC", "<NOSRV>", 503, Fault.NO_TARGET),
        ("SC", "one", 503, Fault.REFUSED),
        ("sC", "one", 503, Fault.CONNECT_TIMEOUT),
        ("sH", "one", 504, Fault.ANSWER_TIMEOUT),
        ("SH", "one", 502, Fault.NO_ANSWER),
        ("SD", "one", 200, Fault.CUT_OFF),
        ("KD", "one", 200, Fault.CUT_OFF),
        ("DD", "one", 200, Fault.CUT_OFF),
        ("sD", "one", 200, Fault.IDLE),
        ("PH", "one", 502, Fault.BAD_ANSWER),
        ("CD", "one", 200, Fault.CLIENT_GONE),
        ("CH", "one", -1, Fault.CLIENT_GONE),
        ("cR", "<NOSRV>", 408, Fault.CLIENT_TIMEOUT),
        ("RC", "one", 500, Fault.ROUTER),
        ("??", "one", 500, Fault.ROUTER),
    ],
)
def test_how_a_session_ended_in_our_words(end: str, server: str, status: int, fault: Fault | None) -> None:
    assert find_fault(end, server, status) is fault


def test_dropped_lines_are_counted_once_over_our_own_restart(tmp_path: Path) -> None:
    def pipe() -> AccessPipe:
        return AccessPipe(tmp_path / "access.pipe")

    assert pipe().note_dropped(7, 10) == 10
    assert pipe().note_dropped(7, 10) == 0
    assert pipe().note_dropped(7, 15) == 5
    assert pipe().note_dropped(8, 3) == 3, "another process counts from the start"
