"""The loop on drivers in memory: it sees, decides, acts, and leaves alone what it can't see."""

import asyncio
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest

from controller.backends.base import BackendError
from controller.backends.memory import Behaviour, MemoryBackend, MemoryWorld
from controller.reconcile import loop
from controller.reconcile.loop import Reconciler
from controller.reconcile.timing import Timing
from controller.state import State, delete, put
from controller.store.memory import MemoryStore
from controller.types import Definition, InstanceState, Limits, VersionStatus
from router.base import RouterError
from router.memory import MemoryRouter
from router.types import Target
from tests.factories import deployment, service, version


class Setting:
    """A loop with everything it works on."""

    def __init__(self, state, world, router):
        self.state = state
        self.world = world
        self.router = router
        self.behaviours: dict[int, Behaviour] = {}
        self.unhealthy: set[int] = set()
        self.now = lambda: datetime.now(UTC)
        self.restart_controller()

    def restart_controller(self, **settings):
        """What kill -9 and a new start come to: nothing is remembered but state, instances and routes."""
        self.backend = MemoryBackend(
            world=self.world,
            behaviour=lambda spec: self.behaviours.get(spec.version, Behaviour()),
            now=self.now,
        )
        self.loop = Reconciler(
            self.state,
            self.backend,
            self.router,
            domain="localhost",
            timing=Timing(),
            prober=self.probe,
            **settings,
        )

    async def probe(self, instance, check):
        return "GET / answered 500" if instance.version in self.unhealthy else None

    async def settle(self, *, ticks=50):
        for _ in range(ticks):
            acted = await self.loop.tick()
            await asyncio.sleep(0)
            if not acted and not self.loop.pending("foo", "app"):
                return
            await asyncio.sleep(0.002)
        raise AssertionError(f"still pending: {self.loop.pending('foo', 'app')}")

    async def push(self, number, **changes):
        wanted = self.state.service("foo", "app")
        await self.state.commit(
            put(version(number, **changes)), put(replace(wanted, target=number, latest=number))
        )

    @property
    def service(self):
        return self.state.service("foo", "app")

    @property
    def running(self):
        return sorted(self.world.instances)

    async def routed(self):
        table = await self.router.table()
        return sorted(target.id for pool in table.pools.values() for target in pool.targets)


@pytest.fixture
async def here():
    async with opened() as setting:
        yield setting


@asynccontextmanager
async def opened():
    state = await State.open(MemoryStore())
    await state.commit(put(deployment()), put(service()))
    setting = Setting(state, MemoryWorld(), MemoryRouter())
    yield setting
    await setting.loop._health.close()
    await setting.loop._actor.close()
    await state.close()


async def test_pushed_version_runs_is_routed_and_becomes_live(here):
    await here.push(1)
    await here.settle()
    assert here.running == await here.routed() == ["foo-app-1-web-1"]
    assert here.service.current == 1
    assert here.state.version("foo", "app", 1).status is VersionStatus.LIVE
    texts = [each.text for each in here.state.events("foo")]
    assert texts == [
        "Starting foo-app-1-web-1: v1, push 1",
        "foo-app-1-web-1 is healthy",
        "Routing: v1 serves with 1 instance",
        "v1 is live",
    ]


async def test_next_version_takes_over_and_the_last_is_superseded(here):
    await here.push(1)
    await here.settle()
    await here.push(2)
    await here.settle()
    assert here.running == await here.routed() == ["foo-app-2-web-1"]
    assert here.state.version("foo", "app", 1).status is VersionStatus.SUPERSEDED


async def test_version_that_crashes_leaves_the_last_one_serving_and_says_why(here):
    await here.push(1)
    await here.settle()
    here.behaviours[2] = Behaviour(dies="exited with status 3")
    await here.push(2)
    await here.settle()
    assert here.running == await here.routed() == ["foo-app-1-web-1"]
    assert (here.service.current, here.service.target) == (1, 1)
    failed = here.state.version("foo", "app", 2)
    assert failed.status is VersionStatus.FAILED
    assert failed.failure.startswith("foo-app-2-web-1 exited with status 3")


async def test_config_of_a_failed_version_is_taken_back(here):
    await here.push(1)
    await here.settle()
    bad = Definition(env={"DATABASE_URL": "wrong"})
    await here.state.commit(put(replace(here.service, definition=bad)))
    here.behaviours[2] = Behaviour(dies="exited with status 1")
    await here.push(2, definition=bad)
    await here.settle()
    assert here.service.definition == Definition()


async def test_staged_config_is_staged_again_when_the_version_with_it_fails(here):
    await here.push(1, definition=Definition(env={"A": "1", "GONE": "x"}))
    await here.settle()
    here.behaviours[2] = Behaviour(dies="exited with status 1")
    brought = Definition(env={"A": "1", "OLD": "staged", "BAD": "1"}, command="bad")
    meanwhile = replace(brought, env={**brought.env, "NEW": "staged"})
    await here.push(2, definition=brought, staged=("GONE", "OLD"))
    await here.state.commit(put(replace(here.service, definition=meanwhile)))
    await here.settle()
    assert here.service.target == 1
    assert here.service.definition == Definition(env={"A": "1", "OLD": "staged", "NEW": "staged"})


async def test_instance_that_cannot_be_started_fails_the_version_with_its_cause(here):
    here.behaviours[1] = Behaviour(refused="the slug is gone")
    await here.push(1)
    for _ in range(3):
        await here.loop.tick()
        for failure in here.loop._start_failures.values():
            failure.not_before = failure.not_before.replace(year=2000)
    await here.settle()
    failed = here.state.version("foo", "app", 1)
    assert failed.status is VersionStatus.FAILED
    assert "the slug is gone" in failed.failure
    assert here.service.target is None


async def test_stop_of_another_instance_does_not_make_a_failed_start_come_sooner(here):
    await here.push(1)
    await here.settle()
    spare = replace(here.world.instances["foo-app-1-web-1"].spec, id="foo-app-1-web-9", number=9)
    start, tries = here.backend.start, []

    async def refused(spec):
        tries.append(spec.id)
        raise BackendError("no room")

    here.backend.start = refused
    await here.push(2)
    await here.loop.tick()
    await start(spare)
    for _ in range(5):
        await here.loop.tick()
        await asyncio.sleep(0)
    assert ("stop", "foo-app-1-web-9") in here.world.history
    assert tries == ["foo-app-2-web-1"]
    assert here.loop.pending("foo", "app") == "an instance could not be started: no room"


async def test_failed_start_is_forgotten_once_nothing_is_to_be_started(here):
    await here.push(1)
    await here.settle()
    here.behaviours[1] = Behaviour(refused="no room")
    await here.state.commit(put(replace(here.service, scale={"web": 2})))
    await here.loop.tick()
    assert here.loop._start_failures
    await here.state.commit(put(replace(here.service, scale={"web": 1})))
    await here.settle()
    assert not here.loop._start_failures


async def test_failed_start_of_a_destroyed_service_does_not_count_for_the_next_of_its_name(here):
    here.behaviours[1] = Behaviour(refused="no room")
    await here.push(1)
    await here.loop.tick()
    await here.state.commit(delete(here.service))
    await here.settle()
    assert not here.loop._start_failures


class Photographed(MemoryBackend):
    """Tells what it saw when a look began, however much happened until it ends."""

    held: asyncio.Event | None = None

    async def observe(self, *, after=""):
        seen = await super().observe(after=after)
        if self.held is not None:
            await self.held.wait()
        return seen


async def test_what_was_stopped_during_a_look_is_not_stopped_again(here):
    here.backend = here.loop._backend = here.loop._actor._backend = Photographed(world=here.world)
    await here.push(1)
    await here.settle()
    ending, stop = asyncio.Event(), here.backend.stop

    async def patient(instance, *, grace):
        await ending.wait()
        await stop(instance, grace=grace)

    here.backend.stop = patient
    await here.state.commit(put(replace(here.service, stopped=True)))
    while not here.loop._actor.stopping:
        await here.loop.tick()
    here.backend.held = asyncio.Event()
    looking = asyncio.create_task(here.loop.tick())
    await asyncio.sleep(0)
    ending.set()
    while here.loop._actor.stopping:
        await asyncio.sleep(0)
    here.backend.held.set()
    await looking
    await here.settle()
    stops = [each.text for each in here.state.events("foo") if each.kind == "instance.stop"]
    assert stops == ["Stopping foo-app-1-web-1: the service is stopped"]


async def test_everything_is_looked_at_now_and_then_though_the_backend_never_tells_less(here, monkeypatch):
    observe, table, asked = here.backend.observe, here.router.table, []

    async def whole(*, after=""):
        return replace(await observe(), cursor="")

    async def noted(*, after=""):
        asked.append(after)
        return await table(after=after)

    here.backend.observe, here.router.table = whole, noted
    for seconds in (100, 120, 135, 150):
        monkeypatch.setattr(loop, "time", SimpleNamespace(monotonic=lambda now=seconds: now))
        await here.loop.tick()
    assert [not each for each in asked] == [True, False, True, False]


async def test_fault_of_a_driver_is_that_services_only(here):
    await here.state.commit(put(service(name="api")), put(version(1, service="api")))
    await here.state.commit(put(replace(here.state.service("foo", "api"), target=1, latest=1)))
    start = here.backend.start

    async def faulty(spec):
        if spec.service == "app":
            raise KeyError("slug")
        return await start(spec)

    here.backend.start = faulty
    await here.push(1)
    for _ in range(10):
        await here.loop.tick()
        await asyncio.sleep(0.002)
    assert here.state.service("foo", "api").current == 1
    assert here.running == ["foo-api-1-web-1"]


async def test_unreachable_backend_causes_no_action(here):
    await here.push(1)
    await here.settle()
    here.world.reachable = False
    await here.push(2)
    with pytest.raises(BackendError, match="what runs there is not known"):
        await here.loop.tick()
    assert here.world.history == [("start", "foo-app-1-web-1")]
    here.world.reachable = True
    await here.settle()
    assert here.running == ["foo-app-2-web-1"]


async def test_router_that_does_not_answer_causes_no_action(here):
    await here.push(1)

    async def silent(**_):
        raise RouterError("no answer")

    here.router.table, answering = silent, here.router.table
    with pytest.raises(RouterError):
        await here.loop.tick()
    assert here.running == []
    here.router.table = answering
    await here.settle()
    assert here.running == ["foo-app-1-web-1"]


@pytest.mark.parametrize("steps", range(1, 8))
async def test_controller_killed_after_any_step_goes_on_where_it_stopped(here, steps):
    await here.push(1)
    await here.settle()
    await here.push(2)
    for _ in range(steps):
        await here.loop.tick()
        await asyncio.sleep(0.002)
    here.restart_controller()
    await here.settle()
    assert here.running == await here.routed() == ["foo-app-2-web-1"]
    starts = [name for verb, name in here.world.history if verb == "start"]
    assert starts == ["foo-app-1-web-1", "foo-app-2-web-1"]


async def test_restart_of_the_controller_touches_nothing_that_is_as_it_should_be(here):
    await here.push(1)
    await here.settle()
    history, steps = list(here.world.history), len(here.router.steps)
    here.restart_controller()
    await here.settle()
    assert here.world.history == history
    assert len(here.router.steps) == steps


async def test_destroyed_service_takes_instances_and_route_with_it(here):
    await here.push(1)
    await here.settle()
    await here.state.commit(delete(here.service), delete(here.state.version("foo", "app", 1)))
    await here.settle()
    assert here.running == await here.routed() == []
    assert (await here.router.table()).pools == {}


async def test_target_without_an_instance_does_not_drain_for_ever(here):
    await here.push(1)
    await here.settle()
    table = (await here.router.table()).pools["foo/app"]
    # What a proxy knows that was killed, and came up with the table of some moments ago.
    before = replace(table, targets=table.targets | {Target("foo-app-0-web-1", "127.0.0.1", 9)})
    await here.router.apply([before])
    await here.settle()
    await here.loop.tick()
    after = await here.router.table()
    assert (after.pools["foo/app"], after.draining) == (table, {})


async def test_change_is_pending_until_it_was_planned(here):
    await here.push(1)
    assert here.loop.pending("foo", "app") == "it is about to be planned"
    await here.settle()
    assert here.loop.pending("foo", "app") is None


async def test_instance_shows_as_starting_until_it_is_healthy(here):
    here.unhealthy.add(1)
    await here.push(1)
    await here.loop.tick()
    await here.loop.tick()
    await asyncio.sleep(0)
    (shown,) = here.loop.instances("foo")
    assert shown.state is InstanceState.STARTING
    here.unhealthy.clear()


async def test_run_wakes_on_changes_and_reports_what_it_cannot_see(here):
    here.world.reachable = False
    running = asyncio.create_task(here.loop.run())
    await asyncio.sleep(0.02)
    assert "no answer from local" in here.loop.problems()[0]
    here.world.reachable = True
    await here.push(1)
    for _ in range(100):
        await asyncio.sleep(0.01)
        if here.service.current == 1:
            break
    assert here.service.current == 1
    assert here.loop.problems() == ()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert here.running == ["foo-app-1-web-1"]


async def test_crash_loop_is_told_once_and_its_end_too(here):
    now = [datetime(2026, 1, 1, tzinfo=UTC)]
    here.world = MemoryWorld()
    here.now = lambda: now[0]
    here.restart_controller()
    await here.push(1)
    await here.settle()
    (name,) = here.running
    for _ in range(7):
        here.backend.crash(name)
        await here.loop.tick()
        loops = here.loop.instances("foo")[0].state is InstanceState.CRASH_LOOPING
        assert (await here.routed() == []) == loops
        now[0] += timedelta(seconds=61)  # it comes up again by then
        await here.loop.tick()
    shown = here.loop.instances("foo")[0]
    assert shown.state is InstanceState.CRASH_LOOPING
    kinds = [each.kind for each in here.state.events("foo", "app")]
    assert kinds.count("instance.crash-looping") == 1
    event = next(each for each in here.state.events("foo", "app") if each.kind == "instance.crash-looping")
    assert event.text == f"{name} keeps ending soon after each start: exited with status 1"
    now[0] += timedelta(seconds=90)
    await here.settle()
    await here.settle()
    assert here.state.events("foo", "app")[-1].text.startswith("Routing: v1 serves")
    assert f"{name} is healthy" in [each.text for each in here.state.events("foo", "app")][-2:]
    assert await here.routed() == [name]


async def test_crash_is_told_where_the_instance_is_back_before_the_next_look(here):
    now = [datetime(2026, 1, 1, tzinfo=UTC)]
    here.now = lambda: now[0]
    here.restart_controller()
    await here.push(1)
    await here.settle()
    (name,) = here.running
    here.backend.crash(name, "killed: used more than its limit of 512 MiB")
    now[0] += timedelta(seconds=2)
    await here.settle()
    told = [(each.kind, each.text) for each in here.state.events("foo", "app")]
    assert ("instance.crashed", f"{name} killed: used more than its limit of 512 MiB (1 restart)") in told


async def test_one_instance_is_restarted_without_a_gap_and_the_wish_is_forgotten(here):
    await here.state.commit(put(replace(here.service, scale={"web": 2})))
    await here.push(1)
    await here.settle()
    one, two = here.running
    await here.state.commit(put(replace(here.service, replacing=(one,))))
    await here.settle()
    assert here.running == [two, "foo-app-1-web-3"]
    assert await here.routed() == [two, "foo-app-1-web-3"]
    assert here.service.replacing == ()
    assert f"Restarted {one}" in [each.text for each in here.state.events("foo", "app")]


async def test_restart_of_one_that_comes_to_nothing_leaves_it_and_says_why(here):
    await here.push(1)
    await here.settle()
    (old,) = here.running
    here.behaviours[1] = Behaviour(dies="exited with status 3")
    await here.state.commit(put(replace(here.service, replacing=(old,))))
    await here.settle()
    assert here.running == [old]
    assert await here.routed() == [old]
    assert here.service.rollout_failure == "foo-app-1-web-2 exited with status 3 before it was healthy"
    assert "service.restart-failed" in [each.kind for each in here.state.events("foo", "app")[-3:]]


async def test_instances_are_started_with_the_limits_of_their_type(here):
    limits = {"": Limits(pids=99), "web": Limits(memory=2**20)}
    await here.push(1, definition=Definition(limits=limits))
    here.restart_controller(limits=Limits(memory=2**30, nofile=77))
    await here.settle()
    (running,) = here.world.instances.values()
    assert running.spec.limits == Limits(memory=2**20, pids=99, nofile=77)
