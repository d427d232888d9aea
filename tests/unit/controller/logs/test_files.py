"""Files of stamped lines: found by time, merged, followed over rotation."""

import random
from collections.abc import Sequence
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.backends.keeper import output
from controller.backends.keeper.output import Output, backup, stamp
from controller.logs import files, parts
from controller.logs.files import Files, FileStream
from controller.logs.parts import Origin, find_offset, parse, parts_of
from controller.logs.query import LogQuery, Pattern
from controller.types import LogSource

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)


def origin(name: str) -> Origin:
    return Origin(name, name.rpartition("-")[2])


def written(path: Path, seconds: Sequence[float], *, source: str = "app", text: str = "line {}") -> None:
    """Lines at these times after BEGIN."""
    lines = [
        stamp((BEGIN + timedelta(seconds=each)).timestamp()) + f" {source} {text.format(each)}\n".encode()
        for each in seconds
    ]
    path.write_bytes(b"".join(lines))


def stream(folder: Path, **filters: object) -> FileStream:
    async def find() -> Files:
        return {path: origin(path.stem) for path in sorted(folder.glob("*.log"))}

    query = LogQuery(deployment="foo", service="app", **{"lines": None, **filters})  # type: ignore[arg-type]
    return FileStream(query, find)


async def texts(folder: Path, **filters: object) -> list[str]:
    return [each.text async for each in stream(folder, **filters).past()]


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that lines lie across blocks in every test."""
    monkeypatch.setattr(parts, "BLOCK", 100)


TIMES = st.lists(st.integers(0, 50), max_size=40).map(sorted)


@settings(max_examples=60, deadline=None)
@given(
    chains=st.lists(TIMES, min_size=1, max_size=4),
    cuts=st.lists(st.integers(0, 40), min_size=2, max_size=2),
    lines=st.one_of(st.none(), st.integers(0, 60)),
    since=st.one_of(st.none(), st.integers(0, 50)),
    until=st.one_of(st.none(), st.integers(0, 50)),
)
async def test_merged_lines_are_ordered_and_complete(
    chains: list[list[int]], cuts: list[int], lines: int | None, since: int | None, until: int | None
) -> None:
    """Whatever is asked for is what sorting everything would give; of equal times each file keeps its order."""
    with TemporaryDirectory() as made:
        folder, everything = Path(made), []
        for number, times in enumerate(chains):
            path = folder / f"i-{number}.log"
            first, second = sorted(cuts)
            numbered = [(each, f"{number}:{index}") for index, each in enumerate(times)]
            places = (backup(path, 2), backup(path, 1), path)
            for place, part in zip(
                places, (numbered[:first], numbered[first:second], numbered[second:]), strict=True
            ):
                place.write_bytes(
                    b"".join(
                        stamp((BEGIN + timedelta(seconds=at)).timestamp()) + f" app {text}\n".encode()
                        for at, text in part
                    )
                )
            everything += numbered
        wanted = [
            each
            for each in everything
            if (since is None or each[0] >= since) and (until is None or each[0] < until)
        ]
        found = [
            ((each.time - BEGIN).total_seconds(), each.text)
            async for each in stream(
                folder,
                lines=lines,
                since=None if since is None else BEGIN + timedelta(seconds=since),
                until=None if until is None else BEGIN + timedelta(seconds=until),
            ).past()
        ]
    assert [at for at, _ in found] == sorted(at for at, _ in found)
    if lines is None or lines >= len(wanted):
        assert sorted(found) == sorted(wanted)
    else:
        assert [at for at, _ in found] == sorted(at for at, _ in wanted)[len(wanted) - lines :]
        assert set(found) <= set(wanted)
    for number in range(len(chains)):
        own = [int(text.partition(":")[2]) for _, text in found if text.startswith(f"{number}:")]
        assert own == sorted(own)


@settings(max_examples=80, deadline=None)
@given(
    times=st.lists(st.integers(0, 100), max_size=60).map(sorted),
    lengths=st.lists(st.integers(0, 400), min_size=60, max_size=60),
    torn=st.booleans(),
    wanted=st.integers(-1, 101),
)
def test_bisecting_finds_the_first_line_of_that_time(
    times: list[int], lengths: list[int], torn: bool, wanted: int
) -> None:
    with TemporaryDirectory() as made:
        path = Path(made) / "i.log"
        data, offsets = b"garbage\n" if torn else b"", []
        for at, length in zip(times, lengths, strict=False):
            offsets.append((at, len(data)))
            data += stamp(float(at)) + b" app " + b"x" * length + b"\n"
        path.write_bytes(data)
        found = [find_offset(part, stamp(max(0.0, wanted)), origin("i")) for part in parts_of(path)]
    expected = next((offset for at, offset in offsets if at >= wanted), len(data))
    # What has no stamp belongs to nothing: whether it is passed over doesn't matter.
    assert all(data[each:expected] in (b"", b"garbage\n") for each in found)


def test_bisecting_a_large_file_reads_little_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "BLOCK", 128 * 1024)
    path = tmp_path / "i.log"
    written(path, range(200_000))
    (part,) = parts_of(path)
    read = 0
    pread = parts.os.pread

    def counted(file: int, size: int, offset: int) -> bytes:
        nonlocal read
        read += size
        return pread(file, size, offset)

    monkeypatch.setattr(parts.os, "pread", counted)
    wanted = stamp((BEGIN + timedelta(seconds=123_456)).timestamp())
    offset = find_offset(part, wanted, origin("i"))
    assert part.read(offset, 27) == wanted
    assert read < part.end / 10


async def test_sources_and_text_are_looked_for_where_the_file_is_read(tmp_path: Path) -> None:
    written(tmp_path / "a-1.log", [1, 3, 5], text="Request {} timed OUT")
    written(tmp_path / "a-2.log", [2, 4], source="system", text="exited with status {}")
    assert await texts(tmp_path, sources=frozenset({LogSource.SYSTEM})) == [
        "exited with status 2",
        "exited with status 4",
    ]
    assert await texts(tmp_path, pattern=Pattern("timed out")) == [
        f"Request {each} timed OUT" for each in (1, 3, 5)
    ]
    assert await texts(tmp_path, pattern=Pattern("req*3*out")) == ["Request 3 timed OUT"]
    assert await texts(tmp_path, pattern=Pattern("out*req")) == []
    assert await texts(tmp_path, pattern=Pattern("app")) == [], "what is before the text is no text"
    assert await texts(tmp_path, pattern=Pattern("*4"), lines=1) == ["exited with status 4"]


async def test_lines_of_the_router_say_themselves_which_instance_answered(tmp_path: Path) -> None:
    path = tmp_path / "router.log"
    path.write_bytes(
        stamp(1.0) + b" router foo-app-2-web-1 at=info\n" + stamp(2.0) + b" router - at=error code=H14\n"
    )

    async def find() -> Files:
        return {path: Origin("", "web")}

    async def asked(**filters: str) -> list[tuple[str, str, str]]:
        query = LogQuery(deployment="foo", service="app", **filters)  # type: ignore[arg-type]
        return [(each.instance, each.process, each.text) async for each in FileStream(query, find).past()]

    first, second = ("foo-app-2-web-1", "web.1", "at=info"), ("", "web", "at=error code=H14")
    assert await asked() == [first, second]
    assert await asked(process="web") == [first, second]
    assert await asked(process="web.1") == [first]
    assert await asked(instance="foo-app-2-web-1") == [first]
    assert await asked(process="worker") == []


async def test_last_lines_are_bounded_by_their_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "BLOCK", 1000)
    monkeypatch.setattr(files, "KEPT_BYTES", 5000)
    monkeypatch.setattr(files, "BATCH", 10)
    written(tmp_path / "a-1.log", range(1000), text="{:0100}")
    found = await texts(tmp_path, lines=900)
    assert 50 <= len(found) <= 70
    assert found[-1] == f"{999:0100}"


async def test_clock_that_was_set_back_a_little_hides_nothing(tmp_path: Path) -> None:
    written(tmp_path / "a-1.log", [10, 11, 9.5, 12, 13])
    since = BEGIN + timedelta(seconds=11)
    assert await texts(tmp_path, since=since) == ["line 11", "line 12", "line 13"]
    assert await texts(tmp_path, until=since) == ["line 10", "line 9.5"]


# Following


async def test_seam_between_past_and_followed_over_rotations(tmp_path: Path) -> None:
    """Random writes, rotations and new instances: every line comes once, and in the order of its writer."""
    dice = random.Random(7)
    for round_ in range(15):
        folder = tmp_path / str(round_)
        outs: list[Output] = []
        counts: list[int] = []

        def write(outs: list[Output] = outs, counts: list[int] = counts, folder: Path = folder) -> None:
            if not outs or dice.random() < 0.1:
                outs.append(Output(folder / f"foo-app-1-web-{len(outs)}.log", max_bytes=900, backups=2))
                counts.append(0)
            number = dice.randrange(len(outs))
            outs[number].write(b"%d:%d\n" % (number, counts[number]))
            counts[number] += 1

        for _ in range(dice.randrange(30)):
            write()
        reader = stream(folder)
        got = [each.text async for each in reader.past()]
        for _ in range(40):
            for _ in range(dice.randrange(8)):
                write()
            got += [each.text for each in reader._fresh(await reader._find())]
        assert len(got) == len(set(got)), "a line came twice"
        for number, count in enumerate(counts):
            own = [int(each.partition(":")[2]) for each in got if each.startswith(f"{number}:")]
            assert own == list(range(own[0] if own else 0, count)), "a line is missing, or out of order"


async def test_lines_that_were_rotated_away_before_they_were_read_are_told_of(tmp_path: Path) -> None:
    out = Output(tmp_path / "foo-app-1-web-1.log", max_bytes=300, backups=2)
    out.write(b"first\n")
    reader = stream(tmp_path)
    assert [each.text async for each in reader.past()] == ["first"]
    for number in range(100):
        out.write(b"%d\n" % number)
    found = reader._fresh(await reader._find())
    assert [each.text for each in found if each.source is LogSource.SYSTEM] == [files.LOST]
    assert found[-2].text == "99"


async def test_line_still_being_written_is_read_once_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "foo-app-1-web-1.log"
    written(path, [1], text="first")
    reader = stream(tmp_path, lines=10)
    with path.open("ab") as file:
        file.write(stamp(1.0) + b" app sec")
    assert [each.text async for each in reader.past()] == ["first"]
    assert reader._fresh(await reader._find()) == []
    with path.open("ab") as file:
        file.write(b"ond\n")
    assert [each.text for each in reader._fresh(await reader._find())] == ["second"]


async def test_flood_is_followed_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "FOLLOWED_BYTES", 1000)
    written(tmp_path / "foo-app-1-web-1.log", [0])
    reader = stream(tmp_path)
    assert len([each async for each in reader.past()]) == 1
    written(tmp_path / "foo-app-1-web-1.log", range(200))
    looks = []
    while found := reader._fresh(await reader._find()):
        looks.append(len(found))
    assert sum(looks) == 199
    assert max(looks) < 30


async def test_following_is_closed_at_any_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "POLL", 0.001)
    reader = stream(tmp_path)
    assert [each async for each in reader.past()] == []
    async with aclosing(reader.following()) as following:
        written(tmp_path / "foo-app-1-web-1.log", [1])
        assert (await anext(following)).text == "line 1"


# Lines


@pytest.mark.parametrize(
    "torn", [b"", b"garbage", b"2026-01-01T00:00:00.000000Z", b"2026-01-01T00:00:00.000000Z other x"]
)
def test_torn_lines_are_left_out(torn: bytes) -> None:
    assert parse(torn, origin("a-1")) is None


def test_lines_of_a_log_without_times_get_the_one_of_their_origin() -> None:
    raw = parse(b"-----> Python app", Origin("b1", "b1", stamp(5.0)))
    assert raw is not None
    line = raw.line()
    assert (line.source, line.text, line.time.timestamp()) == (LogSource.BUILD, "-----> Python app", 5.0)


def test_longest_line_is_found_from_both_ends(tmp_path: Path) -> None:
    path = tmp_path / "a-1.log"
    out = Output(path)
    out.write(b"x" * output.MAX_LINE + b"\nend\n")
    (part,) = parts_of(path)
    blocks = list(parts.lines_before(part, 0, part.end))
    assert b"".join(reversed(blocks)) == path.read_bytes()
    assert b"".join(parts.lines_after(part, 0, part.end)) == path.read_bytes()
