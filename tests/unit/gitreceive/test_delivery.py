"""How a delivery is told, and when it ends with its reader."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from builder.base import BuilderUnavailable, BuildFailed
from controller.deliveries import DeliveryStep, Mark
from controller.errors import MooringError, NotFound, Refused, Unavailable
from gitreceive import delivery as module
from gitreceive.delivery import Deliveries, Delivery
from gitreceive.push import PushRefused
from gitreceive.quarantine import PackRefused

DONE = DeliveryStep(mark=Mark.DONE, text="", commit="c", deployed=True)


async def test_all_that_was_said_comes_before_the_end() -> None:
    async def work(out: Delivery) -> DeliveryStep:
        out.step("one")
        await asyncio.sleep(0)
        out.line("two\x1b[31m")
        out.warn("three\nfour")
        out.section("five")
        return DONE

    steps = [each async for each in Deliveries().told(work)]
    assert [(each.mark, each.text) for each in steps] == [
        (Mark.STEP, "one"),
        (Mark.LINE, "two"),
        (Mark.WARNING, "three"),
        (Mark.WARNING, "four"),
        (Mark.SECTION, "five"),
        (Mark.DONE, ""),
    ]


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (PushRefused("build failed", "It failed.", log_lines=("log",)), Refused),
        (BuildFailed("It failed."), Refused),
        (PackRefused("It failed."), Refused),
        (BuilderUnavailable("It failed."), Unavailable),
        (NotFound("It failed."), NotFound),
    ],
)
async def test_every_bad_end_is_one_of_ours(error: Exception, kind: type[MooringError]) -> None:
    async def work(out: Delivery) -> DeliveryStep:
        out.step("one")
        raise error

    said = []
    with pytest.raises(kind, match=r"It failed\."):
        async for step in Deliveries().told(work):
            said.append(step.text)
    assert said == ["one", *(["log"] if isinstance(error, PushRefused) else [])]


def lasting(ended: asyncio.Event, *, finish: bool) -> Callable[[Delivery], Any]:
    async def work(out: Delivery) -> DeliveryStep:
        try:
            if finish:
                out.finish()
            out.step("begun")
            await asyncio.sleep(0.05 if finish else 60)
            return DONE
        finally:
            ended.set()

    return work


async def test_a_reader_that_goes_ends_it() -> None:
    ended = asyncio.Event()
    told = Deliveries().told(lasting(ended, finish=False))
    await anext(told)
    await told.aclose()
    assert ended.is_set()


async def test_past_the_point_of_no_return_it_goes_on() -> None:
    ended, deliveries = asyncio.Event(), Deliveries()
    told = deliveries.told(lasting(ended, finish=True))
    await anext(told)
    await told.aclose()
    assert not ended.is_set()
    await asyncio.wait_for(ended.wait(), 5)


async def test_a_server_that_stops_ends_it_in_any_case() -> None:
    ended, deliveries = asyncio.Event(), Deliveries()
    told = deliveries.told(lasting(ended, finish=True))
    await anext(told)
    await deliveries.close()
    assert ended.is_set()
    await told.aclose()


async def test_a_reader_who_takes_nothing_costs_little(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_WAITING", 3)
    out = Delivery()
    for number in range(10):
        out.line(str(number))
    assert [(await out.next()).text for _ in range(3)] == ["0", "1", "2"]
    out.line("last")
    assert (await out.next()).text == "(7 lines were left out here) last"
