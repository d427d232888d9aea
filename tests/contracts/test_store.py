"""The contract of `controller.store.base.Store`, held by every driver."""

import asyncio
import json
import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from controller.store.base import (
    Change,
    Compacted,
    Lease,
    Store,
    StoreConflict,
    StoreUnavailable,
    StoreUnusable,
    Write,
)
from controller.store.memory import MemoryStore
from controller.store.sqlite import SqliteStore
from tests.servers.etcd import running_etcd

DRIVERS = [pytest.param("etcd", marks=pytest.mark.real), "memory", "sqlite"]


@asynccontextmanager
async def opened(driver: str, folder: Path, **options: int) -> AsyncIterator[Store]:
    """A new store of that driver; etcd's with a server of its own."""
    with ExitStack() as stack:
        made: Store
        match driver:
            case "etcd":
                from controller.store.etcd import EtcdStore

                made = EtcdStore(stack.enter_context(running_etcd()).address, **options)
            case "memory":
                made = MemoryStore(**options)
            case _:
                made = SqliteStore(folder / "state.sqlite", **options)
        yield made
        await made.close()


@pytest.fixture(params=DRIVERS)
async def store(request, tmp_path) -> AsyncIterator[Store]:
    async with opened(request.param, tmp_path) as made:
        yield made


@pytest.fixture(params=DRIVERS)
async def short(request, tmp_path) -> AsyncIterator[Store]:
    """With a history of about ten transactions."""
    async with opened(request.param, tmp_path, keep=10) as made:
        yield made


async def first(changes: AsyncIterator[Change], count: int) -> list[Change]:
    async with asyncio.timeout(10):
        return [await anext(changes) for _ in range(count)]


# Reading and writing


async def test_missing_key_reads_as_none(store):
    assert await store.get("a/b") is None
    assert (await store.list(""))[0] == []


async def test_put_is_read_back_with_its_revision(store):
    revision = await store.put("a", {"x": [1, 2.5, None, True, "é"]})
    entry = await store.get("a")
    assert (entry.key, entry.value, entry.revision) == ("a", {"x": [1, 2.5, None, True, "é"]}, revision)


async def test_every_commit_raises_the_revision_and_other_keys_keep_theirs(store):
    one = await store.put("a", 1)
    two = await store.put("b", 1)
    three = await store.put("b", 2)
    assert one < two < three
    assert (await store.get("a")).revision == one
    assert (await store.get("b")).revision == three
    assert (await store.list(""))[1] == three


async def test_what_was_read_or_written_is_a_copy(store):
    value = {"list": [1]}
    await store.put("a", value)
    value["list"].append(2)
    (await store.get("a")).value["list"].append(3)
    assert (await store.get("a")).value == {"list": [1]}


async def test_delete_says_whether_there_was_something(store):
    await store.put("a", 1)
    assert await store.delete("a") is True
    assert await store.delete("a") is False
    assert await store.get("a") is None


async def test_list_is_sorted_and_takes_the_prefix_literally(store):
    keys = ["a", "a/b", "a/b/c", "a-b", "a%", "a_", "ab", "b", "A", "a/*", "a/é", "a/\U0001f600"]
    for key in keys:
        await store.put(key, key)
    for prefix in ["", "a", "a/", "a%", "a_", "a/*", "a/b", "a/é", "nothing"]:
        entries, _ = await store.list(prefix)
        assert [entry.key for entry in entries] == sorted(key for key in keys if key.startswith(prefix))
        assert all(entry.value == entry.key for entry in entries)


@pytest.mark.parametrize("key", ["", "/a", "a/", "a//b", "\ud800"])
async def test_keys_without_form_are_refused(store, key):
    with pytest.raises(ValueError):
        await store.put(key, 1)
    assert (await store.list(""))[0] == []


@pytest.mark.parametrize("value", [{"x": object()}, "\ud800"])
async def test_what_is_no_json_is_refused_and_nothing_written(store, value):
    with pytest.raises((TypeError, ValueError)):
        await store.commit([Write("a", 1), Write("b", value)])
    assert (await store.list(""))[0] == []


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner, max_size=3)
    ),
    max_leaves=8,
)
PART = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="/"), min_size=1, max_size=8)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.dictionaries(st.lists(PART, min_size=1, max_size=3).map("/".join), JSON, max_size=6))
async def test_any_key_and_any_json_come_back_as_they_were(store, content):
    for entry in (await store.list(""))[0]:
        await store.delete(entry.key)
    await store.commit([Write(key, [value]) for key, value in content.items()])
    entries, _ = await store.list("")
    assert {entry.key: entry.value for entry in entries} == {key: [value] for key, value in content.items()}
    assert [entry.key for entry in entries] == sorted(content)


# Compare and set


async def test_expect_zero_creates_once(store):
    await store.put("a", 1, expect=0)
    with pytest.raises(StoreConflict) as caught:
        await store.put("a", 2, expect=0)
    assert (caught.value.key, caught.value.expected) == ("a", 0)
    assert caught.value.found == (await store.get("a")).revision
    assert (await store.get("a")).value == 1


async def test_expect_a_revision_writes_only_over_that_one(store):
    old = await store.put("a", 1)
    new = await store.put("a", 2, expect=old)
    with pytest.raises(StoreConflict):
        await store.put("a", 3, expect=old)
    with pytest.raises(StoreConflict):
        await store.delete("a", expect=old)
    assert await store.delete("a", expect=new) is True
    with pytest.raises(StoreConflict) as caught:
        await store.put("a", 4, expect=new)
    assert caught.value.found == 0


async def test_of_many_that_race_for_one_revision_exactly_one_wins(store):
    revision = await store.put("counter", 0)
    results = await asyncio.gather(
        *(store.put("counter", number, expect=revision) for number in range(20)), return_exceptions=True
    )
    assert sum(isinstance(result, int) for result in results) == 1
    assert sum(isinstance(result, StoreConflict) for result in results) == 19


async def test_counting_by_compare_and_set_loses_nothing(store):
    await store.put("counter", 0)

    async def count() -> None:
        for _ in range(5):
            while True:
                entry = await store.get("counter")
                try:
                    await store.put("counter", entry.value + 1, expect=entry.revision)
                    break
                except StoreConflict:
                    continue

    await asyncio.gather(*(count() for _ in range(5)))
    assert (await store.get("counter")).value == 25


# Transactions


async def test_transaction_is_written_with_one_revision(store):
    await store.put("c", 1)
    revision = await store.commit([Write("a", 1), Write("b", 2, expect=0), Write("c", None)])
    entries, at = await store.list("")
    assert [(entry.key, entry.revision) for entry in entries] == [("a", revision), ("b", revision)]
    assert at == revision


async def test_transaction_with_one_failed_expectation_writes_nothing(store):
    await store.put("b", 1)
    before = await store.list("")
    with pytest.raises(StoreConflict):
        await store.commit([Write("a", 1), Write("b", 2, expect=0), Write("c", 3)])
    assert await store.list("") == before
    watch = store.watch("", after=before[1])
    await store.put("d", 1)
    assert [change.key for change in await first(watch, 1)] == ["d"]


async def test_writing_one_key_twice_in_a_transaction_is_refused(store):
    with pytest.raises(ValueError):
        await store.commit([Write("a", 1), Write("a", 2)])


async def test_list_shows_transactions_whole_while_others_write(store):
    done = False

    async def write() -> None:
        nonlocal done
        for number in range(50):
            await store.commit([Write(f"pair/{side}", number) for side in "ab"])
        done = True

    async def read() -> None:
        while not done:
            entries, _ = await store.list("pair/")
            assert len({(entry.value, entry.revision) for entry in entries}) <= 1
            await asyncio.sleep(0)

    async with asyncio.timeout(30):
        await asyncio.gather(write(), read(), read())


# Watching


async def test_watch_tells_the_past_then_the_present_in_order(store):
    start = await store.put("a", 1)
    await store.put("a", 2)
    await store.delete("a")
    watch = store.watch("", after=start)
    assert [(each.key, each.value) for each in await first(watch, 2)] == [("a", 2), ("a", None)]
    waiting = asyncio.create_task(first(watch, 2))
    await asyncio.sleep(0)
    revision = await store.commit([Write("b", {"x": 1}), Write("a", 3)])
    assert await waiting == [Change("b", {"x": 1}, revision), Change("a", 3, revision)]


async def test_watch_tells_only_its_prefix(store):
    watch = store.watch("b/", after=0)
    await store.commit([Write("a/1", 1), Write("b/1", 1), Write("b", 1)])
    await store.put("a/2", 1)
    await store.put("b/2", 1)
    assert [change.key for change in await first(watch, 2)] == ["b/1", "b/2"]


async def test_a_view_and_a_watch_from_its_revision_miss_nothing(store):
    async def write() -> None:
        for number in range(60):
            await store.put(f"key/{number % 7}", number)

    writing = asyncio.create_task(write())
    await asyncio.sleep(0)
    entries, revision = await store.list("key/")
    seen = {entry.key: entry.value for entry in entries}
    watch = store.watch("key/", after=revision)
    await writing
    wanted = {entry.key: entry.value for entry in (await store.list("key/"))[0]}
    last = 0
    async with asyncio.timeout(10):
        while seen != wanted:
            change = await anext(watch)
            assert change.revision > max(last, revision)
            last = change.revision
            seen[change.key] = change.value


async def test_many_watchers_all_see_all(store):
    watches = [store.watch("", after=0) for _ in range(50)]
    waiting = [asyncio.create_task(first(watch, 10)) for watch in watches]
    for number in range(10):
        await store.put(f"k{number}", number)
    for seen in await asyncio.gather(*waiting):
        assert [change.value for change in seen] == list(range(10))


async def test_cancelled_watcher_leaves_the_others_alone(store):
    kept, dropped = (asyncio.create_task(first(store.watch("", after=0), 1)) for _ in range(2))
    await store.get("a")
    dropped.cancel()
    await asyncio.gather(dropped, return_exceptions=True)
    await store.put("a", 1)
    assert [change.key for change in await kept] == ["a"]


async def test_close_ends_watches_and_refuses_what_comes_later(store):
    async def drain() -> list[Change]:
        return [change async for change in store.watch("", after=0)]

    waiting = asyncio.create_task(drain())
    await store.put("a", 1)
    await store.close()
    async with asyncio.timeout(10):
        await waiting
    with pytest.raises(StoreUnavailable, match="closed"):
        await store.put("a", 2)
    await store.close()


async def test_compacted_history_is_refused_and_later_history_told(store):
    revisions = [await store.put("a", number) for number in range(5)]
    await store.compact(revisions[3])
    with pytest.raises(Compacted):
        await anext(store.watch("", after=revisions[1]))
    assert [change.value for change in await first(store.watch("", after=revisions[2]), 2)] == [3, 4]
    assert (await store.get("a")).value == 4


async def test_compacting_before_the_beginning_forgets_nothing(store):
    for before in (-1, 0, 1):
        await store.compact(before)
    await store.put("a", 1)
    await store.delete("a")
    assert [change.value for change in await first(store.watch("", after=0), 2)] == [1, None]


async def test_deletion_at_the_revision_compacted_to_is_still_told(store):
    revision = await store.put("a", 1)
    await store.delete("a")
    await store.compact(revision + 1)
    assert [change.value for change in await first(store.watch("", after=revision), 1)] == [None]
    await store.put("b", 1)
    await store.compact(revision + 2)
    with pytest.raises(Compacted):
        await anext(store.watch("", after=revision))


async def test_compacting_past_the_end_keeps_values_and_what_comes(store):
    revision = await store.put("a", 1)
    await store.compact(revision + 100)
    watch = store.watch("", after=revision)
    await store.put("b", 2)
    assert [change.key for change in await first(watch, 1)] == ["b"]
    assert (await store.get("a")).value == 1


async def test_history_is_bounded_by_itself(short):
    revisions = [await short.put(f"k{number}", number) for number in range(40)]
    with pytest.raises(Compacted):
        await anext(short.watch("", after=0))
    recent = await first(short.watch("", after=revisions[34]), 5)
    assert [change.value for change in recent] == [35, 36, 37, 38, 39]
    assert len((await short.list(""))[0]) == 40


async def test_watcher_that_sleeps_through_the_history_is_told_so_or_misses_nothing(short):
    watch = short.watch("", after=0)
    await short.put("a", 0)
    await first(watch, 1)
    for number in range(40):
        await short.put("a", number)
    try:
        seen = await first(watch, 40)
    except Compacted:
        return
    assert [change.value for change in seen] == list(range(40))


# Leases


async def test_lease_is_held_by_one_until_released(store):
    lease = await store.acquire("leader", owner="one", ttl=60)
    assert (lease.name, lease.owner) == ("leader", "one")
    assert await store.acquire("leader", owner="two", ttl=60) is None
    assert await store.acquire("other", owner="two", ttl=60) is not None
    assert await lease.renew() is True
    await lease.release()
    assert await lease.renew() is False
    assert await store.acquire("leader", owner="two", ttl=60) is not None


async def test_holder_that_asks_many_times_at_once_has_it_each_time(store):
    asked = [store.acquire("leader", owner="one", ttl=60) for _ in range(4)]
    assert all(lease is not None for lease in await asyncio.gather(*asked))


async def test_holder_takes_its_own_lease_anew(store):
    assert await store.acquire("leader", owner="one", ttl=60)
    assert await store.acquire("leader", owner="one", ttl=60)


async def acquired(store: Store, owner: str) -> Lease:
    """The lease, as soon as it has expired; etcd's last a second at least."""
    async with asyncio.timeout(10):
        while (lease := await store.acquire("leader", owner=owner, ttl=60)) is None:
            await asyncio.sleep(0.02)
    return lease


async def test_expired_lease_is_taken_over_and_lost_to_its_holder(store):
    lost = await store.acquire("leader", owner="one", ttl=0)
    taken = await acquired(store, "two")
    assert await lost.renew() is False
    await lost.release()
    assert await taken.renew() is True


async def test_expired_lease_can_not_be_renewed_even_when_nobody_has_it(store):
    lease = await store.acquire("leader", owner="one", ttl=0)
    await (await acquired(store, "two")).release()
    assert await lease.renew() is False


@pytest.mark.parametrize("driver", ["memory", "sqlite"])
async def test_lease_ends_when_its_time_is_over_and_not_before(driver, tmp_path, monkeypatch):
    now = 1000.0
    monkeypatch.setattr("controller.store.database._uptime", lambda: now)
    store = MemoryStore(clock=lambda: now) if driver == "memory" else SqliteStore(tmp_path / "state.sqlite")
    lease = await store.acquire("leader", owner="one", ttl=10)
    assert lease is not None
    now += 9
    assert await lease.renew() is True
    now += 9
    assert await store.acquire("leader", owner="two", ttl=10) is None
    now += 2
    assert await lease.renew() is False
    assert await store.acquire("leader", owner="two", ttl=10) is not None
    await store.close()


async def test_of_many_that_want_a_lease_one_gets_it(store):
    got = await asyncio.gather(*(store.acquire("leader", owner=f"o{n}", ttl=60) for n in range(20)))
    assert sum(lease is not None for lease in got) == 1


# What only a file can show: durability, damage, a full disk


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "state.sqlite"


async def test_content_revisions_and_history_survive_a_restart(path):
    before = SqliteStore(path)
    await before.put("a", 1)
    revision = await before.commit([Write("a", 2), Write("b", "é")])
    entries = await before.list("")
    await before.close()
    after = SqliteStore(path)
    assert await after.list("") == entries
    assert [change.value for change in await first(after.watch("", after=1), 2)] == [2, "é"]
    assert await after.put("c", 1) == revision + 1
    await after.close()


async def test_lease_outlives_the_process_that_took_it(path):
    before = SqliteStore(path)
    assert await before.acquire("leader", owner="one", ttl=60)
    await before.close()
    after = SqliteStore(path)
    assert await after.acquire("leader", owner="two", ttl=60) is None
    await after.close()
    with sqlite3.connect(path) as raw:
        raw.execute("UPDATE lease SET boot = 'an earlier one'")
    raw.close()
    rebooted = SqliteStore(path)
    assert await rebooted.acquire("leader", owner="two", ttl=60) is not None
    await rebooted.close()


async def test_file_is_for_its_owner_only(path):
    store = SqliteStore(path)
    await store.put("a", "secret")
    assert {each.stat().st_mode & 0o777 for each in path.parent.glob("state.sqlite*")} == {0o600}
    await store.close()


async def test_slow_watcher_reads_the_log_and_misses_nothing(path, monkeypatch):
    monkeypatch.setattr("controller.store.sqlite.RECENT", 5)
    monkeypatch.setattr("controller.store.database.LOG_STEP", 7)
    store = SqliteStore(path)
    watch = store.watch("", after=0)
    for number in range(30):
        await store.commit([Write("a", number), Write("b", number)])
        await store.delete("nothing")
    seen = await first(watch, 60)
    assert [(each.key, each.value) for each in seen] == [(key, n) for n in range(30) for key in "ab"]
    await store.close()


async def test_commits_of_another_process_are_told_with_our_next_one(path):
    ours, theirs = SqliteStore(path), SqliteStore(path)
    watch = ours.watch("", after=0)
    await ours.put("a", 1)
    await theirs.put("b", 1)
    await ours.put("c", 1)
    assert [change.key for change in await first(watch, 3)] == ["a", "b", "c"]
    await ours.close()
    await theirs.close()


async def test_cancelled_commit_is_still_told_to_watchers(path):
    store = SqliteStore(path)
    watch = store.watch("", after=0)
    await store.put("a", 1)
    running = asyncio.Event()
    loop = asyncio.get_running_loop()
    original = store._perform

    def perform(*arguments):
        loop.call_soon_threadsafe(running.set)
        return original(*arguments)

    store._perform = perform
    writing = asyncio.create_task(store.put("b", 1))
    await running.wait()
    writing.cancel()
    assert [change.key for change in await first(watch, 2)] == ["a", "b"]
    await store.close()


async def test_newer_schema_is_refused_with_the_way_out(path):
    store = SqliteStore(path)
    await store.put("a", 1)
    await store.close()
    with sqlite3.connect(path) as raw:
        raw.execute("INSERT INTO schema VALUES (99, datetime())")
    raw.close()
    newer = SqliteStore(path)
    with pytest.raises(StoreUnusable, match=r"newer release of Mooring \(schema 99"):
        await newer.get("a")
    await newer.close()


async def test_what_is_no_longer_kept_is_not_left_in_the_file(path):
    store = SqliteStore(path)
    for number in range(50):
        await store.put(f"old/{number}", f"in the clear {number} " + "x" * 3000)
    for number in range(50):
        await store.put(f"old/{number}", "sealed")
    (_, revision) = await store.list("")
    await store.compact(revision)
    await store.close()
    assert b"sealed" in path.read_bytes()
    assert b"in the clear" not in path.read_bytes()


async def test_damaged_file_is_named_as_such(path):
    path.write_bytes(b"this is no database, but long enough to look at" * 100)
    store = SqliteStore(path)
    with pytest.raises(StoreUnusable, match="damaged or no database"):
        await store.get("a")
    await store.close()


async def test_missing_folder_is_named_as_such(tmp_path):
    store = SqliteStore(tmp_path / "no" / "state.sqlite")
    with pytest.raises(StoreUnusable, match=r"no/state.sqlite can't be opened: No such file"):
        await store.get("a")
    await store.close()


async def test_locked_file_is_unavailable_and_comes_back(path, monkeypatch):
    monkeypatch.setattr("controller.store.database.BUSY_TIMEOUT", 0.05)
    store = SqliteStore(path)
    await store.put("a", 1)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreUnavailable, match="locked") as caught:
        await store.put("a", 2)
    assert caught.value.retryable
    assert isinstance(caught.value.__cause__, sqlite3.Error)
    assert (await store.get("a")).value == 1
    other.execute("ROLLBACK")
    other.close()
    await store.put("a", 2)
    assert (await store.get("a")).value == 2
    await store.close()


async def test_disk_that_hangs_is_given_up_in_time(path):
    store = SqliteStore(path, timeout=0.05)
    release = asyncio.Event()
    loop = asyncio.get_running_loop()
    blocked = loop.run_in_executor(
        store._thread, lambda: asyncio.run_coroutine_threadsafe(release.wait(), loop).result()
    )
    with pytest.raises(StoreUnavailable, match=r"did not answer within 0\.05 seconds"):
        await store.put("a", 1)
    release.set()
    await blocked
    assert await store.get("a") is None
    await store.close()


FULL_DISK = """
    import asyncio, json, resource, sys
    from pathlib import Path
    from controller.store.base import StoreUnavailable
    from controller.store.sqlite import SqliteStore

    async def main():
        store = SqliteStore(Path(sys.argv[1]))
        watch = store.watch("", after=0)
        written, failed = 0, ""
        await store.put("small", 0)
        resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, resource.RLIM_INFINITY))
        try:
            while written < 1000:
                await store.put(f"big/{written}", "x" * 10_000)
                written += 1
        except StoreUnavailable as error:
            failed = str(error)
        readable = len((await store.list("big/"))[0])
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        await store.put("after", 1)
        told = []
        async for change in watch:
            told.append(change.key)
            if change.key == "after":
                break
        await store.close()
        print(json.dumps([written, failed, readable, told]))

    asyncio.run(main())
"""


def child(script: str, *arguments: str, **options) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script), *arguments],
        stdout=subprocess.PIPE,
        text=True,
        env={"PATH": os.defpath, "PYTHONSAFEPATH": "1"},
        **options,
    )


def test_full_disk_is_unavailable_and_recovers(path):
    process = child(FULL_DISK, str(path))
    output, _ = process.communicate(timeout=60)
    written, failed, readable, told = json.loads(output)
    assert 0 < written < 1000
    assert "full" in failed
    assert readable == written
    assert told == ["small", *(f"big/{number}" for number in range(written)), "after"]


COMMITTER = """
    import asyncio, sys
    from pathlib import Path
    from controller.store.base import Write
    from controller.store.sqlite import SqliteStore

    async def main():
        store = SqliteStore(Path(sys.argv[1]))
        start = (await store.list(""))[1]
        for number in range(1_000_000):
            revision = await store.commit([Write(f"{side}/{number % 10}", start + number) for side in "ab"])
            print(revision, number % 10, start + number, flush=True)

    asyncio.run(main())
"""


async def test_kill_in_the_middle_of_commits_loses_none_that_was_acknowledged(path):
    last = 0
    for lines in (1, 40, 150):
        process = child(COMMITTER, str(path))
        assert process.stdout is not None
        for _ in range(lines):
            process.stdout.readline()
        process.send_signal(signal.SIGKILL)
        acknowledged = process.stdout.read().splitlines()
        process.wait()
        store = SqliteStore(path)
        entries, revision = await store.list("")
        sides = {
            side: {e.key[2:]: (e.value, e.revision) for e in entries if e.key[0] == side} for side in "ab"
        }
        assert sides["a"] == sides["b"]
        whole = [line for line in acknowledged if line.count(" ") == 2]
        if whole:
            told, key, value = map(int, whole[-1].split())
            assert revision >= told
            assert sides["a"][str(key)][0] >= value
        assert revision >= last + lines
        last = revision
        history = await first(store.watch("", after=0), 2 * revision)
        assert [change.revision for change in history[::2]] == list(range(1, revision + 1))
        await store.close()
