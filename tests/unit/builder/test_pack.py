import os
import tarfile

from hypothesis import given
from hypothesis import strategies as st

from builder.pack import BLOCK, blocks_of, header

NAMES = st.one_of(
    st.text(st.characters(codec="ascii", exclude_characters="\0"), min_size=1, max_size=120),
    st.binary(min_size=1, max_size=110).filter(lambda name: b"\0" not in name).map(os.fsdecode),
)
SIZES = st.one_of(st.integers(0, 10**7), st.sampled_from([8**11 - 1, 8**11, 8**12]))


def by_tarfile(path, kind, mode, size, target):
    member = tarfile.TarInfo(path)
    member.type, member.mode, member.size, member.linkname = kind, mode, size, target
    return member.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")


@given(NAMES.map(lambda name: name.rstrip("/") or "x"), SIZES, st.sampled_from([0o644, 0o755]))
def test_the_header_of_a_file_is_the_one_of_tarfile(path, size, mode):
    assert header(path, tarfile.REGTYPE, mode, size=size) == by_tarfile(path, tarfile.REGTYPE, mode, size, "")


@given(NAMES.map(lambda name: name.rstrip("/") or "x"), NAMES)
def test_the_headers_of_folders_and_links_are_those_of_tarfile(path, target):
    folder, link = (tarfile.DIRTYPE, 0o755), (tarfile.SYMTYPE, 0o777)
    assert header(path, *folder) == by_tarfile(path, *folder, 0, "")
    assert header(path, *link, target=target) == by_tarfile(path, *link, 0, target)


@given(st.lists(st.sampled_from([b"x" * 512, b"y" * 2 * BLOCK]), max_size=20))
def test_blocks_hold_the_same_bytes(pieces):
    blocks = list(blocks_of(pieces))
    assert b"".join(blocks) == b"".join(pieces)
    assert all(len(block) >= BLOCK for block in blocks[:-1])
