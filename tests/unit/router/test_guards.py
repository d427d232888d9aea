"""What a guard is made of, and its text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.guards import guards_text, is_sound, parse_guards, password_hash
from router.types import Guard, GuardMode

HASHES = {
    GuardMode.DIGEST: password_hash(GuardMode.DIGEST, "Mufasa", "Circle of Life", ""),
    GuardMode.BASIC: password_hash(GuardMode.BASIC, "joe", "secret", "5a17"),
}


def test_hashes_are_those_that_others_make() -> None:
    # md5sum and sha256sum of "Mufasa:protected:Circle of Life" and "5a17secret".
    assert HASHES[GuardMode.DIGEST] == "46ab8a96e1dc0365fef3a14f90bf0429"
    assert HASHES[GuardMode.BASIC] == "5a17$4554e5f66babb6301f5d2f52495cfdb0c040c0dfac2a64f90a77ebfda301ea9f"


def test_salt_and_name_tell_hashes_of_one_password_apart() -> None:
    one, other = (password_hash(GuardMode.BASIC, "joe", "secret", salt) for salt in ("00", "01"))
    assert one[3:] != other[3:]
    one, other = (password_hash(GuardMode.DIGEST, name, "secret", "") for name in ("joe", "kim"))
    assert one != other


def test_equal_guards_of_many_domains_share_a_line() -> None:
    guard = Guard(GuardMode.DIGEST, (("joe", "0" * 32), ("kim", "1" * 32)))
    text = guards_text([("b.org", guard), ("*.a.org", guard)])
    assert text == f"digest *.a.org,b.org joe={'0' * 32} kim={'1' * 32}\n"


@pytest.mark.parametrize(
    "users",
    [
        (),
        (("joe", "0" * 31),),
        (("joe", HASHES[GuardMode.BASIC]),),
        (("jo e", "0" * 32),),
        (("jo:e", "0" * 32),),
        (("", "0" * 32),),
        (("j" * 65, "0" * 32),),
    ],
)
def test_unfit_users_make_no_sound_guard(users: tuple[tuple[str, str], ...]) -> None:
    assert not is_sound(Guard(GuardMode.DIGEST, users))


NAMES = st.text("aZ9._@+-", min_size=1, max_size=9)


@st.composite
def guards(draw: st.DrawFn) -> Guard:
    mode = draw(st.sampled_from(GuardMode))
    names = sorted(draw(st.sets(NAMES, min_size=1, max_size=4)))
    return Guard(
        mode,
        tuple((name, password_hash(mode, name, draw(st.text("a%=$ ü", max_size=5)), "ab")) for name in names),
    )


@given(st.dictionaries(st.sampled_from(["a.org", "*.a.org", "b.org"]), guards()))
def test_guards_are_read_back_from_their_text(given: dict[str, Guard]) -> None:
    assert all(is_sound(each) for each in given.values())
    assert parse_guards(guards_text(given.items())) == frozenset(given.items())
