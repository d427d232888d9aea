import asyncio
from contextlib import AsyncExitStack

from gitreceive.places import Places


async def take(places: Places, user: str, stack: AsyncExitStack) -> bool:
    """Whether there was a place at once; whoever waits goes away again."""
    task = asyncio.create_task(stack.enter_async_context(places.take(user, lambda _: None)))
    await asyncio.sleep(0)
    if task.done():
        return True
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    return False


async def count(places: Places, user: str, stack: AsyncExitStack) -> int:
    taken = 0
    while await take(places, user, stack):
        taken += 1
    return taken


async def test_two_greedy_users_leave_places_to_others() -> None:
    places = Places(24, 16)
    async with AsyncExitStack() as stack:
        assert [await count(places, user, stack) for user in ("ann", "bob", "eve", "dan")] == [12, 6, 3, 2]
        assert await take(places, "newcomer", stack)
        assert not await take(places, "one more", stack)
    async with AsyncExitStack() as stack:
        assert await count(places, "ann", stack) == 12


async def test_one_user_has_a_bound_of_their_own() -> None:
    places, said = Places(24, 2), list[str]()
    async with AsyncExitStack() as stack:
        assert await count(places, "ann", stack) == 2
        waiting = asyncio.create_task(places.take("ann", said.append).__aenter__())
        await asyncio.sleep(0)
        assert said == ["ann has 2 of them under way, which is as many as one user may now"]
        waiting.cancel()


async def test_a_place_that_comes_free_goes_to_whoever_has_the_fewest() -> None:
    places, said, order = Places(2, 2), list[str](), list[str]()

    async def work(user: str) -> None:
        async with places.take(user, said.append):
            order.append(user)

    async with AsyncExitStack() as stack:
        await stack.enter_async_context(places.take("ann", said.append))
        second = AsyncExitStack()
        await second.enter_async_context(places.take("bob", said.append))
        tasks = [asyncio.create_task(work(each)) for each in ("ann", "eve", "ann")]
        await asyncio.sleep(0)
        assert said == ["the server is busy with as many as it takes"] * 3
        await second.aclose()
        await asyncio.wait({tasks[1]}, timeout=5)
        assert order == ["eve"]
    async with asyncio.timeout(5):
        await asyncio.gather(*tasks)
    assert order == ["eve", "ann", "ann"]


async def test_who_gives_up_waiting_takes_no_place_away() -> None:
    places = Places(1, 1)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(places.take("ann", lambda _: None))
        waiting = asyncio.create_task(places.take("bob", lambda _: None).__aenter__())
        await asyncio.sleep(0)
        gone = AsyncExitStack()
        await stack.aclose()  # the place is given to who waits, and only then they go
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        assert await take(places, "eve", gone)
        await gone.aclose()
    assert places._free == 1
    assert not places._waiting
