"""Who belongs to an instance, decided over made-up process tables."""

from controller.backends.keeper.processes import Family, Process, descendants


def table(*rows: tuple[int, int, int, int, int]) -> dict[int, Process]:
    """Rows of pid, parent, group, session, started; ids are far above any real one."""
    return {row[0]: Process(*row, zombie=False) for row in rows}


BASE = 10**7
"""No process of this machine has such an id, so that no environment is read."""
LEADER = Family("realm/foo", frozenset({(BASE, 50)}))


def test_group_session_and_descendants_belong() -> None:
    found = table(
        (BASE, 1, BASE, BASE, 50),
        (BASE + 1, BASE, BASE + 1, BASE, 51),
        (BASE + 2, BASE + 1, BASE + 2, BASE + 2, 52),
        (BASE + 3, 1, BASE + 3, BASE + 3, 53),
    )
    assert LEADER.members(found) == {BASE, BASE + 1, BASE + 2}


def test_session_of_a_leader_that_is_gone_still_counts() -> None:
    assert LEADER.members(table((BASE + 1, 1, BASE + 1, BASE, 51))) == {BASE + 1}


def test_reused_process_id_is_a_stranger() -> None:
    assert LEADER.members(table((BASE, 1, BASE, BASE, 99), (BASE + 1, BASE, BASE, BASE, 100))) == set()


def test_zombies_do_not_count_but_their_children_do() -> None:
    found = table((BASE, 1, BASE, BASE, 50), (BASE + 1, BASE, 1, 1, 51))
    found[BASE] = Process(BASE, 1, BASE, BASE, 50, zombie=True)
    assert LEADER.members(found) == {BASE + 1}


def test_descendants_are_all_below_and_not_itself() -> None:
    found = table(
        (BASE, 1, 1, 1, 1), (BASE + 1, BASE, 1, 1, 1), (BASE + 2, BASE + 1, 1, 1, 1), (BASE + 3, 1, 1, 1, 1)
    )
    assert descendants(BASE, found) == {BASE + 1, BASE + 2}
