import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from builder.base import BuildFailed
from controller.errors import Unavailable
from controller.names import Address
from controller.types import Build, BuildStatus
from gitreceive.record import BuildCanceled, BuildRecord, build_record

FOO = Address("foo")


class Builds:
    """The controller's client, as far as a record needs it."""

    def __init__(self) -> None:
        self.record = Build(id="b1", deployment="foo", service="app", status=BuildStatus.RUNNING)
        self.log: list[str] = []
        self.broken = False

    async def open_build(self, address: Address, *, commit: str | None) -> Build:
        return self.record

    async def append_build_log(self, build: str, lines: Sequence[str]) -> None:
        if self.broken:
            raise Unavailable("The API does not answer.")
        self.log += lines

    async def close_build(
        self, build: str, status: BuildStatus, *, error: str = "", artifact: Any = None
    ) -> Build:
        if self.broken:
            raise Unavailable("The API does not answer.")
        self.record = replace(self.record, status=status, error=error)
        return self.record

    async def build(self, build: str) -> Build:
        return self.record


class Nowhere:
    def step(self, text: str) -> None:
        """Not looked at."""

    line = warn = step


async def use(builds: Any, work: Any) -> None:
    async with build_record(builds, FOO, commit="c", out=Nowhere()) as record:
        await work(record)


async def test_log_is_complete_when_the_record_is_closed() -> None:
    builds = Builds()

    async def work(record: BuildRecord) -> None:
        record.step("Title")
        record.line("\x1b[1mdetail")
        record.warn("careful")

    await use(builds, work)

    assert builds.log == ["-----> Title", "       detail", " !     careful"]
    assert builds.record.status is BuildStatus.SUCCEEDED


@pytest.mark.parametrize(
    ("error", "status", "reason"),
    [
        (BuildFailed("pip failed."), BuildStatus.FAILED, "pip failed."),
        (BuildCanceled("carl cancelled the build."), BuildStatus.CANCELED, "carl cancelled the build."),
        (ZeroDivisionError(), BuildStatus.FAILED, "An error of the server's own: ZeroDivisionError."),
        (asyncio.CancelledError(), BuildStatus.CANCELED, "The client went away, or the server stopped."),
    ],
)
async def test_every_end_is_written_down(error: BaseException, status: BuildStatus, reason: str) -> None:
    builds = Builds()

    async def work(record: BuildRecord) -> None:
        raise error

    with pytest.raises(type(error)):
        await use(builds, work)

    assert (builds.record.status, builds.record.error) == (status, reason)


async def test_controller_that_does_not_answer_does_not_fail_the_build() -> None:
    builds = Builds()
    builds.broken = True

    async def work(record: BuildRecord) -> None:
        record.line("detail")

    await use(builds, work)


async def test_request_to_cancel_ends_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gitreceive.record.WATCH_INTERVAL", 0)
    builds, ended = Builds(), []
    builds.record = replace(builds.record, cancel_requested_by="carl")

    async def build() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(True)

    async def work(record: BuildRecord) -> None:
        await record.unless_canceled(build())

    with pytest.raises(BuildCanceled, match="carl cancelled"):
        await use(builds, work)
    assert ended == [True]
