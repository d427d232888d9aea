"""How long an instance rests between its ends and its starts, and what is a crash loop."""

from controller.backends.keeper.endurance import LASTS, Endurance


def crashes(
    endurance: Endurance, times: int, *, after: float = 1.0, now: float = 0.0
) -> tuple[float, list[float]]:
    """So many runs of `after` seconds each; when that was over, and how long it rested each time."""
    rests = []
    for _ in range(times):
        now += after
        endurance.ended(now)
        rests.append(endurance.rests_until - now)
        now = endurance.rests_until
        endurance.began(now)
    return now, rests


def test_first_start_is_at_once_and_the_others_wait_longer_and_longer():
    _, rests = crashes(Endurance(), 10)
    assert rests == [0, 1, 2, 4, 8, 16, 32, 60, 60, 60]


def test_five_ends_without_having_lasted_are_a_crash_loop_until_it_lasts():
    endurance = Endurance()
    now, _ = crashes(endurance, 4)
    assert not endurance.loops(now)
    now, _ = crashes(endurance, 1, now=now)
    assert endurance.loops(now)
    assert endurance.loops(now + LASTS - 1)
    assert not endurance.loops(now + LASTS)


def test_having_lasted_begins_the_count_anew():
    endurance = Endurance()
    now, _ = crashes(endurance, 4)
    now, rests = crashes(endurance, 1, after=LASTS, now=now)
    assert rests == [0]
    assert not endurance.loops(now)
