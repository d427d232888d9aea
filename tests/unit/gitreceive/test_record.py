import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from builder.base import BuilderUnavailable, BuildFailed
from controller.errors import Unavailable
from controller.names import Address
from controller.types import Artifact, Build, BuildStatus
from gitreceive.push import PushRefused
from gitreceive.record import BuildCanceled, BuildRecord, build_record
from gitreceive.turns import Line
from tests.factories import slug

FOO = Address("foo")


class Builds:
    """The controller's client, as far as a record needs it."""

    def __init__(self) -> None:
        self.record: Build | None = None
        self.seen: list[tuple[str, str]] = []
        """What the record was, one after the other."""
        self.log: list[str] = []
        self.broken = False

    @property
    def end(self) -> tuple[BuildStatus, str]:
        assert self.record is not None
        return self.record.status, self.record.error

    def keep(self, record: Build) -> Build:
        self.record = record
        if (record.status, record.doing) not in self.seen[-1:]:
            self.seen.append((record.status, record.doing))
        return record

    async def open_build(self, address: Address, *, commit: str | None, reason: str, waits_for: str) -> Build:
        status = BuildStatus.QUEUED if waits_for else BuildStatus.RUNNING
        return self.keep(
            Build(id="b1", deployment="foo", service="app", status=status, doing=waits_for, reason=reason)
        )

    async def touch_build(
        self, build: str, *, status: BuildStatus | None = None, doing: str | None = None
    ) -> Build:
        assert self.record is not None
        doing = self.record.doing if doing is None else doing
        return self.keep(replace(self.record, status=status or self.record.status, doing=doing))

    async def append_build_log(self, build: str, lines: Sequence[str]) -> None:
        if self.broken:
            raise Unavailable("The API does not answer.")
        self.log += lines

    async def close_build(
        self, build: str, status: BuildStatus, *, error: str = "", artifact: Any = None
    ) -> Build:
        if self.broken:
            raise Unavailable("The API does not answer.")
        assert self.record is not None
        return self.keep(replace(self.record, status=status, error=error, artifact=artifact, doing=""))


class Nowhere:
    def step(self, text: str) -> None:
        """Not looked at."""

    line = warn = step


async def use(builds: Any, work: Callable[[BuildRecord], Awaitable[object]]) -> None:
    async with build_record(builds, FOO, commit="c", reason="push of c to main", out=Nowhere()) as record:
        await work(record)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0)


async def test_log_is_complete_when_the_record_is_closed() -> None:
    builds = Builds()

    async def work(record: BuildRecord) -> None:
        async def build() -> Artifact:
            record.step("Title")
            record.line("\x1b[1mdetail")
            record.warn("careful")
            return slug()

        assert await record.run(build) == slug()

    await use(builds, work)

    assert builds.log == ["-----> Title", "       detail", " !     careful"]
    assert builds.record is not None
    assert (builds.record.status, builds.record.artifact) == (BuildStatus.SUCCEEDED, slug())


@pytest.mark.parametrize(
    ("error", "status", "reason"),
    [
        (BuildFailed("pip failed."), BuildStatus.FAILED, "pip failed."),
        (BuilderUnavailable("No space."), BuildStatus.FAILED, "No space."),
        (BuildCanceled("carl cancelled the build."), BuildStatus.CANCELED, "carl cancelled the build."),
        (ZeroDivisionError(), BuildStatus.FAILED, "An error of the server's own: ZeroDivisionError."),
        (asyncio.CancelledError(), BuildStatus.CANCELED, "The client went away, or the server stopped."),
    ],
)
async def test_every_end_is_written_down(error: BaseException, status: BuildStatus, reason: str) -> None:
    builds = Builds()

    async def build() -> Artifact:
        raise error

    with pytest.raises(type(error)):
        await use(builds, lambda record: record.run(build))

    assert builds.end == (status, reason)


async def test_what_fails_after_the_build_does_not_change_how_it_ended() -> None:
    builds = Builds()

    async def work(record: BuildRecord) -> None:
        await record.run(lambda: asyncio.sleep(0, slug()))
        raise PushRefused("release failed", "It crashed.")

    with pytest.raises(PushRefused):
        await use(builds, work)
    assert builds.end == (BuildStatus.SUCCEEDED, "")


async def test_what_neither_waits_nor_builds_leaves_no_record() -> None:
    builds = Builds()
    await use(builds, lambda record: asyncio.sleep(0))
    assert builds.record is None


async def test_waiting_shows_as_a_queued_build_that_runs_when_its_turn_has_come() -> None:
    builds, line = Builds(), Line()

    async def work(record: BuildRecord) -> None:
        with line.join("mine") as turn:
            await record.wait(turn, lambda: "Waiting for another")
            await record.run(lambda: asyncio.sleep(0, slug()))

    with line.join("another"):
        waiting = asyncio.create_task(use(builds, work))
        await until(lambda: bool(builds.seen))
    await waiting

    assert builds.seen == [("queued", "Waiting for another"), ("running", ""), ("succeeded", "")]


async def test_queued_build_that_is_not_needed_any_more_says_so() -> None:
    builds, line = Builds(), Line()

    async def work(record: BuildRecord) -> None:
        with line.join("mine") as turn:
            await record.wait(turn, lambda: "Waiting for another")

    with line.join("another"):
        waiting = asyncio.create_task(use(builds, work))
        await until(lambda: bool(builds.seen))
    await waiting

    assert builds.end == (BuildStatus.CANCELED, "There was nothing to build any more.")


async def test_controller_that_does_not_answer_does_not_fail_the_build() -> None:
    builds = Builds()
    builds.broken = True

    async def work(record: BuildRecord) -> None:
        record.line("detail")
        await record.run(lambda: asyncio.sleep(0, slug()))

    await use(builds, work)


async def hang(ended: list[bool]) -> Artifact:
    try:
        await asyncio.Event().wait()
    finally:
        ended.append(True)
    raise AssertionError


async def test_request_to_cancel_ends_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gitreceive.record.WATCH_INTERVAL", 0)
    builds = Builds()
    ended: list[bool] = []
    push = asyncio.create_task(use(builds, lambda record: record.run(lambda: hang(ended))))
    await until(lambda: builds.record is not None)
    assert builds.record
    builds.record = replace(builds.record, cancel_requested_by="carl")

    with pytest.raises(BuildCanceled, match="carl cancelled"):
        await push
    assert ended == [True]


async def test_request_to_cancel_ends_the_waiting_and_frees_the_place(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("gitreceive.record.WATCH_INTERVAL", 0)
    builds, line = Builds(), Line()

    async def work(record: BuildRecord) -> None:
        with line.join("mine") as turn:
            await record.wait(turn, lambda: "Waiting for another")

    with line.join("another"):
        push = asyncio.create_task(use(builds, work))
        await until(lambda: builds.record is not None)
        assert builds.record
        builds.record = replace(builds.record, cancel_requested_by="carl")
        with pytest.raises(BuildCanceled, match="carl cancelled"):
            await push
        assert len(line._turns) == 1


async def test_build_that_was_ended_by_the_server_ends_the_work_with_its_reason(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("gitreceive.record.WATCH_INTERVAL", 0)
    builds = Builds()
    ended: list[bool] = []
    push = asyncio.create_task(use(builds, lambda record: record.run(lambda: hang(ended))))
    await until(lambda: builds.record is not None)
    assert builds.record
    builds.record = replace(builds.record, status=BuildStatus.ABANDONED, error="nothing was heard of it")

    with pytest.raises(BuildCanceled, match="was ended: nothing was heard of it"):
        await push
    assert ended == [True]


async def test_the_last_step_is_the_phase_that_the_record_tells(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gitreceive.record.WATCH_INTERVAL", 0)
    builds = Builds()

    async def work(record: BuildRecord) -> None:
        async def build() -> Artifact:
            record.step("Python app detected")
            await until(lambda: ("running", "Python app detected") in builds.seen)
            return slug()

        await record.run(build)

    await use(builds, work)
    assert builds.seen == [("running", ""), ("running", "Python app detected"), ("succeeded", "")]
