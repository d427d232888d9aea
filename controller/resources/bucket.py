"""Backups in S3-compatible storage, of any vendor: the same two objects that a folder has as files."""

import asyncio
import hashlib
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from io import BufferedRandom
from pathlib import Path
from typing import Any

import botocore.session
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from controller.errors import Unavailable
from controller.resources.backups import DATA, PIECE, RECORD, BackupStore, BackupStores, check_damage, free_id
from controller.resources.bucketplace import BucketPlace
from controller.views import BackupInfo
from controller.wire import WireError, decode, encode

PART = 16 * 1024**2
"""Bytes of a part at first. A backup has 10,000 parts at most, so they become larger on the way."""
GROW_EVERY = 2000
"""Parts, after which they are twice as large: about 1 TB in all, of which one part is in memory."""
CONNECT_TIMEOUT, READ_TIMEOUT, ATTEMPTS = 10, 60, 3
"""Seconds, and how often a call is tried."""
AT_ONCE = 8
"""Records that are read at the same time."""
REGION = "us-east-1"
"""What is signed where no region is named; most vendors take it."""
SYSTEM_CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")


def buckets(place: BucketPlace, *, endpoint: str, region: str, spool: Path) -> BackupStores:
    """Each below a prefix of its own there. Keys of access are found as everything that speaks S3 finds them:
    AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a profile, or what the machine was given. Nothing is connected yet.

    `endpoint`: URL of another vendor's; empty: Amazon's. `spool`: the folder on whose disk one waits to be checked.
    """
    client = botocore.session.get_session().create_client(
        "s3",
        endpoint_url=endpoint or None,
        region_name=region or REGION,
        verify=str(SYSTEM_CERTIFICATES) if SYSTEM_CERTIFICATES.exists() else None,
        config=Config(
            connect_timeout=CONNECT_TIMEOUT,
            read_timeout=READ_TIMEOUT,
            retries={"total_max_attempts": ATTEMPTS, "mode": "standard"},
            s3={"addressing_style": "path" if endpoint else "auto"},
            # Sums in trailers are Amazon's; others refuse them.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        ),
    )

    @cache
    def store(name: str) -> BackupStore:
        return BackupBucket(client, place.below(name), spool)

    return store


def _as_it_is(got: Any) -> Any:
    return got


@dataclass
class BackupBucket:
    """Implements BackupStore: `<id>.backup` and `<id>.json`, which is written last."""

    client: Any
    place: BucketPlace
    spool: Path
    _read: dict[str, BackupInfo] = field(default_factory=dict, repr=False)
    """Records that were read: they never change."""

    async def list(self) -> Sequence[BackupInfo]:
        ids = [each.removesuffix(RECORD) for each in await self._keys() if each.endswith(RECORD)]
        slots = asyncio.Semaphore(AT_ONCE)

        async def read(backup: str) -> BackupInfo | None:
            if backup not in self._read:
                async with slots:
                    content = await self._call("get_object", _whole, Key=self._key(backup, RECORD))
                try:
                    self._read[backup] = decode(BackupInfo, content)
                except WireError:
                    return None  # not ours
            return self._read[backup]

        found = [each for each in await asyncio.gather(*map(read, ids)) if each is not None]
        return sorted(found, key=lambda each: each.id, reverse=True)

    async def keep(
        self, pieces: AsyncIterator[bytes], now: datetime, actor: str, *, scheduled: bool = False
    ) -> BackupInfo:
        name = free_id(now, {each.partition(".")[0] for each in await self._keys()})
        key = self._key(name, DATA)
        upload = await self._call("create_multipart_upload", lambda got: got["UploadId"], Key=key)
        try:
            size, sha256 = await self._upload(key, upload, pieces)
            made = BackupInfo(
                id=name, created_at=now, size=size, sha256=sha256, actor=actor, scheduled=scheduled
            )
            await self._call("put_object", Key=self._key(name, RECORD), Body=encode(made))
        except BaseException:
            await asyncio.shield(self._give_up(key, upload))
            raise
        return made

    async def _upload(self, key: str, upload: str, pieces: AsyncIterator[bytes]) -> tuple[int, str]:
        """How many bytes there were, and their hash."""
        digest, size, parts = hashlib.sha256(), 0, list[Mapping[str, Any]]()
        async with aclosing(_parts(pieces)) as given:
            async for part in given:
                digest.update(part)
                size += len(part)
                place = {"Key": key, "UploadId": upload, "PartNumber": len(parts) + 1}
                tag = await self._call("upload_part", lambda got: got["ETag"], **place, Body=part)
                parts.append({"ETag": tag, "PartNumber": place["PartNumber"]})
        await self._call(
            "complete_multipart_upload", Key=key, UploadId=upload, MultipartUpload={"Parts": parts}
        )
        return size, digest.hexdigest()

    async def pieces(self, backup: BackupInfo) -> AsyncGenerator[bytes, None]:
        """By way of this machine's disk: nothing may be restored that was not checked as a whole."""
        await asyncio.to_thread(self.spool.mkdir, mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=self.spool) as file:
            key = self._key(backup.id, DATA)
            await self._call("get_object", lambda got: _copy(got["Body"], file), Key=key)
            check_damage(backup, await asyncio.to_thread(_hash_of, file))
            while piece := await asyncio.to_thread(file.read, PIECE):
                yield piece

    async def remove(self, backup: str) -> None:
        """Its record first."""
        for ending in (RECORD, DATA):
            await self._call("delete_object", Key=self._key(backup, ending))
        self._read.pop(backup, None)

    async def sweep(self) -> None:
        found = await self._call(
            "list_multipart_uploads", lambda got: got.get("Uploads", ()), Prefix=self.place.prefix
        )
        for each in found:
            # Not what lies under its key, which may be whole: without its record it goes below.
            await self._call("abort_multipart_upload", Key=each["Key"], UploadId=each["UploadId"])
        keys = set(await self._keys())
        for each in keys:
            if each.endswith(DATA) and f"{each.removesuffix(DATA)}{RECORD}" not in keys:
                await self._call("delete_object", Key=f"{self.place.prefix}{each}")

    async def _give_up(self, key: str, upload: str) -> None:
        """Where it can't now, the next sweep does."""
        for name, words in (("abort_multipart_upload", {"UploadId": upload}), ("delete_object", {})):
            with suppress(Unavailable):
                await self._call(name, _as_it_is, Key=key, **words)

    async def _keys(self) -> Sequence[str]:
        """What is below the prefix, without it."""
        keys, more = list[str](), dict[str, str]()
        while True:
            got = await self._call("list_objects_v2", _as_it_is, Prefix=self.place.prefix, **more)
            keys += [each["Key"].removeprefix(self.place.prefix) for each in got.get("Contents", ())]
            if not got.get("IsTruncated"):
                return keys
            more = {"ContinuationToken": got["NextContinuationToken"]}

    async def _call(self, name: str, take: Callable[[Any], Any] = _as_it_is, **words: Any) -> Any:
        """`take`: what is made of the answer, in the same thread."""

        def work() -> Any:
            with _told(self.place):
                return take(getattr(self.client, name)(Bucket=self.place.bucket, **words))

        return await asyncio.to_thread(work)

    def _key(self, backup: str, ending: str) -> str:
        return f"{self.place.prefix}{backup}{ending}"


@contextmanager
def _told(place: BucketPlace) -> Iterator[None]:
    """Faults of the storage in words."""
    try:
        yield
    except ClientError as error:
        said = error.response.get("Error", {})
        why = ": ".join(dict.fromkeys(str(said[each]) for each in ("Code", "Message") if said.get(each)))
        raise Unavailable(f"The storage {place} refused it: {why or error}.".replace("..", ".")) from error
    except BotoCoreError as error:
        raise Unavailable(f"The storage {place} can't be used: {str(error).rstrip('.')}.") from error


async def _parts(pieces: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
    """The same in parts of the size that an upload takes; one at least, which may be empty."""
    gathered, number = bytearray(), 0
    async for piece in pieces:
        gathered += piece
        while len(gathered) >= (size := PART << number // GROW_EVERY):
            yield bytes(gathered[:size])
            del gathered[:size]
            number += 1
    if gathered or not number:
        yield bytes(gathered)


def _whole(got: Any) -> bytes:
    content: bytes = got["Body"].read()
    return content


def _copy(body: Any, file: BufferedRandom) -> None:
    for piece in body.iter_chunks(PIECE):
        file.write(piece)


def _hash_of(file: BufferedRandom) -> str:
    file.seek(0)
    found = hashlib.file_digest(file, "sha256").hexdigest()
    file.seek(0)
    return found
