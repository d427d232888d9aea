"""One suite for every place that backups are kept in: a folder, and S3-compatible storage on a real server."""

import os
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from controller.errors import NotFound, Unavailable
from controller.resources.backups import BackupStore, find_backup, folders
from controller.resources.base import ResourceError
from controller.resources.bucket import PART, buckets
from controller.resources.bucketplace import parse_place
from tests.servers.s3 import BUCKET, KEYS, S3Server, s3_server

pytestmark = pytest.mark.real

NOW = datetime(2026, 1, 1, tzinfo=UTC)
NAME = "shop.db.7f3a"


@dataclass
class Folder:
    root: Path

    def store(self) -> BackupStore:
        return folders(self.root)(NAME)

    def names(self) -> set[str]:
        """Of everything that lies there, half written or not."""
        folder = self.root / NAME
        return {each.name for each in folder.iterdir()} if folder.exists() else set()

    def write(self, name: str, content: bytes) -> None:
        (self.root / NAME).mkdir(exist_ok=True)
        (self.root / NAME / name).write_bytes(content)

    def begin(self) -> None:
        """What a server leaves that is killed while it writes."""
        self.write("20260101T000000.part", b"half")


@dataclass
class Bucket:
    server: S3Server
    root: Path

    def store(self, place: str = f"s3://{BUCKET}/prod") -> BackupStore:
        made = buckets(parse_place(place), endpoint=self.server.url, region="", spool=self.root / "spool")
        return made(NAME)

    def names(self) -> set[str]:
        client = self.server.client()
        found = client.list_objects_v2(Bucket=BUCKET, Prefix=self._prefix).get("Contents", ())
        halves = client.list_multipart_uploads(Bucket=BUCKET).get("Uploads", ())
        return {each["Key"].removeprefix(self._prefix) for each in found} | {
            f"{each['Key']}.part" for each in halves
        }

    def write(self, name: str, content: bytes) -> None:
        self.server.client().put_object(Bucket=BUCKET, Key=f"{self._prefix}{name}", Body=content)

    def begin(self) -> None:
        key = f"{self._prefix}20260101T000000.backup"
        client = self.server.client()
        upload = client.create_multipart_upload(Bucket=BUCKET, Key=key)["UploadId"]
        client.upload_part(Bucket=BUCKET, Key=key, UploadId=upload, PartNumber=1, Body=b"half")
        self.write("20251231T235959.backup", b"whole, and nobody wrote it down")
        # Of one that is whole, by a server that was killed before it had the storage's answer.
        client.create_multipart_upload(Bucket=BUCKET, Key=f"{self._prefix}20250101T000000.backup")

    _prefix = f"prod/{NAME}/"


@pytest.fixture(scope="module")
def server() -> Iterator[S3Server]:
    with s3_server() as server:
        yield server


@pytest.fixture(autouse=True)
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [each for each in os.environ if each.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)


@pytest.fixture(params=["folder", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Folder | Bucket:
    if request.param == "folder":
        return Folder(tmp_path)
    server: S3Server = request.getfixturevalue("server")
    client = server.client()
    for each in client.list_objects_v2(Bucket=BUCKET).get("Contents", ()):
        client.delete_object(Bucket=BUCKET, Key=each["Key"])
    return Bucket(server, tmp_path)


async def of(*pieces: bytes) -> AsyncIterator[bytes]:
    for each in pieces:
        yield each


async def content(store: BackupStore, backup: Any) -> bytes:
    async with aclosing(store.pieces(backup)) as pieces:
        return b"".join([each async for each in pieces])


async def test_what_is_kept_is_listed_given_back_and_removed(place: Folder | Bucket) -> None:
    store = place.store()
    assert await store.list() == []
    with pytest.raises(NotFound, match="no backup yet"):
        await find_backup(store, None)
    first = await store.keep(of(b"one", b"two"), NOW, "ann")
    second = await store.keep(of(b""), NOW, "", scheduled=True)
    assert (first.id, second.id) == ("20260101T000000", "20260101T000000-2")
    assert (first.size, first.actor, second.size, second.scheduled) == (6, "ann", 0, True)
    again = place.store()
    assert list(await again.list()) == [second, first]
    assert await find_backup(again, None) == second
    assert await find_backup(again, first.id) == first
    assert await content(again, first) == b"onetwo"
    assert await content(again, second) == b""
    await again.remove(first.id)
    await again.remove(first.id)
    assert list(await again.list()) == [second]
    with pytest.raises(NotFound, match="no backup '20260101T000000'"):
        await find_backup(again, first.id)


async def test_more_than_one_part_is_whole(place: Folder | Bucket) -> None:
    pieces = [os.urandom(1024**2) for _ in range(PART // 1024**2 * 2 + 3)]
    store = place.store()
    made = await store.keep(of(*pieces), NOW, "ann")
    assert made.size == sum(map(len, pieces))
    assert await content(store, made) == b"".join(pieces)


async def test_what_breaks_off_leaves_nothing(place: Folder | Bucket) -> None:
    async def breaks_off() -> AsyncIterator[bytes]:
        yield b"x" * (PART + 1)
        raise ResourceError("its command exited with status 1")

    with pytest.raises(ResourceError, match="status 1"):
        await place.store().keep(breaks_off(), NOW, "ann")
    assert place.names() == set()


async def test_what_a_killed_server_left_is_swept_and_nothing_else(place: Folder | Bucket) -> None:
    store = place.store()
    whole = await store.keep(of(b"whole"), NOW.replace(year=2025), "ann")
    place.begin()
    assert [each.id for each in await store.list()] == [whole.id]
    await store.sweep()
    assert place.names() == {f"{whole.id}.backup", f"{whole.id}.json"}
    assert await content(store, whole) == b"whole"


async def test_a_damaged_one_gives_not_one_byte(place: Folder | Bucket) -> None:
    store = place.store()
    made = await store.keep(of(b"onetwo"), NOW, "ann")
    place.write(f"{made.id}.backup", b"onetwO")
    with pytest.raises(ResourceError, match="damaged") as caught:
        await anext(store.pieces(made))
    assert not caught.value.retryable


async def test_what_is_not_ours_is_left_alone(place: Folder | Bucket) -> None:
    place.write("notes.json", b"{}")
    assert await place.store().list() == []


async def test_a_bucket_that_is_not_there_is_named(server: S3Server, tmp_path: Path) -> None:
    store = Bucket(server, tmp_path).store("s3://nowhere-at-all")
    with pytest.raises(
        Unavailable, match=r"The storage s3://nowhere-at-all/shop\.db\.7f3a refused it: NoSuchBucket"
    ):
        await store.list()


async def test_wrong_keys_are_refused_in_words(tmp_path: Path) -> None:
    with s3_server(strict=True) as strict, pytest.raises(Unavailable, match="InvalidAccessKeyId"):
        await Bucket(strict, tmp_path).store().list()


async def test_no_keys_at_all_are_told(
    server: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in KEYS:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    with pytest.raises(Unavailable, match="Unable to locate credentials"):
        await Bucket(server, tmp_path).store().list()


async def test_a_server_that_dies_in_the_middle_is_told_and_the_next_one_goes_on(tmp_path: Path) -> None:
    with s3_server() as dying:
        place = Bucket(dying, tmp_path)

        async def dies() -> AsyncIterator[bytes]:
            yield b"x" * PART
            dying.kill()
            yield b"x" * PART

        with pytest.raises(Unavailable, match="can't be used"):
            await place.store().keep(dies(), NOW, "ann")
    with s3_server() as back:
        made = await Bucket(back, tmp_path).store().keep(of(b"whole"), NOW, "ann")
        assert await content(Bucket(back, tmp_path).store(), made) == b"whole"
