import asyncio

from gitreceive.places import Places


async def test_one_user_leaves_places_to_others() -> None:
    places, said = Places(3, 2), list[str]()
    async with places.take("ann", said.append), places.take("ann", said.append):
        third = asyncio.create_task(places.take("ann", said.append).__aenter__())
        await asyncio.sleep(0)
        async with places.take("bob", said.append):
            assert not third.done()
            waiting = asyncio.create_task(places.take("eve", said.append).__aenter__())
            await asyncio.sleep(0)
            assert not waiting.done()
        await waiting
        assert not third.done()
        third.cancel()
    assert said == [
        "ann has 2 of them under way, which is as many as one user may",
        "the server is busy with as many as it takes",
    ]
