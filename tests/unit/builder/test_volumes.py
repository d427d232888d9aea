"""What is in a volume: packed, unpacked, and put in place as a whole or not at all."""

import gzip
import io
import os
import tarfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import zstandard

from builder.slugs import SlugStore
from builder.storage import DiskStorage
from builder.volumes import packed, unpack
from controller.config import DataFolder
from controller.upkeep.storage import BadArchive

DATA = ("foo", "db", "data")


def nothing() -> None:
    pass


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """One with everything that a volume may have."""
    root = tmp_path / "data"
    (root / "deep/er").mkdir(parents=True)
    (root / "deep").chmod(0o700)
    (root / "deep/er/file").write_bytes(os.urandom(3_000_000))
    (root / "deep/er/file").chmod(0o600)
    (root / "empty").touch()
    (root / "script").write_text("#!/bin/sh\n")
    (root / "script").chmod(0o4755)
    os.link(root / "empty", root / "other name")
    (root / "link").symlink_to("/etc/passwd")
    os.mkfifo(root / "pipe")
    (root / os.fsdecode(b"caf\xe9\n")).write_text("odd")
    for each in (root / "deep/er/file", root / "deep"):
        os.utime(each, (1_600_000_000, 1_600_000_000))
    return root


def seen(root: Path) -> dict[str, object]:
    found: dict[str, object] = {}
    for each in sorted(root.rglob("*")):
        info = each.lstat()
        what = str(each.readlink()) if each.is_symlink() else each.read_bytes() if each.is_file() else None
        mode = None if each.is_symlink() else info.st_mode & 0o777
        found[str(each.relative_to(root))] = (what, mode, None if each.is_symlink() else int(info.st_mtime))
    return found


def unpacked(content: bytes, target: Path, *, most: int = 10**9) -> Path:
    unpack(io.BufferedReader(io.BytesIO(content)), target, None, nothing, most=most)  # type: ignore[arg-type]
    return target


def test_what_was_packed_is_there_again_but_for_pipes_and_rights_of_others(
    folder: Path, tmp_path: Path
) -> None:
    again = unpacked(b"".join(packed(folder, nothing)), tmp_path / "again")
    (folder / "pipe").unlink()
    assert seen(again) == seen(folder)
    assert (again / "script").stat().st_mode & 0o7777 == 0o755


def test_what_vanishes_or_shrinks_while_it_is_read_spoils_nothing(folder: Path, tmp_path: Path) -> None:
    pieces = packed(folder, nothing)
    first = next(pieces)  # of the large file, which is being read
    with (folder / "deep/er/file").open("r+b") as file:
        file.truncate(1_500_000)
    (folder / "script").unlink()
    again = unpacked(first + b"".join(pieces), tmp_path / "again")
    assert (again / "deep/er/file").stat().st_size == 3_000_000
    assert not (again / "script").exists() and (again / "link").is_symlink()


def member(name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info, b""


def tar(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for info, content in members:
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


@pytest.mark.parametrize(
    "members",
    [
        [member("../out")],
        [member("/etc/cron.d/x")],
        [member("a/../../out")],
        [member("link", tarfile.SYMTYPE, "/etc"), member("link/passwd")],
        [member("disk", tarfile.BLKTYPE)],
        [member("pipe", tarfile.FIFOTYPE)],
        [member("mine", tarfile.LNKTYPE, "/etc/shadow")],
        [member("up", tarfile.SYMTYPE, ".."), member("hard", tarfile.LNKTYPE, "up/secret")],
        [member("twice"), member("twice")],
    ],
)
def test_what_leads_out_or_is_no_file_is_refused(
    members: list[tuple[tarfile.TarInfo, bytes]], tmp_path: Path
) -> None:
    (tmp_path / "secret").write_text("theirs")
    with pytest.raises(BadArchive):
        unpacked(tar(*members), tmp_path / "new")
    assert {each.name for each in tmp_path.iterdir()} <= {"secret", "new"}


def test_other_ways_to_write_a_tar(tmp_path: Path) -> None:
    plain = tar(
        member("./", tarfile.DIRTYPE), (tarfile.TarInfo("./a"), b"1"), (tarfile.TarInfo("./b/c"), b"2")
    )
    for number, content in enumerate((plain, gzip.compress(plain), zstandard.compress(plain))):
        new = unpacked(content, tmp_path / str(number))
        assert ((new / "a").read_text(), (new / "b/c").read_text()) == ("1", "2")


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 0.99])
def test_what_breaks_off_is_refused(folder: Path, tmp_path: Path, share: float) -> None:
    whole = b"".join(packed(folder, nothing))
    plain = zstandard.ZstdDecompressor().stream_reader(whole).read()
    for number, content in enumerate((whole, plain, gzip.compress(plain, 1))):
        with pytest.raises(BadArchive):
            unpacked(content[: int(len(content) * share)], tmp_path / f"new-{number}")


def test_more_than_there_is_room_for_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadArchive, match="larger than"):
        unpacked(
            zstandard.compress(tar((tarfile.TarInfo("zeros"), bytes(5_000_000)))),
            tmp_path / "new",
            most=10**6,
        )


# In its place


@pytest.fixture
def storage(tmp_path: Path) -> Iterator[DiskStorage]:
    folders = DataFolder(tmp_path / "root")
    folders.root.mkdir()
    yield DiskStorage(folders, SlugStore(folders.slugs, folders.apps, limit=10**6))


def place(storage: DiskStorage) -> Path:
    return storage.folder.joinpath("volumes", *DATA)


async def of(*pieces: bytes) -> AsyncIterator[bytes]:
    for each in pieces:
        yield each


async def restored(storage: DiskStorage, pieces: AsyncIterator[bytes], *, used: bool = False) -> bool:
    return await storage.restore_volume(*DATA, pieces, uid=None, in_use=lambda: used)


async def test_it_is_restored_over_what_was_there_and_where_nothing_was(storage: DiskStorage) -> None:
    for text in (b"first", b"second"):
        assert await restored(storage, of(tar((tarfile.TarInfo("file"), text))))
        assert (place(storage) / "file").read_bytes() == text
    (place(storage) / "more").touch()
    content = b"".join([each async for each in storage.pack_volume(*DATA)])
    (place(storage) / "file").write_text("changed")
    (place(storage) / "later").touch()
    assert await restored(storage, of(content[:10], content[10:]))
    assert {each.name for each in place(storage).iterdir()} == {"file", "more"}
    assert [each.name for each in await storage.volumes("foo")] == ["data"]
    assert await storage.services() == [("foo", "db")]


async def test_where_it_fails_everything_is_as_before(storage: DiskStorage) -> None:
    await restored(storage, of(tar((tarfile.TarInfo("file"), b"kept"))))

    async def breaks_off() -> AsyncIterator[bytes]:
        yield tar((tarfile.TarInfo("file"), b"new"))[:700]
        raise ConnectionError

    large = tar((tarfile.TarInfo("file"), os.urandom(3_000_000)))
    with pytest.raises(ConnectionError):
        await restored(storage, breaks_off())
    with pytest.raises(BadArchive):
        await restored(storage, of(tar(member("../out")), large, large))
    with pytest.raises(BadArchive, match="no tar"):
        await restored(storage, of())
    assert not await restored(storage, of(large), used=True)
    assert (place(storage) / "file").read_bytes() == b"kept"
    assert not list((storage.folder / "volumes/.removed/.new").iterdir())


async def test_a_server_that_was_killed_between_two_steps_brings_it_back(storage: DiskStorage) -> None:
    await restored(storage, of(tar((tarfile.TarInfo("file"), b"kept"))))
    aside = storage.folder.joinpath("volumes/.removed/.before", *DATA)
    aside.parent.mkdir(parents=True, exist_ok=True)
    place(storage).rename(aside)
    await storage.sweep()
    assert (place(storage) / "file").read_bytes() == b"kept"
    aside.mkdir(parents=True)  # killed after the second
    await storage.sweep()
    assert (place(storage) / "file").read_bytes() == b"kept" and not aside.exists()


async def test_of_nothing_comes_nothing(storage: DiskStorage) -> None:
    assert [each async for each in storage.pack_volume(*DATA)] == []
