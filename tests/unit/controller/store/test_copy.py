"""Copying one store into another."""

import pytest

from controller.state import State, put
from controller.store.base import StoreUnavailable, StoreUnusable, Write
from controller.store.copy import UNFINISHED_KEY, CopyRefused, copy_store
from controller.store.memory import MemoryStore
from controller.types import Deployment


async def filled(count=1000, **more):
    store = MemoryStore()
    for number in range(count):
        await store.put(f"k/{number:04}", {"number": number, "text": "é" * (number % 50)})
    for key, value in more.items():
        await store.put(key, value)
    return store


async def content(store):
    return {entry.key: entry.value for entry in (await store.list(""))[0]}


def quiet(done, total):
    """Nobody looks."""


async def test_copy_is_equal_and_told_in_steps():
    source, target, told = await filled(), MemoryStore(), []
    copied = await copy_store(source, target, progress=lambda done, total: told.append((done, total)))
    assert await content(target) == await content(source)
    assert (copied.entries, copied.removed) == (1000, 0)
    assert told == sorted(told)
    assert told[-1] == (1000, 1000)
    assert len(told) >= 10


async def test_large_values_go_in_transactions_that_every_store_takes():
    source, target = await filled(3, **{f"big{n}": "x" * 400_000 for n in range(5)}), MemoryStore()
    sizes, original = [], target.commit

    async def commit(writes):
        sizes.append(sum(len(str(write.value)) for write in writes))
        return await original(writes)

    target.commit = commit
    await copy_store(source, target, progress=quiet)
    assert await content(target) == await content(source)
    assert max(sizes) < 1_000_000


async def test_target_with_content_is_refused_unless_forced_and_then_replaced():
    source, target = await filled(10), await filled(0, other=1, **{"k/0003": "theirs"})
    before = await target.list("")
    with pytest.raises(CopyRefused, match=r"holds 2 entries already\. --force"):
        await copy_store(source, target, progress=quiet)
    assert await target.list("") == before
    copied = await copy_store(source, target, force=True, progress=quiet)
    assert await content(target) == await content(source)
    assert copied.removed == 1


async def test_empty_source_is_refused_and_the_target_left_alone():
    target = await filled(3)
    with pytest.raises(CopyRefused, match="nothing to copy"):
        await copy_store(MemoryStore(), target, force=True, progress=quiet)
    assert len(await content(target)) == 3


async def test_copy_that_was_broken_off_is_marked_never_served_and_can_be_repeated():
    source, target = await filled(500), MemoryStore()
    original = target.commit

    async def commit(writes):
        if len(await content(target)) > 250:
            raise StoreUnavailable("gone")
        return await original(writes)

    target.commit = commit
    with pytest.raises(StoreUnavailable):
        await copy_store(source, target, progress=quiet)
    target.commit = original
    with pytest.raises(StoreUnusable, match="broken off"):
        await State.open(target)
    with pytest.raises(CopyRefused, match="itself a copy that was broken off"):
        await copy_store(target, MemoryStore(), progress=quiet)
    with pytest.raises(CopyRefused, match="left by a copy that was broken off"):
        await copy_store(source, target, progress=quiet)
    await copy_store(source, target, force=True, progress=quiet)
    assert await content(target) == await content(source)


@pytest.mark.parametrize("change", [Write("k/0001", "new"), Write("k/0001", None), Write("new", 1)])
async def test_source_that_changes_meanwhile_is_noticed(change):
    source, target = await filled(200), MemoryStore()
    original = target.commit

    async def commit(writes):
        await source.commit([change])
        return await original(writes)

    target.commit = commit
    with pytest.raises(CopyRefused, match="changed while it was copied"):
        await copy_store(source, target, progress=quiet)
    assert UNFINISHED_KEY in await content(target)


async def test_target_that_others_write_to_is_noticed():
    source, target = await filled(200), MemoryStore()
    original = target.commit

    async def commit(writes):
        revision = await original(writes)
        await target.put("k/0001", "theirs")
        return revision

    target.commit = commit
    with pytest.raises(CopyRefused, match=r"not equal to the source at 1 keys, 'k/0001'"):
        await copy_store(source, target, progress=quiet)


async def test_state_goes_on_from_a_copy():
    source, target = MemoryStore(), MemoryStore()
    state = await State.open(source)
    await state.commit(put(Deployment(name="one")))
    await state.close()
    await copy_store(source, target, progress=quiet)
    moved = await State.open(target)
    await moved.commit(put(Deployment(name="two")))
    assert [each.name for each in moved.deployments()] == ["one", "two"]
    await moved.close()
