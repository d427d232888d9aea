"""Which versions go."""

from collections.abc import Sequence

import pytest

from controller.types import Service, Version, VersionStatus
from controller.upkeep.retention import needed_versions, surplus_versions
from tests.factories import service, version

LIVE, OLD = VersionStatus.LIVE, VersionStatus.SUPERSEDED
FAILED, PENDING, CANCELED = VersionStatus.FAILED, VersionStatus.PENDING, VersionStatus.CANCELED


def history(*statuses: VersionStatus) -> list[Version]:
    """v1, v2, … newest first."""
    made = [version(number, status=status) for number, status in enumerate(statuses, 1)]
    return made[::-1]


def surplus(
    of: Service, versions: Sequence[Version], keep: int, running: frozenset[int] = frozenset()
) -> list[int]:
    return [each.number for each in surplus_versions(of, versions, running=running, keep=keep)]


@pytest.mark.parametrize(
    ("keep", "running", "expected"),
    [
        (6, (), []),
        (3, (), [1, 2, 3]),
        (2, (), [1, 2, 3, 4]),
        (1, (), [1, 2, 3, 4]),  # v5 is what a rollback goes back to
        (0, (), [1, 2, 3, 4]),
        (2, (2, 4), [1, 3]),
    ],
)
def test_the_newest_stay_and_what_runs(keep: int, running: tuple[int, ...], expected: list[int]) -> None:
    settled = service(current=6, target=6, latest=6)
    versions = history(OLD, OLD, OLD, OLD, OLD, LIVE)
    assert surplus(settled, versions, keep, frozenset(running)) == expected


def test_what_serves_stays_however_old_it_is() -> None:
    versions = history(OLD, LIVE, FAILED, FAILED, FAILED, PENDING)
    rolling = service(current=2, target=6, latest=6)
    assert surplus(rolling, versions, keep=1) == [3, 4, 5]


def test_the_newest_that_was_live_stays_behind_those_that_failed() -> None:
    versions = history(OLD, OLD, FAILED, CANCELED, LIVE)
    assert surplus(service(current=5, target=5, latest=5), versions, keep=1) == [1, 3, 4]


def test_what_was_overtaken_before_it_served_is_nothing_to_go_back_to() -> None:
    overtaken = version(2, status=OLD, failure="v3 was wanted before it was live")
    versions = [version(3, status=LIVE), overtaken, version(1, status=OLD)]
    assert surplus(service(current=3, target=3, latest=3), versions, keep=1) == [2]


def test_where_nothing_serves_the_newest_stays_as_config_goes_on_with_its_code() -> None:
    assert surplus(service(latest=3), history(FAILED, FAILED, FAILED), keep=1) == [1, 2]


def test_needed_are_what_serves_what_is_on_its_way_what_runs_and_the_way_back() -> None:
    versions = history(OLD, OLD, OLD, LIVE, PENDING)
    assert needed_versions(service(current=4, target=5, latest=5), versions, frozenset({1})) == {1, 3, 4, 5}
