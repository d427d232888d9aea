"""What only etcd can show: it goes away and comes back, others write to it, it has limits and doors."""

import asyncio
import ipaddress
import time
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import pytest

from controller.state import State, put
from controller.store.base import (
    Change,
    Compacted,
    StoreConflict,
    StoreUnavailable,
    StoreUnusable,
    TooLarge,
    Write,
)
from controller.types import Deployment
from tests.servers.etcd import running_etcd

pytestmark = pytest.mark.real


@pytest.fixture
def etcd():
    with running_etcd() as server:
        yield server


@asynccontextmanager
async def opened(address, **options):
    from controller.store.etcd import EtcdStore

    store = EtcdStore(address, **options)
    try:
        yield store
    finally:
        await store.close()


@pytest.fixture
async def store(etcd):
    async with opened(etcd.address, timeout=1.0) as made:
        yield made


async def collect(store, seen):
    async for change in store.watch("", after=0):
        seen.append(change)


async def until(condition):
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.01)


# Gone and back


@pytest.mark.parametrize("fault", ["stop", "freeze"])
async def test_silent_etcd_is_unavailable_in_time_and_back_by_itself(etcd, store, fault):
    await store.put("a", 1)
    getattr(etcd, fault)()
    begun = time.monotonic()
    ends = await asyncio.gather(
        store.get("a"),
        store.put("a", 2),
        store.list(""),
        store.acquire("leader", owner="one", ttl=5),
        anext(store.watch("", after=0)),
        return_exceptions=True,
    )
    assert time.monotonic() - begun < 2.5
    for end in ends:
        assert isinstance(end, StoreUnavailable)
        assert end.retryable
        assert etcd.address in str(end)
    etcd.thaw() if fault == "freeze" else etcd.start()
    revision = await store.put("b", 3)
    assert (await store.get("b")).revision == revision


async def test_kill_during_commits_loses_none_that_was_acknowledged_and_the_watch_none_at_all(etcd):
    async with opened(etcd.address, timeout=10) as store, opened(etcd.address, timeout=0.2) as writer:
        seen, acknowledged = [], []
        watching = asyncio.create_task(collect(store, seen))

        async def write():
            for number in range(10_000):
                try:
                    pair = [Write(f"{side}/{number}", number) for side in "ab"]
                    acknowledged.append((number, await writer.commit(pair)))
                except StoreUnavailable:
                    await asyncio.sleep(0.01)

        writing = asyncio.create_task(write())
        for _ in range(3):
            count = len(acknowledged)
            await until(lambda count=count: len(acknowledged) > count + 30)
            await asyncio.to_thread(etcd.kill)
            await asyncio.to_thread(etcd.start)
        count = len(acknowledged)
        await until(lambda: len(acknowledged) > count + 30)
        writing.cancel()
        await asyncio.gather(writing, return_exceptions=True)
        entries, _ = await store.list("")
        kept = {entry.key: entry.revision for entry in entries}
        for number, revision in acknowledged:
            assert kept[f"a/{number}"] == kept[f"b/{number}"] == revision
        assert len(kept) % 2 == 0
        await until(lambda: len(seen) >= len(kept))
        watching.cancel()
        assert {change.key: change.revision for change in seen} == kept
        assert [change.revision for change in seen] == sorted(kept.values())


async def test_watch_that_finds_its_place_compacted_after_a_break_says_so(etcd):
    async with opened(etcd.address, timeout=10) as store, opened(etcd.address) as other:
        await store.put("a", 0)
        watch = store.watch("", after=0)
        await anext(watch)
        waiting = asyncio.create_task(anext(watch))
        original, others_are_done = store._check_kept, asyncio.Event()

        async def let_in_late(after):
            await others_are_done.wait()
            await original(after)

        store._check_kept = let_in_late
        await asyncio.to_thread(etcd.kill)
        await asyncio.to_thread(etcd.start)
        revisions = [await other.put("a", number) for number in range(1, 5)]
        await other.compact(revisions[-1])
        others_are_done.set()
        with pytest.raises(Compacted):
            await waiting


async def test_etcd_that_lost_its_newest_revisions_is_read_again(etcd, store):
    revision = await store.put("a", 1)
    with pytest.raises(Compacted, match="future"):
        await anext(store.watch("", after=revision + 100))


async def test_call_that_waits_while_the_store_is_closed_ends(etcd):
    async with opened(etcd.address, timeout=30) as store:
        await store.put("a", 1)
        etcd.freeze()
        waiting = [asyncio.create_task(call) for call in (store.get("a"), store.put("a", 2))]
        await asyncio.sleep(0.05)
        await store.close()
        async with asyncio.timeout(2):
            ends = await asyncio.gather(*waiting, return_exceptions=True)
        assert [str(end) for end in ends] == ["The store is closed."] * 2


async def test_cancelled_call_is_cancelled_and_not_an_error_of_the_store(etcd, store):
    await store.put("a", 1)
    etcd.freeze()
    waiting = asyncio.create_task(store.put("a", 2))
    await asyncio.sleep(0.05)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_state_says_that_etcd_is_gone_and_follows_it_again(etcd, monkeypatch):
    monkeypatch.setattr("controller.state.RETRY", 0.05)
    async with opened(etcd.address, timeout=0.3) as store, opened(etcd.address) as other:
        state = await State.open(store)
        theirs = await State.open(other)
        await state.commit(put(Deployment(name="one")))
        await until(lambda: theirs.deployment("one") is not None)
        await asyncio.to_thread(etcd.kill)
        await until(lambda: state.problem is not None)
        assert "can't be followed: etcd at" in state.problem
        assert state.deployment("one") is not None
        await asyncio.to_thread(etcd.start)
        await theirs.commit(put(Deployment(name="two")))
        await until(lambda: state.deployment("two") is not None)
        assert state.problem is None
        await state.close()
        await theirs.close()


# Others


async def test_commits_of_another_process_are_told_at_once(etcd, store):
    async with opened(etcd.address) as other:
        watch = store.watch("b/", after=0)
        waiting = asyncio.create_task(anext(watch))
        await asyncio.sleep(0.05)
        await other.put("a/1", 1)
        revision = await other.commit([Write("b/1", {"x": 1}), Write("a/1", None)])
        assert await asyncio.wait_for(waiting, 2) == Change("b/1", {"x": 1}, revision)
        with pytest.raises(StoreConflict):
            await store.put("b/1", 2, expect=0)


async def test_stores_below_different_prefixes_know_nothing_of_each_other(etcd):
    async with opened(f"{etcd.address}/one") as one, opened(f"{etcd.address}/one-more") as two:
        await one.put("a", 1)
        assert await two.get("a") is None
        assert (await two.list(""))[0] == []
        await two.put("b", 2)
        watch = two.watch("", after=0)
        assert (await anext(watch)).key == "b"
        assert await one.acquire("leader", owner="one", ttl=60)
        assert await two.acquire("leader", owner="two", ttl=60)


async def test_key_that_a_newer_release_laid_out_is_refused(etcd, store, monkeypatch):
    monkeypatch.setattr("controller.store.etcd.LAYOUT", 99)
    async with opened(etcd.address) as newer:
        await newer.put("a", 1)
    monkeypatch.undo()
    with pytest.raises(StoreUnusable, match=r"newer release of Mooring.*layout 99"):
        await store.put("a", 2)


async def test_lease_of_a_lost_process_passes_on_and_one_that_is_renewed_does_not(store):
    kept = await store.acquire("kept", owner="one", ttl=1)
    assert await store.acquire("lost", owner="one", ttl=1)
    async with asyncio.timeout(10):
        while await store.acquire("lost", owner="two", ttl=1) is None:
            assert await kept.renew()
            assert await store.acquire("kept", owner="two", ttl=1) is None
            await asyncio.sleep(0.1)


# Limits


async def test_long_transaction_is_one_transaction(store):
    revision = await store.commit([Write(f"k/{n:04}", n, expect=0) for n in range(1000)])
    entries, _ = await store.list("k/")
    assert {entry.revision for entry in entries} == {revision}
    watch = store.watch("", after=0)
    assert [(await anext(watch)).key for _ in range(1000)] == [f"k/{n:04}" for n in range(1000)]
    with pytest.raises(StoreConflict) as caught:
        await store.commit(
            [Write(f"k/{n:04}", None, expect=revision if n != 777 else 1) for n in range(1000)]
        )
    assert (caught.value.key, caught.value.found) == ("k/0777", revision)
    assert len((await store.list("k/"))[0]) == 1000
    await store.commit([Write(f"k/{n:04}", None, expect=revision) for n in range(1000)])
    assert (await store.list(""))[0] == []


async def test_long_transaction_notices_what_came_in_between(etcd, store):
    revision = await store.commit([Write(f"k/{n}", n) for n in range(300)])
    original, rivals = store._transact, ["x/1", "k/299"]

    async def transact(operations):
        looked = await original(operations)
        if rivals and len(operations) < 128:  # the last look
            async with opened(etcd.address) as other:
                await other.put(rivals.pop(0), "theirs")
        return looked

    store._transact = transact
    # A stranger's key makes it look again; then one of its own keys has changed.
    with pytest.raises(StoreConflict) as caught:
        await store.commit([Write(f"k/{n}", None, expect=revision) for n in range(300)])
    assert caught.value.key == "k/299"
    assert not rivals
    assert len((await store.list("k/"))[0]) == 300


async def test_what_etcd_does_not_take_is_refused_with_the_way_out(store):
    with pytest.raises(TooLarge, match="max-request-bytes"):
        await store.put("a", "x" * 1_600_000)
    with pytest.raises(TooLarge, match="max-request-bytes"):
        await store.put("a", "x" * 5_000_000)
    with pytest.raises(TooLarge, match="max-txn-ops"):
        await store.commit([Write(f"k/{n}", n) for n in range(5000)])
    assert (await store.list(""))[0] == []


async def test_large_content_is_listed_and_watched(store, monkeypatch):
    monkeypatch.setattr("controller.store.etcd.PAGE", 7)
    for number in range(30):
        await store.put(f"k/{number:02}", [number, "x" * 300_000])
    entries, _ = await store.list("k/")
    assert [entry.value[0] for entry in entries] == list(range(30))
    watch = store.watch("", after=0)
    assert [(await anext(watch)).value[0] for _ in range(30)] == list(range(30))


# Doors


async def test_endpoint_that_is_gone_is_passed_over(etcd):
    async with opened(f"127.0.0.1:1,{etcd.address}", timeout=2) as store:
        revision = await store.put("a", 1)
        watch = store.watch("", after=0)
        assert (await anext(watch)).revision == revision


async def test_login_is_renewed_when_its_token_is_forgotten(etcd, tmp_path):
    password = tmp_path / "password"
    password.write_text("open sesame\n")
    async with opened(etcd.address) as plain:
        await plain.put("a", 1)
        link = plain._connection._link()
        from aetcd import rpc

        await link.auth.UserAdd(rpc.AuthUserAddRequest(name="root", password="open sesame"))
        await link.auth.RoleAdd(rpc.AuthRoleAddRequest(name="root"))
        await link.auth.UserGrantRole(rpc.AuthUserGrantRoleRequest(user="root", role="root"))
        await link.auth.AuthEnable(rpc.AuthEnableRequest())
        with pytest.raises((StoreUnavailable, StoreUnusable)) as refused:
            await plain.get("a")
        assert "user" in str(refused.value)
    address = f"{etcd.address}?user=root&password-file={password}"
    async with opened(address) as store:
        assert (await store.get("a")).value == 1
        store._connection._link().token = "forgotten.1"
        await store.put("a", 2)
        store._connection._link().token = "forgotten.1"
        watch = store.watch("", after=0)
        assert [(await anext(watch)).value for _ in range(2)] == [1, 2]
    password.write_text("wrong")
    async with opened(address) as store:
        with pytest.raises(StoreUnusable, match="password-file") as caught:
            await store.get("a")
        assert "wrong" not in str(caught.value)
    password.unlink()
    async with opened(address) as store:
        with pytest.raises(StoreUnusable, match="can't be read"):
            await store.get("a")


def certificates(folder):
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "moor test")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False
        )
        .sign(key, hashes.SHA256())
    )
    cert_file, key_file = folder / "cert.pem", folder / "key.pem"
    cert_file.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return cert_file, key_file


async def test_tls_with_a_certificate_of_our_own(tmp_path):
    cert, key = certificates(tmp_path)
    options = f"--cert-file={cert}", f"--key-file={key}", f"--trusted-ca-file={cert}", "--client-cert-auth"
    with running_etcd(*options) as etcd:
        async with opened(f"https://{etcd.address}?ca={cert}&cert={cert}&key={key}") as store:
            revision = await store.put("a", 1)
            assert (await anext(store.watch("", after=0))).revision == revision
        for address in (f"https://{etcd.address}?ca={cert}", f"https://{etcd.address}", etcd.address):
            async with opened(address, timeout=0.5) as store:
                with pytest.raises(StoreUnavailable):
                    await store.get("a")
