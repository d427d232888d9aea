"""Who belongs to an instance, decided over made-up process tables."""

import os
import time

from controller.backends.keeper.processes import Census, CensusTaker, Family, Process


def census(*rows: tuple[int, int, int, int, int], zombie: int = 0, **markers: int) -> Census:
    """Rows of pid, parent, group, session, started."""
    processes = {row[0]: Process(*row, zombie=row[0] == zombie) for row in rows}
    return Census(processes, {pid: f"realm/{name}" for name, pid in markers.items()})


BASE = 10**7
"""No process of this machine has such an id."""
LEADER = Family("realm/foo", frozenset({(BASE, 50)}))


def test_group_session_and_descendants_belong() -> None:
    found = census(
        (BASE, 1, BASE, BASE, 50),
        (BASE + 1, BASE, BASE + 1, BASE, 51),
        (BASE + 2, BASE + 1, BASE + 2, BASE + 2, 52),
        (BASE + 3, 1, BASE + 3, BASE + 3, 53),
    )
    assert LEADER.members(found) == {BASE, BASE + 1, BASE + 2}


def test_session_of_a_leader_that_is_gone_still_counts() -> None:
    assert LEADER.members(census((BASE + 1, 1, BASE + 1, BASE, 51))) == {BASE + 1}


def test_reused_process_id_is_a_stranger() -> None:
    assert LEADER.members(census((BASE, 1, BASE, BASE, 99), (BASE + 1, BASE, BASE, BASE, 100))) == set()


def test_zombies_do_not_count_but_their_children_do() -> None:
    found = census((BASE, 1, BASE, BASE, 50), (BASE + 1, BASE, 1, 1, 51), zombie=BASE)
    assert LEADER.members(found) == {BASE + 1}


def test_marked_processes_belong_and_those_of_a_neighbour_do_not() -> None:
    found = census((BASE + 1, 1, 1, 1, 1), (BASE + 2, 1, 1, 1, 1), foo=BASE + 1, foobar=BASE + 2)
    assert LEADER.members(found) == {BASE + 1}
    assert Family("realm/").members(found) == {BASE + 1, BASE + 2}
    assert Family("other/").members(found) == set()


def test_census_is_shared_for_a_moment_but_never_older_than_asked() -> None:
    taker = CensusTaker(share=1e-6)
    first = taker.recent()
    assert taker.recent() is first
    assert taker.recent(since=time.monotonic()) is not first


def test_real_census_knows_this_process() -> None:
    assert Census.take().processes[os.getpid()].parent == os.getppid()
