"""Hostile and odd archives: each is refused in words, or taken for what it is, and nothing leaves its folder."""

import gzip
import io
import os
import stat
import struct
import tarfile
import zipfile
from pathlib import Path

import pytest
import zstandard

from builder import archive as module
from builder.archive import unpack_archive
from builder.base import BuildFailed


def tarred(*members: tuple[tarfile.TarInfo, bytes], form: int = tarfile.PAX_FORMAT) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form, errors="surrogateescape") as archive:
        for info, content in members:
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def member(name: str, content: bytes = b"x", **changes: object) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for key, value in changes.items():
        setattr(info, key, value)
    return info, content


def of_kind(kind: bytes, target: str = "/etc/passwd") -> tuple[tarfile.TarInfo, bytes]:
    return member("odd", b"", type=kind, linkname=target)


def zipped(*entries: tuple[str, bytes, int], packing: int = zipfile.ZIP_DEFLATED) -> bytes:
    """Each a name, its content, its mode with the kind."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", packing) as archive:
        for name, content, mode in entries:
            info = zipfile.ZipInfo(name)
            info.create_system, info.external_attr = 3, mode << 16
            archive.writestr(info, content, compress_type=packing)
    return buffer.getvalue()


FILE = stat.S_IFREG | 0o644


def unpack(tmp_path: Path, content: bytes, **limits: int) -> Path:
    archive = tmp_path / "archive"
    archive.write_bytes(content)
    return unpack_archive(archive, tmp_path / "in" / "out", lambda: None, **limits)


@pytest.fixture(autouse=True)
def surroundings(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()


def lying_zip() -> bytes:
    content = bytearray(zipped(("a", b"x" * 1000, FILE)))
    at = content.index(b"PK\x01\x02") + 24
    content[at : at + 4] = struct.pack("<I", 10)
    return bytes(content)


def encrypted_zip() -> bytes:
    content = bytearray(zipped(("a", b"x", FILE)))
    for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(mark) + offset] |= 1
    return bytes(content)


def huge_header() -> bytes:
    info = tarfile.TarInfo("././@LongLink")
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, 8 * 1024**3
    return info.tobuf(tarfile.GNU_FORMAT) + bytes(1024)


def sparse() -> bytes:
    info = tarfile.TarInfo("holes")
    info.size = 0
    info.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": "9" * 15}
    return tarred((info, b""))


def double(name: str) -> bytes:
    return tarred(member(name, b"1"), member(name, b"2"))


HOSTILE = {
    "an absolute path": (tarred(member("/etc/cron.d/x")), "stays inside"),
    "a path upwards": (tarred(member("a/../../x")), "stays inside"),
    "an absolute link": (tarred(of_kind(tarfile.SYMTYPE)), "absolute path"),
    "a link upwards": (tarred(member("a/l", b"", type=tarfile.SYMTYPE, linkname="../../x")), "leads out"),
    "a link out of the only folder": (
        tarred(member("top/f"), member("top/l", b"", type=tarfile.SYMTYPE, linkname="../x")),
        "leads out",
    ),
    "a file through a link": (
        tarred(member("l", b"", type=tarfile.SYMTYPE, linkname="."), member("l/x")),
        "is there twice|through",
    ),
    "a hard link": (tarred(of_kind(tarfile.LNKTYPE)), "neither"),
    "a device": (tarred(of_kind(tarfile.CHRTYPE)), "neither"),
    "a disk": (tarred(of_kind(tarfile.BLKTYPE)), "neither"),
    "a pipe": (tarred(of_kind(tarfile.FIFOTYPE)), "neither"),
    "a file with holes": (sparse(), "neither|damaged"),
    "a name twice": (double("a"), "twice"),
    "a name twice, written in two ways": (tarred(member("a"), member("./a")), "twice"),
    "a file below a file": (tarred(member("a"), member("a/b")), "twice|through"),
    "a path nested deep": (tarred(member("/".join("d" * 101))), "nested more than 100"),
    "a name longer than the system takes": (tarred(member("n" * 300)), "can't be made"),
    "a header of gigabytes": (huge_header(), "longer than"),
    "a tar cut short": (tarred(member("a", b"x" * 5000))[:2000], "damaged"),
    "a gzip cut short": (gzip.compress(tarred(member("a", os.urandom(5000))))[:3000], "damaged"),
    "a gzip that is none": (b"\x1f\x8b" + b"nonsense" * 100, "damaged"),
    "a zstd that is none": (b"\x28\xb5\x2f\xfd" + b"nonsense" * 100, "damaged"),
    "no archive": (b"#!/bin/sh\necho hello\n", "no archive that is taken"),
    "nothing": (b"", "no archive that is taken"),
    "an empty tar": (tarred(), "empty"),
    "an empty zip": (zipped(), "empty"),
    "a zip's absolute path": (zipped(("/etc/x", b"x", FILE)), "stays inside"),
    "a zip's path upwards": (zipped(("../x", b"x", FILE)), "stays inside"),
    "a zip's link out": (zipped(("l", b"/etc/passwd", stat.S_IFLNK | 0o777)), "absolute path"),
    "a zip's link with an endless target": (
        zipped(("l", b"x" * 100_000, stat.S_IFLNK | 0o777)),
        "has a target that is none",
    ),
    "a zip's pipe": (zipped(("p", b"", stat.S_IFIFO | 0o644)), "neither"),
    "a zip's device": (zipped(("p", b"", stat.S_IFCHR | 0o644)), "neither"),
    "a zip that lies about a size": (lying_zip(), "damaged"),
    "a zip cut short": (zipped(("a", os.urandom(5000), FILE))[:3000], "damaged"),
    "a zip with a password": (encrypted_zip(), "encrypted"),
    "a zip of another packing": (zipped(("a", b"x" * 99, FILE), packing=zipfile.ZIP_LZMA), "use deflate"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_archive_is_refused_in_words_and_writes_nowhere_else(tmp_path: Path, name: str) -> None:
    content, words = HOSTILE[name]
    with pytest.raises(BuildFailed, match=words):
        unpack(tmp_path, content)
    assert {each.name for each in tmp_path.iterdir()} == {"archive", "in"}
    assert {each.name for each in (tmp_path / "in").iterdir()} <= {"out"}


@pytest.mark.parametrize("name", ["an absolute path", "a path upwards"])
def test_paths_in_an_archive_never_become_others(tmp_path: Path, name: str) -> None:
    """Refused, not mended: what was meant can't be known."""
    with pytest.raises(BuildFailed):
        unpack(tmp_path, HOSTILE[name][0])
    assert [each for each in (tmp_path / "in/out").rglob("*") if each.is_file()] == []


def bombs() -> dict[str, bytes]:
    plain = tarred(member("zeros", bytes(5_000_000)))
    return {
        "gzip": gzip.compress(plain),
        "zstd": zstandard.compress(plain),
        "zip": zipped(("zeros", bytes(5_000_000), FILE)),
        "gzip of nothing but an end": gzip.compress(bytes(5_000_000)),
    }


@pytest.mark.parametrize("name", bombs())
def test_a_bomb_is_told_by_what_comes_out_of_it(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RATIO_FROM", 1_000_000)
    with pytest.raises(BuildFailed, match=r"bomb|empty"):
        unpack(tmp_path, bombs()[name])
    written = sum(each.stat().st_size for each in (tmp_path / "in/out").rglob("*"))
    assert written < 1_500_000


@pytest.mark.parametrize("name", ["gzip", "zstd", "zip"])
def test_an_archive_that_is_simply_too_large_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(BuildFailed, match=r"(holds more|larger) than"):
        unpack(tmp_path, bombs()[name], max_bytes=2_000_000)


@pytest.mark.parametrize(
    "content",
    [tarred(*(member(f"f{n}") for n in range(30))), zipped(*((f"f{n}", b"", FILE) for n in range(30)))],
    ids=["tar", "zip"],
)
def test_too_many_files_are_refused(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(BuildFailed, match="more than 20 files"):
        unpack(tmp_path, content, max_files=20)


def test_a_zip_with_an_endless_directory_is_not_read_into_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_NAMES", 70_000)
    with pytest.raises(BuildFailed, match="own directory is too large"):
        unpack(tmp_path, zipped(*((f"{n:060}", b"", FILE) for n in range(1500))))


SOURCE = [("app/Procfile", b"web: x\n", FILE), ("app/bin/run", b"#!/bin/sh\n", stat.S_IFREG | 0o6755)]
TAR = tarred(*(member(name, content, mode=mode & 0o7777) for name, content, mode in SOURCE))


@pytest.mark.parametrize(
    "content",
    [
        TAR,
        gzip.compress(TAR),
        gzip.compress(TAR[:700]) + gzip.compress(TAR[700:]) + bytes(100),
        zstandard.compress(TAR),
        zipped(*SOURCE),
        zipped(*SOURCE, packing=zipfile.ZIP_STORED),
        zipped(*SOURCE, ("__MACOSX/app/._Procfile", b"x", FILE)),
        tarred(*(member(name, content, mode=mode & 0o7777) for name, content, mode in SOURCE),
               form=tarfile.GNU_FORMAT),
    ],
    ids=["tar", "gzip", "two gzips", "zstd", "zip", "stored zip", "zip of a mac", "gnu tar"],
)  # fmt: skip
def test_what_is_in_the_only_folder_is_the_source(tmp_path: Path, content: bytes) -> None:
    root = unpack(tmp_path, content)
    assert sorted(each.name for each in root.iterdir()) == ["Procfile", "bin"]
    assert (root / "Procfile").read_bytes() == b"web: x\n"
    assert stat.S_IMODE((root / "bin/run").stat().st_mode) == 0o755, "no set-user-id"
    assert stat.S_IMODE((root / "Procfile").stat().st_mode) == 0o644


def test_a_folder_beside_a_file_stays(tmp_path: Path) -> None:
    root = unpack(tmp_path, tarred(member("./Procfile"), member("./a/b"), member(".", b"", type=b"5")))
    assert sorted(str(each.relative_to(root)) for each in root.rglob("*")) == ["Procfile", "a", "a/b"]


def test_odd_names_are_kept_as_they_are(tmp_path: Path) -> None:
    names = ["two\nlines", "\udcff\udcfe", "-rf", "a b", "\u202egpj"]
    root = unpack(tmp_path, tarred(*(member(name) for name in names)))
    assert sorted(each.name for each in root.iterdir()) == sorted(names)


def test_backslashes_of_another_system_are_folders(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in ("src\\app.py", "src\\lib\\x.py", "readme"):
            info = zipfile.ZipInfo(name)
            info.create_system = 0
            archive.writestr(info, b"x")
    root = unpack(tmp_path, buffer.getvalue())
    assert (root / "src/lib/x.py").is_file()
