import asyncio

from controller.names import Address
from gitreceive.turns import Turns


class Lines:
    def __init__(self) -> None:
        self.lines: list[str] = []

    def step(self, text: str) -> None:
        self.lines.append(text)

    line = warn = step


FOO = Address("foo")


async def test_pushes_to_one_service_go_in_the_order_they_came() -> None:
    turns, out, order, leave = Turns(), Lines(), [], asyncio.Event()

    async def push(name: str) -> None:
        async with turns.take(FOO, name, out):
            order.append(name)
            await leave.wait()

    async with asyncio.TaskGroup() as group:
        for name in "abc":
            group.create_task(push(name))
        await asyncio.sleep(0)
        assert order == ["a"]
        leave.set()

    assert order == ["a", "b", "c"]
    assert out.lines[0].startswith("Waiting for a, under way since ")
    assert out.lines[1].endswith("UTC, 1 more before you")


async def test_other_services_do_not_wait() -> None:
    turns, out = Turns(), Lines()
    async with turns.take(FOO, "a", out), turns.take(Address("foo", "website"), "b", out):
        assert out.lines == []


async def test_turn_of_a_task_that_dies_is_free_again() -> None:
    turns, out = Turns(), Lines()

    async def push(hang: bool) -> None:
        async with turns.take(FOO, "push", out):
            if hang:
                await asyncio.Event().wait()

    first = asyncio.create_task(push(True))
    waiting = asyncio.create_task(push(True))
    last = asyncio.create_task(push(False))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.wait_for(last, 1)

    assert turns._queues == {}
