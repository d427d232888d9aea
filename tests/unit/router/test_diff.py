"""The steps between two tables, and the order that keeps requests served."""

from collections.abc import Mapping
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from router.diff import (
    AddPool,
    AddTarget,
    DrainTarget,
    DropDomain,
    DropPool,
    MoveTarget,
    PointDomain,
    SetGuards,
    Step,
    find_steps,
)
from router.memory import MemoryRouter
from router.model import TableModel
from router.types import Guard, GuardMode, Pool, Target

OLD = Target("foo-app-1-web-1", "127.0.0.1", 4001)
NEW = Target("foo-app-2-web-1", "127.0.0.1", 4002)


def table(*pools: Pool) -> Mapping[str, Pool]:
    return {pool.name: pool for pool in pools}


def pool(name: str, domains: str, *targets: Target) -> Pool:
    return Pool(name, frozenset(domains.split()), frozenset(targets))


def test_equal_tables_have_no_steps_between_them() -> None:
    assert find_steps(table(pool("a", "x.org", OLD)), table(pool("a", "x.org", OLD))) == ()


def test_new_target_comes_before_the_old_one_goes() -> None:
    assert find_steps(table(pool("a", "x.org", OLD)), table(pool("a", "x.org", NEW))) == (
        AddTarget("a", NEW),
        DrainTarget("a", OLD.id),
    )


def test_new_pool_has_its_targets_before_its_domains() -> None:
    assert find_steps({}, table(pool("a", "x.org", NEW))) == (
        AddPool("a"),
        AddTarget("a", NEW),
        PointDomain("x.org", "a"),
    )


def test_pool_that_goes_loses_domains_then_targets_then_itself() -> None:
    assert find_steps(table(pool("a", "x.org", OLD)), {}) == (
        DropDomain("x.org"),
        DrainTarget("a", OLD.id),
        DropPool("a"),
    )


def test_domain_that_moves_is_pointed_elsewhere_and_never_dropped() -> None:
    before = table(pool("a", "x.org", OLD), pool("b", ""))
    assert find_steps(before, table(pool("a", "", OLD), pool("b", "x.org"))) == (PointDomain("x.org", "b"),)
    assert DropDomain("x.org") not in find_steps(before, table(pool("c", "x.org")))


def test_guard_is_there_before_its_domain_and_goes_after_it() -> None:
    guard = Guard(GuardMode.BASIC, (("joe", "0"),))
    guarded = frozenset({("x.org", guard)})
    before = table(replace(pool("a", "x.org"), guards=guarded))
    assert find_steps(before, table(pool("a", ""), replace(pool("b", "x.org"), guards=guarded))) == (
        AddPool("b"),
        SetGuards("b", guarded),
        PointDomain("x.org", "b"),
        SetGuards("a", frozenset()),
    )


def test_target_with_a_new_address_moves_and_does_not_drain() -> None:
    moved = Target(OLD.id, "127.0.0.2", 4001)
    assert find_steps(table(pool("a", "", OLD)), table(pool("a", "", moved))) == (MoveTarget("a", moved),)


_GUARDS = [None, *(Guard(GuardMode.DIGEST, (("joe", digit * 32),)) for digit in "01")]
_TARGETS = [Target(f"t{number}", "127.0.0.1", 4000 + port) for number in range(4) for port in range(2)]


@st.composite
def tables(draw: st.DrawFn) -> Mapping[str, Pool]:
    owners = st.sampled_from(["a", "b", "c", None])
    names = draw(st.sets(st.sampled_from("abc")))
    domains = {each: draw(owners) for each in ("x.org", "y.org", "*.x.org")}
    targets = {draw(st.sampled_from(_TARGETS)).id: draw(owners) for _ in range(4)}
    asking = {each: draw(st.sampled_from(_GUARDS)) for each in domains}
    places = {each: draw(st.sampled_from([t for t in _TARGETS if t.id == each])) for each in targets}
    return {
        name: Pool(
            name,
            frozenset(domain for domain, owner in domains.items() if owner == name),
            frozenset(places[target] for target, owner in targets.items() if owner == name),
            guards=frozenset(
                (domain, guard)
                for domain, owner in domains.items()
                if owner == name and (guard := asking[domain]) is not None
            ),
        )
        for name in names
    }


def guards_of(pools: Mapping[str, Pool]) -> Mapping[str, Guard | None]:
    """Of each domain that leads somewhere."""
    return {domain: dict(each.guards).get(domain) for each in pools.values() for domain in each.domains}


@given(tables(), tables())
def test_no_domain_has_another_guard_on_the_way_than_before_and_after(
    before: Mapping[str, Pool], after: Mapping[str, Pool]
) -> None:
    model = TableModel(before)
    for step in find_steps(before, after):
        model.take([step])
        for domain, guard in guards_of(model.pools).items():
            assert guard in [of[domain] for of in (guards_of(before), guards_of(after)) if domain in of], step


@given(tables(), tables())
async def test_any_table_leads_to_any_other_and_then_rests(
    before: Mapping[str, Pool], after: Mapping[str, Pool]
) -> None:
    router = MemoryRouter()
    await router.apply(before.values())
    await router.apply(after.values())
    assert (await router.table()).pools == after
    steps: tuple[Step, ...] = find_steps((await router.table()).pools, after)
    assert steps == ()
