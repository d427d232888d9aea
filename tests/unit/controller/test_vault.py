"""Config is sealed in the store and plain in memory, whatever happens to the keys."""

import asyncio
import json
import stat
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from controller.operations.secrets import SecretOperations
from controller.state import SCHEMA, State, put
from controller.store.base import StoreUnusable, Write
from controller.store.memory import MemoryStore
from controller.types import Definition, Guard
from controller.vault import CHECK_KEY, Vault, open_vault
from controller.wire import WireError, to_json
from tests import factories
from tests.unit.controller.world import ADMIN

ENV = {"KEY": "hunter2", "LINES": "a\nb é"}
RECORDS = (
    factories.deployment(globals={"Env": {"SHARED": "hunter2"}}, vars={"SITE": "hunter2"}),
    factories.service(definition=Definition(env=ENV), guards={"x.org": Guard(users={"joe": "hunter2"})}),
    factories.version(definition=Definition(env=ENV), globals={"Env": {"SHARED": "hunter2"}}),
)


async def everything(store: MemoryStore) -> str:
    return json.dumps([(each.key, each.value) for each in (await store.list(""))[0]])


def check_records(state: State) -> None:
    assert state.deployment("foo") == RECORDS[0]
    assert state.service("foo", "app") == RECORDS[1]
    assert state.version("foo", "app", 1) == RECORDS[2]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "secret.key"


async def filled(store: MemoryStore, path: Path) -> Vault:
    vault = await open_vault(store, path)
    state = await State.open(store, codec=vault)
    await state.commit(*map(put, RECORDS))
    check_records(state)
    await state.close()
    return vault


async def test_no_value_is_in_the_store_and_all_are_read_back(path: Path) -> None:
    store = MemoryStore()
    await filled(store, path)
    text = await everything(store)
    assert "hunter2" not in text and "SHARED" not in text and "$sealed" in text
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    state = await State.open(store, codec=await open_vault(store, path))
    check_records(state)
    await state.close()


async def test_what_an_older_release_wrote_is_sealed_at_the_start(path: Path) -> None:
    store = MemoryStore()
    keys = ("deployments/foo", "services/foo/app", "versions/foo/app/00000001")
    writes = [Write(key, to_json(record)) for key, record in zip(keys, RECORDS, strict=True)]
    await store.commit([*writes, Write("meta/schema", {"version": 1})])
    state = await State.open(store, codec=await open_vault(store, path))
    check_records(state)
    assert "hunter2" not in await everything(store)
    assert (await store.get("meta/schema")).value == {"version": SCHEMA}
    await state.close()


async def test_sealing_that_was_broken_off_goes_on_at_the_next_start(path: Path) -> None:
    store = MemoryStore()
    await filled(store, path)
    plain = Write("services/foo/app", to_json(RECORDS[1]))
    await store.commit([plain, Write("meta/schema", {"version": 2, "sealing": True})])
    state = await State.open(store, codec=await open_vault(store, path))
    check_records(state)
    assert "hunter2" not in await everything(store)
    await state.close()


@pytest.mark.parametrize("spoil", [Path.unlink, lambda path: path.write_text("no key\n"), None])
async def test_without_the_right_key_the_start_is_refused_with_the_way_out(path: Path, spoil) -> None:
    store = MemoryStore()
    await filled(store, path)
    if spoil is None:
        path.unlink()
        await open_vault(MemoryStore(), path)  # the key of another store
    else:
        spoil(path)
    with pytest.raises(StoreUnusable, match=r"values of all config variables are lost.*Put the file back"):
        await open_vault(store, path)


async def test_a_state_that_seals_nothing_refuses_what_is_sealed(path: Path) -> None:
    store = MemoryStore()
    await filled(store, path)
    with pytest.raises(StoreUnusable, match="it is sealed"):
        await State.open(store)


async def test_what_is_sealed_can_not_be_changed_or_moved(path: Path) -> None:
    store = MemoryStore()
    vault = await filled(store, path)
    value = (await store.get("services/foo/app")).value
    with pytest.raises(WireError, match="was changed, or belongs elsewhere"):
        vault.open("services/bar/app", value)
    token = value["definition"]["env"]["$sealed"]
    value["definition"]["env"]["$sealed"] = token[:-8] + ("A" if token[-8] != "A" else "B") + token[-7:]
    with pytest.raises(WireError, match="was changed, or belongs elsewhere") as caught:
        vault.open("services/foo/app", value)
    assert "hunter2" not in str(caught.value)


async def test_rotation_seals_everything_anew_and_forgets_the_old_key(path: Path) -> None:
    store = MemoryStore()
    vault = await filled(store, path)
    old, before = path.read_text(), await everything(store)
    state = await State.open(store, codec=vault)
    await SecretOperations(state, vault).rotate(ADMIN)
    check_records(state)
    assert len(path.read_text().split()) == 1 and path.read_text() != old
    named = (await store.get(CHECK_KEY)).value["check"]["$sealed"].partition(":")[0]
    assert named not in before
    assert (await everything(store)).count("$sealed") == before.count("$sealed")
    assert not any(vault.stale(each.key, each.value) for each in (await store.list(""))[0])
    await state.close()
    again = await State.open(store, codec=await open_vault(store, path))
    check_records(again)
    await again.close()


@pytest.mark.parametrize("after", range(8))
async def test_rotation_that_is_killed_leaves_everything_readable(
    path: Path, after: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed before the store's n-th write, with one record to a transaction."""
    monkeypatch.setattr("controller.state.SEALED_AT_ONCE", 1)
    store = MemoryStore()
    vault = await filled(store, path)
    state = await State.open(store, codec=vault)
    commit, left = store.commit, after

    async def mortal(writes: list[Write]) -> int:
        nonlocal left
        left -= 1
        if left < 0:
            raise KeyError("killed")
        return await commit(writes)

    monkeypatch.setattr(store, "commit", mortal)
    with suppress(KeyError):
        await SecretOperations(state, vault).rotate(ADMIN)
    await state.close()
    monkeypatch.setattr(store, "commit", commit)
    vault = await open_vault(store, path)
    state = await State.open(store, codec=vault)
    check_records(state)
    await SecretOperations(state, vault).rotate(ADMIN)
    check_records(state)
    assert len(path.read_text().split()) == 1
    await state.close()


async def test_writes_go_on_while_keys_change(path: Path) -> None:
    store = MemoryStore()
    vault = await filled(store, path)
    state = await State.open(store, codec=vault)

    async def write(number: int) -> None:
        made = factories.service(name=f"s{number}", definition=Definition(env=ENV))
        await state.commit(put(made))
        await state.commit(put(replace(made, stopped=True)))

    secrets = SecretOperations(state, vault)
    await asyncio.gather(*(write(n) for n in range(20)), secrets.rotate(ADMIN), secrets.rotate(ADMIN))
    await state.close()
    again = await State.open(store, codec=await open_vault(store, path))
    assert len(again.services()) == 21
    assert all(each.definition.env == ENV for each in again.services())
    await again.close()


def test_variables_of_a_one_off_are_sealed(tmp_path):
    vault = Vault(tmp_path / "keys", [b"k" * 32])
    plain = {"id": "foo-app-1-run-1", "env": {"SECRET": "hush"}}
    sealed = vault.seal("runs/foo-app-1-run-1", plain)
    assert "hush" not in str(sealed)
    assert vault.open("runs/foo-app-1-run-1", sealed) == plain
