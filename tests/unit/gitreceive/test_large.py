"""Large files: pointers, what is kept, and the protocol by hand."""

import hashlib
from pathlib import Path

import pytest
from dulwich.errors import GitProtocolError

from builder.base import BuildFailed
from controller.config import Settings
from controller.errors import InvalidInput
from gitreceive.large import LargeFiles, Pointer, parse_pointer
from gitreceive.large_transfer import Packets, Transfer

CONTENT = b"large" * 1000
OID = hashlib.sha256(CONTENT).hexdigest()
POINTER = f"version https://git-lfs.github.com/spec/v1\noid sha256:{OID}\nsize {len(CONTENT)}\n".encode()


@pytest.fixture
def files(tmp_path: Path) -> LargeFiles:
    (tmp_path / "app.git").mkdir()
    return LargeFiles(tmp_path / "app.git", Settings(data=tmp_path, disk_reserve=0, push_limit=100_000))


async def pieces(*content: bytes):
    for each in content:
        yield each


def kept(tmp_path: Path) -> list[str]:
    return sorted(each.name for each in (tmp_path / "app.git").rglob("*") if each.is_file())


def test_pointers_are_told_from_files() -> None:
    assert parse_pointer(POINTER) == Pointer(OID, len(CONTENT))
    extended = POINTER.replace(b"oid", b"ext-0-x sha256:1\noid")
    assert parse_pointer(extended) == Pointer(OID, len(CONTENT))
    for content in (b"", b"hello", POINTER[:60], POINTER + b"x" * 1000, POINTER.replace(b"sha256", b"md5")):
        assert parse_pointer(content) is None


async def test_only_what_its_hash_says_is_kept(files: LargeFiles, tmp_path: Path) -> None:
    for size, content in ((len(CONTENT), CONTENT[1:]), (3, CONTENT), (len(CONTENT), b"x" * len(CONTENT))):
        with pytest.raises(InvalidInput, match="What came has"):
            await files.add(OID, size, pieces(content))
    assert kept(tmp_path) == []
    await files.add(OID, len(CONTENT), pieces(CONTENT[:7], CONTENT[7:]))
    assert kept(tmp_path) == [OID]
    for oid in ("../../x", OID.upper(), OID[:-1], ""):
        with pytest.raises(InvalidInput):
            files.find(oid)


async def test_pointers_of_a_source_become_files(files: LargeFiles, tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "in").mkdir(parents=True)
    (source / "in/a.bin").write_bytes(POINTER)
    (source / "in/a.bin").chmod(0o755)
    (source / "plain").write_bytes(b"plain")
    (source / "link").symlink_to("in/a.bin")
    assert await files.fill(source, size=0) == 0, "nothing speaks of LFS"
    (source / ".gitattributes").write_text("*.bin filter=lfs diff=lfs merge=lfs -text\n")
    with pytest.raises(BuildFailed, match=r"'in/a\.bin' apart .*`git lfs push --all"):
        await files.fill(source, size=0)
    await files.add(OID, len(CONTENT), pieces(CONTENT))
    assert await files.fill(source, size=0) == 1
    assert (source / "in/a.bin").read_bytes() == CONTENT
    assert (source / "in/a.bin").stat().st_mode & 0o777 == 0o755
    assert (source / "link").is_symlink()


async def test_a_source_that_grows_too_large_is_refused(files: LargeFiles, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / ".gitattributes").write_text("*.bin filter=lfs\n")
    (source / "a.bin").write_bytes(POINTER)
    await files.add(OID, len(CONTENT), pieces(CONTENT))
    with pytest.raises(BuildFailed, match="With its large files"):
        await files.fill(source, size=4 * 1024**3)


class Client:
    """What one sends, and what is answered."""

    def __init__(self, sent: bytes) -> None:
        self._sent = sent
        self.answer = b""

    async def read(self, n: int = -1, /) -> bytes:
        taken, self._sent = self._sent[:7], self._sent[7:]
        return taken

    def write(self, data: bytes, /) -> None:
        self.answer += data

    async def drain(self) -> None: ...


def packet(*parts: str | bytes | None) -> bytes:
    """None is a flush, "" a delimiter."""
    written = b""
    for each in parts:
        if each is None:
            written += b"0000"
        elif each == "":
            written += b"0001"
        else:
            content = each if isinstance(each, bytes) else f"{each}\n".encode()
            written += b"%04x%s" % (len(content) + 4, content)
    return written


async def talk(files: LargeFiles, *sent: bytes, uploads: bool = True) -> bytes:
    client = Client(b"".join(sent))
    await Transfer(files, Packets(client, client), uploads=uploads).serve()
    return client.answer.removeprefix(packet("version=1", None))


PUT = packet(f"put-object {OID}", f"size={len(CONTENT)}", "", CONTENT[:100], CONTENT[100:], None)
BATCH = packet("batch", "transfer=ssh", "hash-algo=sha256", "", f"{OID} {len(CONTENT)}", None)
OK = packet("status 200", None)


async def test_a_transfer_by_hand(files: LargeFiles) -> None:
    answer = await talk(files, packet("version 1", None), BATCH, PUT, BATCH, packet("quit", None))
    told = ("status 200", "hash-algo=sha256", "")
    assert answer == b"".join(
        [
            OK,
            packet(*told, f"{OID} {len(CONTENT)} upload", None),
            OK,
            packet(*told, f"{OID} {len(CONTENT)} noop", None),
            OK,
        ]
    )
    verify = packet(f"verify-object {OID}", f"size={len(CONTENT)}", None)
    get = packet(f"get-object {OID}", None)
    answer = await talk(files, BATCH, verify, get, uploads=False)
    assert answer == b"".join(
        [
            packet(*told, f"{OID} {len(CONTENT)} download", None),
            OK,
            packet("status 200", f"size={len(CONTENT)}", "", CONTENT, None),
        ]
    )


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (packet("version 2", None), 422),
        (packet("dance", "", "x", None), 422),
        (packet(f"get-object {'0' * 64}", None), 404),
        (packet("get-object ../../../etc/passwd", None), 422),
        (packet(f"verify-object {'0' * 64}", "size=1", None), 404),
        (packet("batch", "", "nonsense", None), 422),
        (packet("batch", "hash-algo=md5", "", None), 422),
        (packet(f"put-object {OID}", "size=-1", "", CONTENT, None), 422),
        (packet(f"put-object {OID}", "size=5", "", b"hello", None), 422),
        (packet("lock", "path=x", None), 501),
        (packet("list-locks", None), 501),
    ],
)
async def test_what_can_t_be_done_is_told_and_the_session_goes_on(
    files: LargeFiles, sent: bytes, status: int
) -> None:
    answer = await talk(files, sent, packet("version 1", None))
    assert answer.startswith(packet(f"status {status}", ""))
    assert answer.endswith(OK)


async def test_a_session_for_downloads_takes_nothing(files: LargeFiles, tmp_path: Path) -> None:
    assert (await talk(files, PUT, uploads=False)).startswith(packet("status 405", ""))
    assert kept(tmp_path) == []


@pytest.mark.parametrize(
    "sent", [b"zzzz", b"0002", b"ffff" + b"x" * 100, PUT[:-4], PUT[:200], b"0000", b"0001"]
)
async def test_what_breaks_off_or_makes_no_sense_keeps_nothing(
    files: LargeFiles, tmp_path: Path, sent: bytes
) -> None:
    with pytest.raises(GitProtocolError):
        await talk(files, sent)
    assert kept(tmp_path) == []
