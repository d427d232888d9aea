"""Volumes on the disk: measured, put aside with their service, and never found by the next one of its name."""

from pathlib import Path

from builder.slugs import SlugStore
from builder.storage import DiskStorage
from controller.config import Settings


def storage_in(folder: Path) -> tuple[DiskStorage, Path]:
    folders = Settings(data=folder).folders
    data = folders.volumes / "foo" / "db" / "data"
    data.mkdir(parents=True)
    (data / "table").write_bytes(b"x" * 10_000)
    return DiskStorage(folders, SlugStore(folders.slugs, folders.apps, limit=1024)), data


async def test_volumes_are_listed_with_their_sizes(tmp_path: Path) -> None:
    storage, _ = storage_in(tmp_path)
    (found,) = await storage.volumes("foo")
    assert (found.service, found.name) == ("db", "data")
    assert found.size >= 10_000
    assert await storage.volumes("bar") == []


async def test_those_of_a_destroyed_service_are_put_aside(tmp_path: Path) -> None:
    storage, data = storage_in(tmp_path)
    await storage.remove_service("foo", "db")
    assert not data.exists()
    (kept,) = (tmp_path / "volumes" / ".removed").glob("foo.db.*/data/table")
    assert kept.read_bytes() == b"x" * 10_000
    assert await storage.services() == []


async def test_those_that_were_given_up_go_with_it(tmp_path: Path) -> None:
    storage, _ = storage_in(tmp_path)
    await storage.give_up_volumes("foo", "db")
    assert await storage.services() == [("foo", "db")]
    await storage.remove_service("foo", "db")
    assert not list((tmp_path / "volumes").rglob("table"))


async def test_one_is_removed_unless_it_is_in_use_at_the_last_moment(tmp_path: Path) -> None:
    storage, data = storage_in(tmp_path)
    other = data.with_name("other")
    other.mkdir()
    assert (await storage.remove_volume("foo", "db", "data", in_use=lambda: True)).count == 0
    assert (data / "table").exists()
    removed = await storage.remove_volume("foo", "db", "data", in_use=lambda: False)
    assert (removed.count, removed.size >= 10_000) == (1, True)
    assert (data.exists(), other.exists()) == (False, True)
    assert (await storage.remove_volume("foo", "db", "data", in_use=lambda: False)).count == 0
