"""Archives that arrive in pieces: what has come stays, and one that nobody goes on with is given up."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from controller.config import Settings
from controller.errors import Conflict, NotFound
from controller.names import Address
from gitreceive.arrivals import Arrivals
from gitreceive.download import TooLarge
from gitreceive.uploads import Upload, Uploads

FOO = Address("foo")


@pytest.fixture
async def uploads(tmp_path: Path) -> AsyncIterator[Uploads]:
    settings = replace(Settings(data=tmp_path), push_limit=100, disk_reserve=0)
    made = Uploads(Arrivals(settings), settings)
    yield made
    await made.close()
    assert list(settings.folders.builds.iterdir()) == []


async def pieces(*given: bytes, breaks: bool = False) -> AsyncIterator[bytes]:
    for each in given:
        yield each
    if breaks:
        raise ConnectionError


async def test_what_came_before_the_line_broke_stays(uploads: Uploads) -> None:
    upload = await uploads.begin("ann", FOO)
    with pytest.raises(ConnectionError):
        await uploads.append(upload, 0, pieces(b"hel", b"lo", breaks=True))
    assert uploads.get("ann", FOO, upload.id).state.offset == 5
    assert (await uploads.append(upload, 5, pieces(b" world"))).offset == 11
    assert upload.file.read_bytes() == b"hello world"


@pytest.mark.parametrize("offset", [0, 4, 6])
async def test_a_piece_that_does_not_fit_is_refused(uploads: Uploads, offset: int) -> None:
    upload = await uploads.begin("ann", FOO)
    await uploads.append(upload, 0, pieces(b"hello"))
    with pytest.raises(Conflict, match="5 bytes have arrived"):
        await uploads.append(upload, offset, pieces(b"x"))
    assert upload.file.read_bytes() == b"hello"


async def test_a_request_that_hangs_writes_no_more_once_another_goes_on(uploads: Uploads) -> None:
    upload, more = await uploads.begin("ann", FOO), asyncio.Event()

    async def hanging() -> AsyncIterator[bytes]:
        yield b"hello"
        await more.wait()
        yield b" from before"

    old = asyncio.create_task(uploads.append(upload, 0, hanging()))
    while upload.size < 5:
        await asyncio.sleep(0)
    await uploads.append(upload, 5, pieces(b" world"))
    more.set()
    with pytest.raises(Conflict, match="Another request"):
        await old
    assert upload.file.read_bytes() == b"hello world"


async def test_more_than_a_push_may_have_is_refused(uploads: Uploads) -> None:
    upload = await uploads.begin("ann", FOO)
    await uploads.append(upload, 0, pieces(bytes(60)))
    with pytest.raises(TooLarge):
        await uploads.append(upload, 60, pieces(bytes(41)))


async def test_somebody_elses_is_not_there(uploads: Uploads) -> None:
    upload = await uploads.begin("ann", FOO)
    for user, address, name in (
        ("bob", FOO, upload.id),
        ("ann", Address("bar"), upload.id),
        ("ann", FOO, "x"),
    ):
        with pytest.raises(NotFound, match="no such upload"):
            uploads.get(user, address, name)


async def test_one_that_nobody_goes_on_with_is_given_up(tmp_path: Path) -> None:
    settings = Settings(data=tmp_path, disk_reserve=0)
    uploads = Uploads(Arrivals(settings), settings, idle=0.01)
    upload = await uploads.begin("ann", FOO)
    async with asyncio.timeout(5):
        while upload.file.parent.exists():
            await asyncio.sleep(0.01)
    with pytest.raises(NotFound):
        uploads.get("ann", FOO, upload.id)
    await uploads.close()


async def test_one_that_is_taken_is_gone_and_its_file_is_not(uploads: Uploads) -> None:
    upload = await uploads.begin("ann", FOO)
    await uploads.append(upload, 0, pieces(b"hello"))
    file = uploads.take(uploads.get("ann", FOO, upload.id))
    assert file.read_bytes() == b"hello"
    with pytest.raises(NotFound):
        uploads.get("ann", FOO, upload.id)
    await _tidy(upload)


async def _tidy(upload: Upload) -> None:
    upload.file.unlink()
    upload.file.parent.rmdir()
