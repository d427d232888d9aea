"""Whom the USER of an image means."""

import base64
import io
import json
import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.backends.docker.user import (
    GROUP,
    PASSWD,
    STAT_HEADER,
    Told,
    UnknownUser,
    files_needed,
    is_root,
    owner_of,
    text_of,
    told,
)
from controller.backends.owners import Owner

FILES = {
    PASSWD: "root:x:0:0:root:/root:/bin/bash\n"
    "# a comment\n"
    "broken\n"
    "odd:x:many:7::/:\n"
    "short:x:1010\n"
    "app:x:1001:1002:The app:/home/app:/bin/sh\r\n"
    "app:x:1003:1004:Another of that name:/:/bin/sh\n"
    "2000:x:1005:1006:A name of digits:/:/bin/sh\n"
    "far:x:4294967295:1::/:\n",
    GROUP: "root:x:0:\ncrew:x:1777:app\ncrew:x:1778:\n3000:x:1779:\n",
}


@pytest.mark.parametrize(
    ("user", "owner"),
    [
        ("app", Owner(1001, 1002)),
        ("app:", Owner(1001, 1002)),
        ("app:crew", Owner(1001, 1777)),
        ("app:44", Owner(1001, 44)),
        ("1001", Owner(1001, 1002)),
        ("1005", Owner(1005, 1006)),
        ("2000", Owner(2000, 0)),
        ("+7:8", Owner(7, 8)),
        ("42001", Owner(42001, 0)),
        ("short", Owner(1010, 0)),
        ("1001:crew", Owner(1001, 1777)),
        ("1001:3000", Owner(1001, 3000)),
        ("2147483647:0", Owner(2147483647, 0)),
    ],
)
def test_names_and_numbers_mean_whom_an_engine_takes_them_for(user: str, owner: Owner) -> None:
    assert owner_of(user, FILES) == owner


@pytest.mark.parametrize(
    ("user", "words"),
    [
        ("nobody-here", "/etc/passwd has no user 'nobody-here'"),
        ("odd", "has no user 'odd'"),
        ("broken", "has no user 'broken'"),
        ("app:nobody", "/etc/group has no group 'nobody'"),
        ("far", "4294967295 is no number"),
        ("2147483648", "2147483648 is no number"),
        ("-1", "-1 is no number"),
        ("1001:-1", "-1 is no number"),
        ("\N{SUPERSCRIPT TWO}", "has no user"),
    ],
)
def test_whom_an_image_does_not_have_is_named(user: str, words: str) -> None:
    with pytest.raises(UnknownUser) as caught:
        owner_of(user, FILES)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("user", "files"),
    [
        ("1001:1002", ()),
        ("1001", (PASSWD,)),
        ("app", (PASSWD,)),
        ("app:1002", (PASSWD,)),
        ("1001:crew", (GROUP,)),
        ("app:crew", (PASSWD, GROUP)),
    ],
)
def test_only_the_files_that_are_needed_are_asked_for(user: str, files: tuple[str, ...]) -> None:
    assert files_needed(user) == files


@pytest.mark.parametrize("user", ["", "root", "0", "root:crew", "0:0", ":crew"])
def test_root_is_known_without_any_file(user: str) -> None:
    assert is_root(user)


@given(st.text(max_size=30), st.text(max_size=200), st.text(max_size=200))
def test_no_text_is_too_odd(user: str, passwd: str, group: str) -> None:
    try:
        found = owner_of(user, {PASSWD: passwd, GROUP: group})
    except UnknownUser:
        return
    assert 0 <= found.uid < 2**31 and 0 <= found.gid < 2**31


# What an engine answers


def head(mode: int, link: str = "", size: int = 962) -> dict[str, str]:
    said = {"name": "passwd", "size": size, "mode": mode, "mtime": "", "linkTarget": link}
    return {STAT_HEADER: base64.b64encode(json.dumps(said).encode()).decode()}


def test_files_links_and_others_are_told_apart() -> None:
    assert told(head(0o644)) == Told(size=962, is_file=True)
    assert told(head(0o777 | 1 << 27, "/usr/etc/passwd")) == Told(
        size=962, is_file=False, link="/usr/etc/passwd"
    )
    for bit in (31, 26, 25, 24, 21, 19):
        assert not told(head(0o644 | 1 << bit)).is_file
    assert not told(head(0o777 | 1 << 27)).link


@pytest.mark.parametrize("said", ["", "?", "bm8=", "W10=", "e30="])
def test_answer_that_says_nothing_is_no_file(said: str) -> None:
    with pytest.raises(ValueError):
        told({STAT_HEADER: said})


def packed(kind: bytes, content: bytes = b"") -> bytes:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as archive:
        member = tarfile.TarInfo("passwd")
        member.type, member.size, member.linkname = kind, len(content), "/etc/shadow"
        archive.addfile(member, io.BytesIO(content))
    return target.getvalue()


def test_text_is_that_of_the_one_file() -> None:
    assert text_of(packed(tarfile.REGTYPE, b"app:x:1:2\n\xff")) == "app:x:1:2\n\N{REPLACEMENT CHARACTER}"


@pytest.mark.parametrize(
    "tar",
    [b"", b"x" * 600, packed(tarfile.SYMTYPE), packed(tarfile.FIFOTYPE), packed(tarfile.REGTYPE, b"x" * 9000)[:2000]],
)  # fmt: skip
def test_what_has_no_file_has_no_text(tar: bytes) -> None:
    with pytest.raises(ValueError):
        text_of(tar)
