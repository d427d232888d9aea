"""Services with volumes: no two versions of them run at once, whatever becomes of a rollout."""

from dataclasses import replace

from controller.reconcile.actions import Promote, Route, Start, Stop
from controller.reconcile.course import rollout_of
from controller.reconcile.desired import DesiredService, ProcessGroup, Release
from controller.reconcile.observed import ObservedService
from controller.reconcile.plan import plan_service
from controller.reconcile.timing import Timing
from controller.types import Definition, Instance, InstanceState, Rollout, Strategy
from router.types import Pool, Target
from tests.factories import NOW, service, version

WITH_VOLUME = Definition(volumes={"data": "/srv/data"})
TIMING = Timing(drain_timeout=30, health_timeout=60)


def release(number: int, definition: Definition = WITH_VOLUME, **changes) -> Release:
    web = ProcessGroup(process_type="web", quantity=1, command="run", env={})
    return Release(version=version(number, definition=definition), generation=1, groups=(web,), **changes)


def rolling(definition: Definition = WITH_VOLUME, **changes) -> DesiredService:
    record = service(current=1, target=2, latest=2, **changes)
    return DesiredService(
        service=record, domains=frozenset(), goal=release(2, definition), serving=release(1, definition)
    )


def instance(number: int) -> Instance:
    return Instance(
        id=f"foo-app-{number}-web-1",
        deployment="foo",
        service="app",
        version=number,
        process_type="web",
        number=1,
        generation=1,
        state=InstanceState.RUNNING,
        address="127.0.0.1",
        port=20000 + number,
    )


OLD, NEW = instance(1), instance(2)


def pool(*there: Instance) -> Pool:
    return Pool(
        name="foo/app",
        domains=frozenset(),
        targets=frozenset(Target(each.id, "127.0.0.1", each.port or 0) for each in there),
    )


def test_what_serves_is_unrouted_then_stopped_then_the_new_version_starts() -> None:
    serves = ObservedService(instances=(OLD,), ready=frozenset({OLD.id}), pool=pool(OLD))
    (first,) = plan_service(rolling(), serves, NOW, TIMING).actions
    assert isinstance(first, Route) and first.pool == pool()
    assert "until v2 does" in first.reason
    (second,) = plan_service(rolling(), replace(serves, pool=pool()), NOW, TIMING).actions
    assert isinstance(second, Stop) and "stops before v2 starts" in second.reason
    stops = replace(serves, pool=pool(), stopping=frozenset({OLD.id}))
    assert plan_service(rolling(), stops, NOW, TIMING).actions == ()
    (third,) = plan_service(rolling(), ObservedService(pool=pool()), NOW, TIMING).actions
    assert (
        isinstance(third, Start) and third.spec.version == 2 and third.spec.volumes == {"data": "/srv/data"}
    )
    ready = ObservedService(instances=(NEW,), ready=frozenset({NEW.id}), pool=pool(NEW))
    (last,) = plan_service(rolling(), ready, NOW, TIMING).actions
    assert isinstance(last, Promote)


def test_a_port_of_the_machine_leads_to_one_version_at_a_time() -> None:
    with_port = Definition(image="mail", extra={"wan_map": {":25": ""}})
    both = replace(rolling(with_port), serving=release(1, with_port))
    assert rollout_of(both).strategy is Strategy.STOP_FIRST
    serves = ObservedService(instances=(OLD,), ready=frozenset({OLD.id}), pool=pool())
    (first,) = plan_service(both, serves, NOW, TIMING).actions
    assert isinstance(first, Stop) and first.reason.endswith("they would share the port :25")


def test_after_a_failure_the_old_version_starts_once_the_failed_one_is_gone() -> None:
    back = replace(
        rolling(), service=service(current=1, target=1, latest=2), goal=release(1), serving=release(1)
    )
    (first,) = plan_service(back, ObservedService(instances=(NEW,), pool=pool()), NOW, TIMING).actions
    assert isinstance(first, Stop)
    (second,) = plan_service(back, ObservedService(pool=pool()), NOW, TIMING).actions
    assert isinstance(second, Start) and second.spec.version == 1


def test_a_single_instance_is_replaced_one_after_the_other() -> None:
    goal = release(1, replacing=frozenset({OLD.id}))
    back = replace(rolling(), service=service(current=1, target=1, latest=1, replacing=(OLD.id,)), goal=goal)
    back = replace(back, serving=goal)
    serves = ObservedService(instances=(OLD,), ready=frozenset({OLD.id}), pool=pool(OLD))
    assert not [each for each in plan_service(back, serves, NOW, TIMING).actions if isinstance(each, Start)]


def test_a_chosen_strategy_and_a_service_without_shared_volumes_overlap() -> None:
    chosen = replace(WITH_VOLUME, rollout=Rollout(strategy=Strategy.ONE_BY_ONE))
    assert rollout_of(rolling(chosen)).strategy is Strategy.ONE_BY_ONE
    assert rollout_of(rolling(Definition())).strategy is Strategy.ALL_AT_ONCE
    assert rollout_of(rolling()).strategy is Strategy.STOP_FIRST
    apart = replace(rolling(), serving=release(1, Definition(volumes={"other": "/x"})))
    assert rollout_of(apart).strategy is Strategy.ALL_AT_ONCE
