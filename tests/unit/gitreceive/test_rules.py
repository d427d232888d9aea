import pytest

from controller.names import Address
from gitreceive.rules import Rules, Update

OLD, NEW, ZERO = b"1" * 40, b"2" * 40, b"0" * 40
RULES = Rules(Address("foo"), ("master", "main"))


def put(ref: str) -> Update:
    return Update(ref.encode(), ZERO, NEW)


def drop(ref: str) -> Update:
    return Update(ref.encode(), OLD, ZERO)


@pytest.mark.parametrize(
    "updates",
    [
        [put("refs/heads/master")],
        [put("refs/heads/main"), put("refs/heads/feature"), put("refs/tags/v1")],
        [drop("refs/heads/feature")],
        [put("refs/heads/master"), drop("refs/heads/feature")],
        [put("refs/tags/master"), put("refs/heads/master")],
    ],
)
def test_ordinary_pushes_are_let_in(updates: list[Update]) -> None:
    assert RULES.refusal(updates, missing_shallow=False) is None


@pytest.mark.parametrize(
    ("updates", "short"),
    [
        ([put("refs/heads/master"), put("refs/heads/main")], "several deploy branches"),
        ([drop("refs/heads/master")], "deploy branch"),
        ([put("refs/heads/master"), drop("refs/heads/main")], "deploy branch"),
        ([put("HEAD")], "funny refname"),
        ([put("refs/heads/../../x")], "funny refname"),
        ([put("refs/heads/a.lock")], "funny refname"),
        ([put("refs/heads/x"), put("refs/heads/x")], "ref named twice"),
    ],
)
def test_what_can_not_be_taken_is_refused_from_the_commands_alone(updates: list[Update], short: str) -> None:
    refusal = RULES.refusal(updates, missing_shallow=False)
    assert refusal is not None
    assert refusal[0] == short


def test_shallow_history_is_refused_with_the_way_out() -> None:
    refusal = RULES.refusal([put("refs/heads/feature")], missing_shallow=True)
    assert refusal is not None
    assert "git fetch --unshallow" in refusal[1]


def test_service_with_other_deploy_branches_lets_master_go() -> None:
    rules = Rules(Address("foo"), ("production",))
    assert rules.refusal([drop("refs/heads/master")], missing_shallow=False) is None
