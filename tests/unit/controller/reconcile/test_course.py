"""Tables: the steps of each strategy, and what holds a rollout."""

from dataclasses import replace
from datetime import timedelta

import pytest

from controller.reconcile.actions import GiveUp, Promote, Route, Start, Stop
from controller.types import Definition, HealthCheck, InstanceState, Rollout, Strategy, VersionStatus
from tests.factories import NOW, instance, version
from tests.unit.controller.reconcile.test_plan import desired, look, plan, pool, release


def rolling(strategy, *, generation=1, number=2, quantities=None, rollout=None, **changes):
    """From v1 to v2 of three web instances, unless said otherwise."""
    made = rollout or Rollout(strategy=strategy)
    quantities = quantities or {"web": 3}
    goal = release(number, generation, **quantities)
    goal = replace(goal, version=version(number, definition=Definition(rollout=made)))
    values = {"target": number, "generation": generation, "rollout_started_at": NOW} | changes
    return desired(goal=goal, serving=release(1, **quantities), **values)


def kinds(made):
    return [type(each) for each in made.actions]


OLD = [instance(1, number) for number in (1, 2, 3)]
NEW = [instance(2, number) for number in (1, 2, 3)]


def test_one_by_one_starts_one_beside_the_old_ones():
    made = plan(rolling(Strategy.ONE_BY_ONE), look(*OLD, routed=OLD))
    assert [each.spec.id for each in made.actions] == ["foo-app-2-web-1"]


def test_one_by_one_routes_the_new_one_beside_the_old_ones_first():
    made = plan(rolling(Strategy.ONE_BY_ONE), look(*OLD, NEW[0], routed=OLD))
    assert [(each.pool, each.reason) for each in made.actions] == [
        (pool(*OLD, NEW[0]), "v2 serves with 1 instance beside 3 of v1")
    ]


def test_one_by_one_takes_an_old_one_away_then_and_starts_the_next_once_it_is_gone():
    wanted = rolling(Strategy.ONE_BY_ONE)
    first = plan(wanted, look(*OLD, NEW[0], routed=[*OLD, NEW[0]]))
    assert [each.pool for each in first.actions] == [pool(*OLD[:2], NEW[0])]
    seen = look(
        *OLD, NEW[0], routed=[*OLD[:2], NEW[0]], draining={OLD[2].id: 1}, draining_since={OLD[2].id: NOW}
    )
    assert (kinds(plan(wanted, seen)), plan(wanted, seen).waiting) == (
        [],
        "foo-app-1-web-3 finishes 1 request",
    )
    second = plan(wanted, look(*OLD, NEW[0], routed=[*OLD[:2], NEW[0]]))
    assert [each.instance for each in second.actions] == [OLD[2].id]
    stops = look(*OLD, NEW[0], routed=[*OLD[:2], NEW[0]], stopping=frozenset({OLD[2].id}))
    assert kinds(plan(wanted, stops)) == []
    third = plan(wanted, look(*OLD[:2], NEW[0], routed=[*OLD[:2], NEW[0]]))
    assert [each.spec.id for each in third.actions] == ["foo-app-2-web-2"]


def test_last_one_is_promoted_when_only_the_new_ones_are_routed():
    wanted = rolling(Strategy.ONE_BY_ONE)
    beside = plan(wanted, look(OLD[0], *NEW, routed=[OLD[0], *NEW]))
    assert [each.pool for each in beside.actions if isinstance(each, Route)] == [pool(*NEW)]
    assert kinds(plan(wanted, look(OLD[0], *NEW, routed=NEW))) == [Promote]


def test_batch_goes_on_only_when_all_of_it_is_ready():
    wanted = rolling(None, rollout=Rollout(strategy=Strategy.BATCH, size=2))
    first = plan(wanted, look(*OLD, routed=OLD))
    assert [each.spec.number for each in first.actions] == [1, 2]
    assert kinds(plan(wanted, look(*OLD, *NEW[:2], ready=[*OLD, NEW[0]], routed=OLD))) == []
    both = plan(wanted, look(*OLD, *NEW[:2], routed=OLD))
    assert [each.pool for each in both.actions] == [pool(*OLD, *NEW[:2])]
    leave = plan(wanted, look(*OLD, *NEW[:2], routed=[*OLD, *NEW[:2]]))
    assert [each.pool for each in leave.actions] == [pool(OLD[0], *NEW[:2])]


def test_worker_rolls_in_the_same_steps():
    old = [instance(1, number, "worker") for number in (1, 2)]
    new = instance(2, 1, "worker")
    wanted = rolling(Strategy.ONE_BY_ONE, quantities={"worker": 2})
    first = plan(wanted, look(*old, routed=[]))
    assert [each.spec.id for each in first.actions] == [new.id]
    assert kinds(plan(wanted, look(*old, new, ready=old, routed=[]))) == []
    second = plan(wanted, look(*old, new, routed=[]))
    assert [(type(each), each.instance) for each in second.actions] == [(Stop, old[1].id)]


def test_restart_goes_by_the_strategy_too():
    new = instance(1, 4, generation=2)
    wanted = rolling(Strategy.ONE_BY_ONE, number=1, generation=2)
    first = plan(wanted, look(*OLD, routed=OLD))
    assert [(each.spec.id, each.reason) for each in first.actions] == [(new.id, "restart")]
    assert kinds(plan(wanted, look(*OLD, new, routed=OLD))) == [Route]


def test_first_version_comes_up_at_once_whatever_the_strategy():
    goal = replace(
        release(1, web=3),
        version=version(1, definition=Definition(rollout=Rollout(strategy=Strategy.CANARY))),
    )
    assert kinds(plan(desired(goal=goal), look())) == [Start, Start, Start]


def test_crash_in_the_middle_gives_it_up_and_the_old_ones_come_back_before_the_new_ones_leave():
    down = replace(NEW[1], state=InstanceState.CRASHED, detail="exited with status 1")
    given_up = plan(
        rolling(Strategy.ONE_BY_ONE),
        look(OLD[0], NEW[0], down, ready=[OLD[0], NEW[0]], routed=[OLD[0], *NEW[:2]]),
    )
    assert given_up.actions[0].reason == "foo-app-2-web-2 exited with status 1 while it took requests"
    back = desired(goal=release(1, web=3), serving=release(1, web=3))
    seen = {"ready": [OLD[0], NEW[0]], "routed": [OLD[0], NEW[0]]}
    starts = plan(back, look(OLD[0], NEW[0], **seen))
    assert [each.spec.id for each in starts.actions] == [OLD[1].id, OLD[2].id]
    assert kinds(plan(back, look(*OLD, NEW[0], **seen))) == []
    one = plan(back, look(*OLD, NEW[0], ready=[*OLD[:2], NEW[0]], routed=[OLD[0], NEW[0]]))
    assert [each.pool for each in one.actions] == [pool(*OLD[:2], NEW[0])]
    both = plan(back, look(*OLD, NEW[0], routed=[*OLD[:2], NEW[0]]))
    assert [each.pool for each in both.actions] == [pool(*OLD)]
    assert [each.instance for each in plan(back, look(*OLD, NEW[0], routed=OLD)).actions] == [NEW[0].id]


def test_new_controller_does_not_take_working_instances_for_missing_ones():
    old, new = instance(1, 1, "worker"), [instance(2, number, "worker") for number in (1, 2)]
    wanted = rolling(Strategy.ONE_BY_ONE, quantities={"worker": 3})
    assert kinds(plan(wanted, look(old, *new, ready=[], routed=[]))) == []


def test_lost_old_instance_is_replaced_while_it_is_still_needed():
    made = plan(rolling(Strategy.CANARY), look(*OLD[:2], NEW[0], routed=[*OLD[:2], NEW[0]]))
    assert [(each.spec.id, each.reason) for each in made.actions] == [
        (OLD[2].id, "v1 is needed until v2 has taken over")
    ]


# Canaries


@pytest.mark.parametrize(
    ("quantity", "share", "count"), [(1, 10, 1), (3, 10, 1), (4, 25, 1), (5, 25, 2), (4, 100, 4)]
)
def test_canary_is_a_share_rounded_up(quantity, share, count):
    rollout = Rollout(strategy=Strategy.CANARY, share=share)
    made = plan(rolling(None, rollout=rollout, quantities={"web": quantity}), look(routed=[]))
    starts = [each for each in made.actions if isinstance(each, Start) and each.spec.version == 2]
    assert len(starts) == count


def test_canary_has_no_worker_unless_there_is_nothing_else():
    both = plan(rolling(Strategy.CANARY, quantities={"web": 2, "worker": 2}), look(routed=[]))
    assert [each.spec.process_type for each in both.actions if each.spec.version == 2] == ["web"]
    alone = plan(rolling(Strategy.CANARY, quantities={"worker": 2}), look(routed=[]))
    assert [each.spec.process_type for each in alone.actions if each.spec.version == 2] == ["worker"]


def test_canary_waits_beside_all_old_ones_and_says_until_when():
    wanted = rolling(Strategy.CANARY)
    route = plan(wanted, look(*OLD, NEW[0], routed=OLD))
    assert [each.pool for each in route.actions] == [pool(*OLD, NEW[0])]
    waits = plan(wanted, look(*OLD, NEW[0], routed=[*OLD, NEW[0]]))
    assert (waits.actions, waits.pending, waits.again_at) == ((), None, NOW + timedelta(hours=1))
    assert waits.awaiting == (
        "v2 runs as a canary with 1 instance beside v1: deploy:promote lets it take over, deploy:abort ends it; "
        "at 2026-01-01 13:00 UTC it is aborted by itself"
    )


def test_promoted_canary_is_completed_and_takes_over():
    wanted = rolling(Strategy.CANARY, promoted=(2, 1))
    more = plan(wanted, look(*OLD, NEW[0], routed=[*OLD, NEW[0]]))
    assert [each.spec.number for each in more.actions] == [2, 3]
    switch = plan(wanted, look(*OLD, *NEW, routed=[*OLD, NEW[0]]))
    assert [each.pool for each in switch.actions] == [pool(*NEW)]
    assert kinds(plan(wanted, look(*OLD, *NEW, routed=NEW))) == [Promote]


def test_canary_that_nobody_promotes_is_canceled_at_the_end_of_its_time():
    made = plan(rolling(Strategy.CANARY), look(*OLD, NEW[0], routed=[*OLD, NEW[0]]), NOW + timedelta(hours=1))
    assert made.actions == (
        GiveUp(
            key=("foo", "app"),
            version=2,
            generation=1,
            instances=(),
            reason="nobody promoted its canary within 1 h",
            status=VersionStatus.CANCELED,
        ),
    )


def test_canary_that_crashes_has_failed():
    down = replace(NEW[0], state=InstanceState.CRASHED, detail="exited with status 1")
    made = plan(rolling(Strategy.CANARY), look(*OLD, down, ready=OLD, routed=[*OLD, down]))
    assert [(type(each), each.status) for each in made.actions] == [(GiveUp, VersionStatus.FAILED)]


def test_canary_of_a_service_that_is_scaled_to_none_needs_no_promotion():
    assert kinds(plan(rolling(Strategy.CANARY, quantities={"web": 0}), look(routed=[]))) == [Promote]


# Held rollouts


@pytest.mark.parametrize("strategy", Strategy)
def test_paused_rollout_takes_no_further_step(strategy):
    wanted = rolling(strategy, paused=True)
    for seen in (
        look(*OLD, routed=OLD),
        look(*OLD, NEW[0], routed=OLD),
        look(*OLD, *NEW, routed=[*OLD, NEW[0]]),
    ):
        made = plan(wanted, seen, NOW + timedelta(days=1))
        assert (made.actions, made.again_at) == ((), None)
        assert (
            made.awaiting == "the rollout of v2 is paused: deploy:resume lets it go on, deploy:cancel ends it"
        )


def test_paused_rollout_is_not_given_up_and_what_serves_is_made_whole():
    down = replace(NEW[0], state=InstanceState.CRASHED)
    seen = look(*OLD[:2], down, ready=OLD[:2], routed=[*OLD[:2], down])
    made = plan(rolling(Strategy.ONE_BY_ONE, paused=True), seen)
    assert [each.spec.id for each in made.actions if isinstance(each, Start)] == [OLD[2].id]
    assert [each.pool for each in made.actions if isinstance(each, Route)] == [pool(*OLD[:2])]


def test_what_stopped_first_and_has_begun_anew_is_held_no_more():
    wanted = rolling(Strategy.STOP_FIRST, paused=True)
    made = plan(wanted, look(*NEW[:2], routed=[]))
    assert [each.spec.id for each in made.actions if isinstance(each, Start)] == [NEW[2].id]
    nothing = plan(wanted, look(routed=[]))
    assert {each.spec.version for each in nothing.actions if isinstance(each, Start)} == {1}


def test_pause_that_is_left_over_holds_nothing_that_is_settled():
    settled = desired(goal=release(1), serving=release(1), paused=True)
    assert kinds(plan(settled, look(routed=[]))) == [Start]


# Checks by process type


def test_patience_and_what_is_asked_go_by_process_type():
    checks = {"worker": HealthCheck(command="test -e ready", timeout=5), "clock": HealthCheck(uptime=90)}
    definition = Definition(health=HealthCheck(path="/up", timeout=None, settle=2), checks=checks)
    goal = replace(release(1, web=1, worker=1, clock=1), version=version(1, definition=definition))
    assert goal.check("web") == definition.health
    assert goal.check("other") == HealthCheck(settle=2)
    assert goal.check("") == definition.health
    web, worker, clock = instance(1), instance(1, 1, "worker"), instance(1, 1, "clock")
    all_of_them = [web, worker, clock]

    def after(seconds, ready):
        since = dict.fromkeys((each.id for each in all_of_them), NOW)
        seen = look(*all_of_them, ready=ready, probed_since=since)
        made = plan(desired(goal=goal), seen, NOW + timedelta(seconds=seconds))
        return [each.reason for each in made.actions if isinstance(each, GiveUp)]

    assert after(6, [web, clock]) == ["foo-app-1-worker-1 was not healthy after 5 s: no probe has ended"]
    assert after(149, [web, worker]) == []
    assert after(151, [web, worker]) == ["foo-app-1-clock-1 was not healthy after 150 s: no probe has ended"]
