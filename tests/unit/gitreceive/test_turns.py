import asyncio
from collections.abc import Callable

from controller.names import Address
from gitreceive.turns import Line, Turns, behind_others, for_a_place

FOO = Address("foo")


async def take_turns(count: int, join: Callable[[str], object]) -> tuple[list[str], int]:
    """Names in the order in which their turn came, and how many had it at once at most."""
    order: list[str] = []
    inside = most = 0

    async def one(name: str) -> None:
        nonlocal inside, most
        with join(name) as turn:  # type: ignore[attr-defined]
            await turn.wait()
            order.append(name)
            inside += 1
            most = max(most, inside)
            await asyncio.sleep(0)
            inside -= 1

    await asyncio.gather(*(one(str(number)) for number in range(count)))
    return order, most


async def test_pushes_to_one_service_go_in_the_order_they_came() -> None:
    turns = Turns()
    assert await take_turns(4, lambda name: turns.join(FOO, name)) == (["0", "1", "2", "3"], 1)
    assert turns._lines == {}


async def test_a_line_lets_as_many_in_as_it_has_places() -> None:
    assert await take_turns(5, Line(2).join) == (["0", "1", "2", "3", "4"], 2)


async def test_who_waits_is_told_behind_whom() -> None:
    turns = Turns()
    with (
        turns.join(FOO, "ann's push"),
        turns.join(FOO, "bob's push") as second,
        turns.join(FOO, "carl's push") as third,
    ):
        assert not second.has_come
        assert behind_others(second).startswith("Waiting for ann's push, under way since ")
        assert behind_others(third).endswith("UTC, 1 more before you")


async def test_whose_builds_take_the_places_is_not_told() -> None:
    line = Line(2)
    with line.join("foo"), line.join("bar"), line.join("baz"), line.join("mine") as turn:
        text = "Waiting for 2 other builds to end, as many as this server runs at once, 1 more before you"
        assert for_a_place(turn, line.places) == text


async def test_other_services_do_not_wait() -> None:
    turns = Turns()
    with turns.join(FOO, "a") as one, turns.join(Address("foo", "website"), "b") as other:
        assert one.has_come
        assert other.has_come


async def test_turn_of_a_task_that_dies_is_free_again() -> None:
    turns = Turns()

    async def push(hang: bool) -> None:
        with turns.join(FOO, "push") as turn:
            await turn.wait()
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

    assert turns._lines == {}
