"""Requests, from what the router tells to the files of their services; and how many files there may be."""

import os
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from controller.backends.keeper.output import Output, backup
from controller.logs import recorder as module
from controller.logs.access import text_of
from controller.logs.limit import bound
from controller.logs.recorder import AccessRecorder
from router.access import AccessBatch, AccessLine, AccessLogs, Fault
from router.base import RouterError
from router.memory import MemoryRouter
from router.types import Pool, Target

LINE = AccessLine(
    ended_at=1767268800.25,
    pool="foo/app",
    target="foo-app-12-web-1",
    fault=None,
    status=200,
    size=123,
    connect=1,
    service=5,
    client="192.0.2.1",
    method="GET",
    host="foo.example.org",
    path="/x",
    request_id="abc",
)


def test_line_for_people() -> None:
    assert text_of(LINE) == (
        'at=info method=GET path="/x" host=foo.example.org request_id=abc fwd=192.0.2.1 instance=web.1 '
        "connect=1ms service=5ms status=200 bytes=123"
    )


@pytest.mark.parametrize("fault", list(Fault))
def test_every_fault_has_a_code_and_a_reason(fault: Fault) -> None:
    text = text_of(LINE._replace(fault=fault, target=""))
    assert text.startswith("at=error code=H")
    assert ' desc="' in text
    assert " instance=- " in text


def test_nobody_there_and_nobody_wanted_are_told_apart() -> None:
    line = LINE._replace(fault=Fault.NO_TARGET)
    assert "code=H10" in text_of(line, wanted=True)
    assert "code=H14" in text_of(line, wanted=False)


class Telling:
    """A router that tells what it is given."""

    def __init__(self, *batches: AccessBatch | RouterError) -> None:
        self.batches = list(batches)

    async def take_access(self, *, most: int) -> AccessBatch:
        batch = self.batches.pop(0) if self.batches else AccessBatch()
        if isinstance(batch, RouterError):
            raise batch
        return batch


def lines_of(folder: Path, service: str = "foo/app") -> Sequence[str]:
    path = folder / service / "router.log"
    return path.read_text().splitlines() if path.exists() else []


def recorder(folder: Path, router: object, **known: bool) -> AccessRecorder:
    wanted = {name.replace("_", "/"): each for name, each in ({"foo_app": True} | known).items()}
    return AccessRecorder(router, folder, lambda *key: wanted.get("/".join(key)))  # type: ignore[arg-type]


async def test_requests_are_written_to_the_log_of_their_service(tmp_path: Path) -> None:
    batch = AccessBatch([LINE, LINE._replace(pool="bar/api", target="", fault=Fault.NO_TARGET)])
    await recorder(tmp_path, Telling(batch), bar_api=False).turn()
    assert lines_of(tmp_path) == [f"2026-01-01T12:00:00.250000Z router foo-app-12-web-1 {text_of(LINE)}"]
    (line,) = lines_of(tmp_path, "bar/api")
    assert line.startswith("2026-01-01T12:00:00.250000Z router - at=error code=H14 ")


async def test_requests_of_a_service_that_is_gone_leave_no_file(tmp_path: Path) -> None:
    await recorder(tmp_path, Telling(AccessBatch([LINE._replace(pool="gone/app")]))).turn()
    assert list(tmp_path.iterdir()) == []


async def test_service_that_was_made_anew_gets_a_log_of_its_own(tmp_path: Path) -> None:
    telling = Telling(AccessBatch([LINE]), AccessBatch([LINE]))
    writer = recorder(tmp_path, telling)
    await writer.turn()
    (tmp_path / "foo/app/router.log").unlink()
    (tmp_path / "foo/app").rmdir()
    await writer.turn()
    assert len(lines_of(tmp_path)) == 1


async def test_what_was_left_out_is_counted_in_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "TELL", 0.0)
    telling = Telling(AccessBatch([LINE], skipped={"foo/app": 70}), AccessBatch([LINE], lost=9))
    writer = recorder(tmp_path, telling)
    await writer.turn()
    await writer.turn()
    text = "\n".join(lines_of(tmp_path))
    assert "70 requests are not in this log: too many came at once" in text
    assert "9 requests of all apps are in no log" in text


async def test_flood_is_counted_together_and_told_of_once_in_a_while(tmp_path: Path) -> None:
    telling = Telling(*[AccessBatch([LINE], skipped={"foo/app": 10})] * 5)
    writer = recorder(tmp_path, telling)
    writer._left_out.since = time.monotonic()
    for _ in range(5):
        await writer.turn()
    assert not [each for each in lines_of(tmp_path) if "at=warning" in each]
    writer._left_out.since -= module.TELL
    await writer.turn()
    assert [each for each in lines_of(tmp_path) if "50 requests are not in this log" in each]


async def test_more_is_taken_after_a_quiet_time_than_in_a_flood(tmp_path: Path) -> None:
    asked = []

    class Flood:
        async def take_access(self, *, most: int) -> AccessBatch:
            asked.append(most)
            return AccessBatch([LINE] * min(most, 6000), skipped={"foo/app": 6000 - min(most, 6000)})

    writer = recorder(tmp_path, Flood())
    assert [await writer.turn() for _ in range(3)] == [6000, 6000, 6000]
    assert asked[0] == module.BURST
    assert asked[2] < 1000
    writer._looked_at -= 1.0
    await writer.turn()
    assert module.RATE <= asked[3] < 2 * module.RATE


async def test_files_of_requests_are_rotated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "Output", lambda path: Output(path, max_bytes=2000, backups=2))
    writer = recorder(tmp_path, Telling(*[AccessBatch([LINE] * 5)] * 30))
    for _ in range(30):
        await writer.turn()
    files = list((tmp_path / "foo/app").iterdir())
    assert {each.name for each in files} == {"router.log", "router.log.1", "router.log.2"}
    assert sum(each.stat().st_size for each in files) < 9000


async def test_memory_router_tells_too(tmp_path: Path) -> None:
    router = MemoryRouter(access_logs=AccessLogs.ON)
    target = Target("foo-app-1-web-1", "127.0.0.1", 80)
    await router.apply([Pool("foo/app", frozenset({"foo.example.org"}), frozenset({target}))])
    router.find_answer("foo.example.org")
    await recorder(tmp_path, router).turn()
    assert "instance=web.1" in lines_of(tmp_path)[0]


# How much is kept


def kept(folder: Path, name: str, size: int, age: float, *, backups: int = 0) -> None:
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}.log"
    for number, each in enumerate((path, *(backup(path, number) for number in range(1, backups + 1)))):
        each.write_bytes(b"x" * size)
        os.utime(each, (time.time() - age - number, time.time() - age - number))


def names(folder: Path) -> list[str]:
    return sorted(each.name for each in folder.iterdir())


def test_those_that_ended_longest_ago_go_first(tmp_path: Path) -> None:
    for age in range(1, 6):
        kept(tmp_path, f"foo-app-{age}-web-1", 100, age * 1000, backups=1)
    freed = bound(tmp_path, limit=500, running=(), now=time.time())
    assert freed == 600
    assert names(tmp_path) == [
        "foo-app-1-web-1.log",
        "foo-app-1-web-1.log.1",
        "foo-app-2-web-1.log",
        "foo-app-2-web-1.log.1",
    ]


def test_what_runs_what_is_young_and_the_requests_lose_only_their_older_files(tmp_path: Path) -> None:
    kept(tmp_path, "foo-app-1-web-1", 100, 9000, backups=2)
    kept(tmp_path, "foo-app-2-web-1", 100, 1)
    kept(tmp_path, "router", 100, 5000, backups=1)
    bound(tmp_path, limit=0, running={"foo-app-1-web-1"}, now=time.time())
    assert names(tmp_path) == ["foo-app-1-web-1.log", "foo-app-2-web-1.log", "router.log"]


def test_within_its_limit_nothing_goes(tmp_path: Path) -> None:
    kept(tmp_path, "foo-app-1-web-1", 100, 9000, backups=2)
    assert bound(tmp_path, limit=300, running=(), now=time.time()) == 0
    assert len(names(tmp_path)) == 3
    assert bound(tmp_path / "none", limit=300, running=(), now=time.time()) == 0


def test_number_of_those_that_ended_is_bounded_however_little_they_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("controller.logs.limit.MAX_ENDED", 3)
    for age in range(1, 9):
        kept(tmp_path, f"foo-app-{age}-web-1", 1, age * 1000)
    bound(tmp_path, limit=1000, running={"foo-app-8-web-1"}, now=time.time())
    assert names(tmp_path) == [f"foo-app-{age}-web-1.log" for age in (1, 2, 3, 8)]
