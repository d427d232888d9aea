"""Tables: what should be, what is → what is done, and why."""

from dataclasses import replace
from datetime import timedelta

from controller.reconcile.actions import ClearWishes, GiveUp, KeepReplaced, Promote, Route, Start, Stop
from controller.reconcile.desired import DesiredService, ProcessGroup, Release
from controller.reconcile.observed import ObservedService
from controller.reconcile.plan import plan_orphans, plan_service
from controller.reconcile.timing import Timing
from controller.types import Definition, Guard, GuardMode, HealthCheck, InstanceState, Raise
from router.types import Guard as RoutedGuard
from router.types import GuardMode as RoutedMode
from router.types import Pool, Target
from tests.factories import NOW, instance, service, version

DOMAINS = frozenset({"foo.localhost"})


def release(number=1, generation=1, *, withdrawn=(), replacing=(), **quantities):
    groups = tuple(
        ProcessGroup(process_type=kind, quantity=quantity, command=f"run {kind}", env={})
        for kind, quantity in (quantities or {"web": 1}).items()
    )
    return Release(
        version=version(number),
        generation=generation,
        groups=groups,
        withdrawn=frozenset(each.id for each in withdrawn),
        replacing=frozenset(each.id for each in replacing),
    )


def desired(goal=None, serving=None, **changes):
    return DesiredService(
        service=service(latest=1, **{"current": serving.version.number if serving else None, **changes}),
        domains=DOMAINS,
        goal=goal,
        serving=serving,
    )


def pool(*instances):
    targets = frozenset(Target(each.id, each.address, each.port) for each in instances)
    return Pool(name="foo/app", domains=DOMAINS, targets=targets)


def look(*instances, ready=None, routed=None, **changes):
    """An observation in which all instances are ready unless said otherwise."""
    return ObservedService(
        instances=instances,
        ready=frozenset(each.id for each in (instances if ready is None else ready)),
        pool=None if routed is None else pool(*routed),
        **changes,
    )


def plan(wanted, seen, now=NOW):
    return plan_service(wanted, seen, now, Timing(drain_timeout=30, stop_grace=10))


def test_first_version_starts_its_instances_and_says_why():
    made = plan(desired(goal=release(1, web=2)), look())
    assert [each.spec.id for each in made.actions] == ["foo-app-1-web-1", "foo-app-1-web-2"]
    assert made.actions[0].reason == "v1, push 1"
    assert made.actions[0].spec.wants_port


def test_worker_gets_no_port_and_no_route():
    made = plan(desired(goal=release(1, worker=1)), look())
    assert not made.actions[0].spec.wants_port
    worker, old = instance(2, process_type="worker"), instance(1, process_type="worker")
    wanted = desired(goal=release(2, worker=1), serving=release(1, worker=1))
    made = plan(wanted, look(old, worker, routed=[]))
    assert isinstance(made.actions[0], Promote)


def test_instance_that_is_not_ready_is_waited_for_with_its_last_probe():
    new = instance()
    made = plan(
        desired(goal=release(1)),
        look(new, ready=[], routed=[], probes={new.id: "nothing listens on port 20101"}),
    )
    assert made.actions == ()
    assert made.waiting == "foo-app-1-web-1 is not healthy yet: nothing listens on port 20101"


def test_healthy_goal_is_routed_before_it_is_promoted_and_the_old_one_stays_meanwhile():
    old, new = instance(1), instance(2)
    wanted = desired(goal=release(2), serving=release(1))
    first = plan(wanted, look(old, new, routed=[old]))
    assert [type(each) for each in first.actions] == [Route]
    assert first.actions[0].pool == pool(new)
    second = plan(wanted, look(old, new, routed=[new]))
    assert [type(each) for each in second.actions] == [Promote]
    assert second.actions[0].version == 2


def test_old_instance_serves_until_every_new_one_is_ready():
    old, ready, unready = instance(1), instance(2, 1), instance(2, 2)
    made = plan(
        desired(goal=release(2, web=2), serving=release(1)),
        look(old, ready, unready, ready=[old, ready], routed=[old]),
    )
    assert made.actions == ()


def test_old_instance_is_stopped_after_its_last_request():
    old, new = instance(1), instance(2)
    wanted = desired(goal=release(2), serving=release(2))
    seen = {"draining": {old.id: 3}, "draining_since": {old.id: NOW}}
    busy = plan(wanted, look(old, new, routed=[new], **seen), NOW + timedelta(seconds=29))
    assert busy.actions == ()
    assert busy.waiting == "foo-app-1-web-1 finishes 3 requests"
    late = plan(wanted, look(old, new, routed=[new], **seen), NOW + timedelta(seconds=31))
    assert late.actions[0].instance == old.id
    assert "3 requests were not done after 30 s" in late.actions[0].reason
    idle = plan(wanted, look(old, new, routed=[new], draining={old.id: 0}))
    assert idle.actions == (
        Stop(key=("foo", "app"), instance=old.id, grace=10, reason="v2 serves in its place"),
    )


def test_crash_before_healthy_gives_the_version_up_at_once():
    old = instance(1)
    broken = instance(2, state=InstanceState.CRASHED, detail="exited with status 3")
    made = plan(desired(goal=release(2), serving=release(1)), look(old, broken, ready=[old], routed=[old]))
    assert made.actions == (
        GiveUp(
            key=("foo", "app"),
            version=2,
            generation=1,
            instances=(broken.id,),
            reason="foo-app-2-web-1 exited with status 3 before it was healthy",
        ),
    )


def test_crash_that_was_restarted_between_two_looks_counts_as_a_crash():
    back = instance(1, restarts=1, detail="exited with status 1")
    assert isinstance(plan(desired(goal=release(1)), look(back, ready=[], routed=[])).actions[0], GiveUp)


def test_version_that_stays_unhealthy_is_given_up_with_its_last_probe():
    new = instance(1)
    seen = look(new, ready=[], routed=[], probes={new.id: "GET / answered 500"}, probed_since={new.id: NOW})
    assert plan(desired(goal=release(1)), seen, NOW + timedelta(seconds=59)).actions == ()
    late = plan(desired(goal=release(1)), seen, NOW + timedelta(seconds=61))
    assert late.actions[0].reason == "foo-app-1-web-1 was not healthy after 60 s: GET / answered 500"


def test_health_timeout_of_the_definition_counts_before_the_servers():
    new = instance(1)
    seen = look(new, ready=[], probed_since={new.id: NOW})
    patient = replace(release(1), version=version(1, definition=Definition(health=HealthCheck(timeout=90))))
    assert plan(desired(goal=patient), seen, NOW + timedelta(seconds=89)).actions == ()
    late = plan(desired(goal=patient), seen, NOW + timedelta(seconds=91))
    assert late.actions[0].reason == "foo-app-1-web-1 was not healthy after 90 s: no probe has ended"


def test_instance_that_cannot_be_started_gives_the_version_up():
    made = plan(desired(goal=release(1)), look(routed=[], start_failure="the slug is gone"))
    assert made.actions[0].reason == "no instance could be started: the slug is gone"


def test_instance_of_a_failed_version_is_stopped():
    old, failed = instance(1), instance(2, state=InstanceState.CRASHED)
    settled = desired(goal=release(1), serving=release(1))
    made = plan(settled, look(old, failed, ready=[old], routed=[old]))
    assert [each.instance for each in made.actions] == [failed.id]


def test_failed_first_version_leaves_nothing():
    made = plan(desired(), look(instance(1)))
    assert [type(each) for each in made.actions] == [Stop]


def test_crashed_instance_leaves_the_routing_and_is_left_to_its_backend():
    up, down = instance(1, 1), instance(1, 2, state=InstanceState.CRASHED)
    settled = desired(goal=release(1, web=2), serving=release(1, web=2))
    made = plan(settled, look(up, down, ready=[up], routed=[up, down]))
    assert made.actions == (Route(key=("foo", "app"), pool=pool(up), reason="v1 serves with 1 instance"),)


def test_last_instance_stays_routed_while_it_is_started_again():
    only = instance(1, state=InstanceState.CRASHED)
    settled = desired(goal=release(1), serving=release(1))
    assert plan(settled, look(only, ready=[], routed=[only])).actions == ()
    assert plan(settled, look(only, ready=[], routed=[])).actions == ()


def test_scale_down_unroutes_before_it_stops():
    one, two = instance(1, 1), instance(1, 2)
    settled = desired(goal=release(1), serving=release(1))
    first = plan(settled, look(one, two, routed=[one, two]))
    assert [type(each) for each in first.actions] == [Route]
    second = plan(settled, look(one, two, routed=[one], draining={two.id: 0}))
    assert [each.instance for each in second.actions] == [two.id]
    assert second.actions[0].reason == "web was scaled down"


def test_scale_down_keeps_the_ready_one():
    broken, good = instance(1, 1, state=InstanceState.CRASHED), instance(1, 2)
    settled = desired(goal=release(1), serving=release(1))
    made = plan(settled, look(broken, good, ready=[good], routed=[good]))
    assert [each.instance for each in made.actions] == [broken.id]


def test_restart_replaces_instances_under_new_names():
    old = instance(1)
    wanted = desired(goal=release(1, generation=2), serving=release(1, generation=1), generation=2)
    first = plan(wanted, look(old, routed=[old]))
    assert first.actions[0].spec.id == "foo-app-1-web-2"
    assert first.actions[0].reason == "restart"
    new = instance(1, 2, generation=2)
    assert plan(wanted, look(old, new, routed=[old])).actions[0].pool == pool(new)


def test_stopped_service_keeps_its_domain_without_targets():
    old = instance(1)
    first = plan(desired(stopped=True, current=1), look(old, routed=[old]))
    assert first.actions == (Route(key=("foo", "app"), pool=pool(), reason="stopped"),)
    second = plan(desired(stopped=True, current=1), look(old, routed=[]))
    assert second.actions[0].reason == "the service is stopped"


def test_service_without_any_version_is_unknown_to_the_router():
    wanted = DesiredService(service=service(), domains=DOMAINS, goal=None, serving=None)
    made = plan(wanted, look())
    assert made.actions == ()
    assert made.pending is None


def test_changed_domains_are_routed_at_once():
    only = instance(1)
    wanted = DesiredService(
        service=service(latest=1),
        domains=frozenset({"www.example.org"}),
        goal=release(1),
        serving=release(1),
    )
    made = plan(wanted, look(only, routed=[only]))
    assert made.actions[0].reason == "its domains changed"


def test_instance_that_is_being_stopped_is_not_stopped_twice_and_its_name_is_not_reused():
    leaving = instance(1, 1)
    wanted = desired(goal=release(1), serving=release(1))
    made = plan(wanted, look(leaving, ready=[], routed=[], stopping=frozenset({leaving.id})))
    assert [type(each) for each in made.actions] == [Start]
    assert made.actions[0].spec.id == "foo-app-1-web-2"


def test_destroyed_service_loses_its_route_before_its_instances():
    left = instance(1)
    timing = Timing(stop_grace=10)
    first = plan_orphans(("foo", "app"), look(left, routed=[left]), NOW, timing)
    assert [type(each) for each in first.actions] == [Route]
    assert first.actions[0].pool is None
    second = plan_orphans(("foo", "app"), look(left), NOW, timing)
    assert [each.instance for each in second.actions] == [left.id]


def test_settled_service_needs_nothing():
    only = instance(1)
    made = plan(desired(goal=release(1), serving=release(1)), look(only, routed=[only]))
    assert made.actions == ()
    assert made.pending is None


def settled(serves, **changes):
    return desired(goal=serves, serving=serves, **changes)


def test_instance_is_replaced_by_another_one_before_it_goes():
    old, other, new = instance(1, 1), instance(1, 2), instance(1, 3)
    wanted = settled(release(1, web=2, replacing=[old]))
    first = plan(wanted, look(old, other, routed=[old, other]))
    assert [(each.spec.id, each.reason) for each in first.actions] == [(new.id, f"restart of {old.id}")]
    waits = plan(wanted, look(old, other, new, ready=[old, other], routed=[old, other]))
    assert waits.actions == ()
    assert waits.waiting == f"{new.id} is not healthy yet"
    routed = plan(wanted, look(old, other, new, routed=[old, other]))
    assert [each.pool for each in routed.actions] == [pool(other, new)]
    stops = plan(wanted, look(old, other, new, routed=[other, new], draining={old.id: 0}))
    assert [(each.instance, each.reason) for each in stops.actions] == [(old.id, "restarted")]
    done = plan(wanted, look(other, new, routed=[other, new]))
    assert done.actions == (
        ClearWishes(key=("foo", "app"), instances=(old.id,), reason=f"Restarted {old.id}"),
    )


def test_instance_stays_when_nothing_healthy_comes_up_in_its_place():
    old = instance(1, 1)
    broken = instance(1, 2, state=InstanceState.CRASHED, detail="exited with status 1")
    wanted = settled(release(1, replacing=[old]))
    made = plan(wanted, look(old, broken, ready=[old], routed=[old]))
    reason = f"{broken.id} exited with status 1 before it was healthy"
    assert made.actions == (KeepReplaced(key=("foo", "app"), instances=(old.id,), reason=reason),)
    after = plan(settled(release(1)), look(old, broken, ready=[old], routed=[old]))
    assert [each.instance for each in after.actions] == [broken.id]
    assert after.actions[0].reason == "it is not healthy, and web has enough without it"


def test_substitute_that_is_late_leaves_the_old_one():
    old, late = instance(1, 1), instance(1, 2)
    seen = look(old, late, ready=[old], routed=[old], probed_since={late.id: NOW})
    wanted = settled(release(1, replacing=[old]))
    assert plan(wanted, seen, NOW + timedelta(seconds=59)).actions == ()
    made = plan(wanted, seen, NOW + timedelta(seconds=61))
    assert isinstance(made.actions[0], KeepReplaced)
    assert "not healthy after 60 s" in made.actions[0].reason


def test_instance_that_does_not_run_well_is_kept_too_until_another_one_does():
    old, new = instance(1, 1, state=InstanceState.CRASH_LOOPING), instance(1, 2)
    wanted = settled(release(1, replacing=[old]))
    assert plan(wanted, look(old, new, ready=[], routed=[])).actions == ()
    made = plan(wanted, look(old, new, ready=[new], routed=[new]))
    assert [each.instance for each in made.actions] == [old.id]


def test_single_instance_that_was_stopped_leaves_and_nothing_takes_its_place():
    one, two = instance(1, 1), instance(1, 2)
    wanted = settled(release(1, web=1, withdrawn=[two]))
    first = plan(wanted, look(one, two, routed=[one, two]))
    assert [each.pool for each in first.actions] == [pool(one)]
    second = plan(wanted, look(one, two, routed=[one]))
    assert [(each.instance, each.reason) for each in second.actions] == [(two.id, "it was stopped")]
    assert plan(wanted, look(one, routed=[one])).pending is None


def test_name_of_a_stopped_instance_is_kept_for_it():
    one, two = instance(1, 1), instance(1, 2)
    more = plan(settled(release(1, web=2, withdrawn=[two])), look(one, routed=[one]))
    assert [each.spec.number for each in more.actions] == [3]
    back = plan(settled(release(1, web=2)), look(one, routed=[one]))
    assert [each.spec.number for each in back.actions] == [2]


def test_wish_of_an_older_version_is_cleared():
    made = plan(settled(release(2, withdrawn=[instance(1, 2)])), look(instance(2), routed=[instance(2)]))
    assert [type(each) for each in made.actions] == [ClearWishes]


def test_stopped_type_leaves_while_the_others_stay():
    web, worker = instance(1), instance(1, process_type="worker")
    wanted = settled(release(1, web=1, worker=0), stopped_types=("worker",))
    made = plan(wanted, look(web, worker, routed=[web]))
    assert [(each.instance, each.reason) for each in made.actions] == [(worker.id, "worker was stopped")]


def test_start_says_that_more_were_asked_for_while_that_is_why():
    one = instance(1)
    raised = {"web": Raise(at=NOW, reason="scaled up to 2")}
    wanted = settled(release(1, web=2), raised=raised)
    assert plan(wanted, look(one, routed=[one])).actions[0].reason == "web was scaled up to 2"
    later = plan(wanted, look(one, routed=[one]), NOW + timedelta(minutes=2))
    assert later.actions[0].reason == "fewer run than are wanted"


def test_crash_looping_instance_is_out_of_the_routing_even_as_the_last_one():
    only = instance(1, state=InstanceState.CRASH_LOOPING)
    made = plan(settled(release(1)), look(only, ready=[], routed=[only]))
    assert [each.pool for each in made.actions] == [pool()]
    assert made.actions[0].reason == "no instance of v1 is ready"


def test_maintenance_is_routed_and_keeps_the_targets():
    only = instance(1)
    wanted = settled(release(1), maintenance=True, maintenance_page="<p>soon</p>")
    made = plan(wanted, look(only, routed=[only]))
    closed = replace(pool(only), maintenance=True, page="<p>soon</p>")
    assert made.actions == (Route(key=("foo", "app"), pool=closed, reason="maintenance is on"),)
    assert plan(wanted, replace(look(only), pool=closed)).pending is None
    off = plan(settled(release(1)), replace(look(only), pool=closed))
    assert off.actions[0].reason == "maintenance is off"


def test_passwords_are_routed_for_domains_that_lead_there_alone():
    (domain,) = DOMAINS
    only = instance(1)
    guard = Guard(mode=GuardMode.DIGEST, users={"kim": "1" * 32, "joe": "0" * 32})
    wanted = settled(release(1), guards={domain: guard, "gone.example.org": guard})
    made = plan(wanted, look(only, routed=[only]))
    users = (("joe", "0" * 32), ("kim", "1" * 32))
    asking = replace(pool(only), guards=frozenset({(domain, RoutedGuard(RoutedMode.DIGEST, users))}))
    assert made.actions == (Route(key=("foo", "app"), pool=asking, reason="its passwords changed"),)
    assert plan(wanted, replace(look(only), pool=asking)).actions == ()
