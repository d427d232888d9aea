"""Rollouts of every strategy against a small world in which anything crashes, vanishes or stays mute: whatever
happens they end, and never is less in service than wanted because of them."""

import copy
from dataclasses import replace
from datetime import timedelta

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from controller.reconcile.actions import GiveUp, Promote, Route, Start, Stop
from controller.reconcile.course import past_holding, rollout_of, stops_first
from controller.reconcile.desired import DesiredService, ProcessGroup, Release
from controller.reconcile.observed import ObservedService
from controller.reconcile.plan import plan_service
from controller.reconcile.timing import Timing
from controller.rollout import goal_of, is_canary, is_rolling, returned
from controller.types import Definition, Instance, InstanceState, Rollout, Strategy
from router.types import Pool
from tests.factories import NOW, service, version

ROLLOUTS = st.builds(
    Rollout,
    strategy=st.sampled_from(Strategy),
    size=st.integers(1, 3),
    share=st.integers(1, 100),
    timeout=st.just(3600.0),
)
KINDS = ("web", "worker")
TIMING = Timing(drain_timeout=30, health_timeout=60)
TICK = timedelta(seconds=10)
ENOUGH = 500
"""Steps in which a rollout of a handful of instances, with all its time limits, must be over."""


class Rolling(RuleBasedStateMachine):
    """One service with two process types."""

    def __init__(self):
        super().__init__()
        self.now = NOW
        self.service = service()
        self.scale = {"web": 2, "worker": 1}
        self.versions = {}
        self.broken: set[int] = set()
        self.mute: set[int] = set()
        self.instances: dict[str, Instance] = {}
        self.ready: set[str] = set()
        self.since = {}
        self.stopping: set[str] = set()
        self.pool: Pool | None = None
        self.draining: dict[str, int] = {}
        self.draining_since = {}

    @initialize(web=st.integers(0, 4), worker=st.integers(0, 3))
    def something_serves(self, web, worker):
        self.scale = {"web": web, "worker": worker}
        self.push(Rollout(), "good")
        for _ in range(4):
            self.live_on()

    # -- what people do

    @rule(rollout=ROLLOUTS, fate=st.sampled_from(["good", "good", "broken", "mute"]))
    def somebody_pushes(self, rollout, fate):
        self.push(rollout, fate)

    def push(self, rollout, fate):
        number = self.service.latest + 1
        if fate != "good":
            getattr(self, fate).add(number)
        self.versions[number] = version(number, definition=Definition(rollout=rollout))
        self.service = replace(self.service, latest=number, target=number, rollout_started_at=self.now)

    @precondition(lambda self: self.service.target is not None and not self.service.stopped)
    @rule()
    def restart(self):
        generation = self.service.generation + 1
        self.service = replace(self.service, generation=generation, rollout_started_at=self.now)

    @rule(kind=st.sampled_from(KINDS), quantity=st.integers(0, 5))
    def scale_to(self, kind, quantity):
        self.scale[kind] = quantity

    @rule(stopped=st.sampled_from([False, False, True]))
    def stop_or_start(self, stopped):
        self.service = replace(self.service, stopped=stopped)

    @precondition(lambda self: is_canary(self.service, self.versions.get(self.service.target)))
    @rule()
    def promote(self):
        version, generation = goal_of(self.service)
        self.service = replace(self.service, promoted=(version, generation))

    @precondition(lambda self: is_rolling(self.service))
    @rule()
    def cancel(self):
        self.service = self.given_up("canceled")

    @precondition(lambda self: is_rolling(self.service))
    @rule(paused=st.booleans())
    def pause_or_resume(self, paused):
        self.service = replace(self.service, paused=paused, rollout_started_at=self.now)

    # -- what happens by itself

    @precondition(lambda self: self.instances)
    @rule(data=st.data())
    def something_crashes(self, data):
        self.crash(data.draw(st.sampled_from(sorted(self.instances))))

    @precondition(lambda self: self.instances)
    @rule(data=st.data())
    def something_vanishes(self, data):
        self.forget(data.draw(st.sampled_from(sorted(self.instances))))

    @rule()
    def controller_is_killed_and_started_again(self):
        """Stops go on in its place once they are planned; only what is routed is known to be ready."""
        routed = {each.id for each in self.pool.targets} if self.pool else set()
        self.ready &= routed
        self.stopping = set()
        self.since = dict.fromkeys(self.instances, self.now)
        self.draining_since = dict.fromkeys(self.draining, self.now)

    @rule()
    def backend_works(self):
        for name, each in list(self.instances.items()):
            if name in self.stopping:
                self.forget(name)
            elif each.state is InstanceState.CRASHED:
                self.instances[name] = replace(each, state=InstanceState.RUNNING, restarts=each.restarts + 1)
                self.since[name] = self.now

    @rule()
    def probes_are_answered(self):
        for name, each in self.instances.items():
            if each.version in self.broken:
                self.crash(name)
            elif each.state is InstanceState.RUNNING and each.version not in self.mute:
                self.ready.add(name)

    @rule()
    def requests_end(self):
        self.draining = dict.fromkeys(self.draining, 0)

    @rule()
    def one_step(self):
        self.step()

    @rule(steps=st.integers(1, 6))
    def time_passes(self, steps):
        for _ in range(steps):
            self.live_on()

    def live_on(self):
        self.now += TICK
        self.backend_works()
        self.probes_are_answered()
        self.requests_end()
        return self.step()

    # -- acting

    def crash(self, name):
        each = self.instances[name]
        self.instances[name] = replace(each, state=InstanceState.CRASHED)
        self.ready.discard(name)

    def forget(self, name):
        del self.instances[name]
        self.ready.discard(name)
        self.stopping.discard(name)
        self.draining.pop(name, None)
        if self.pool:
            kept = frozenset(each for each in self.pool.targets if each.id != name)
            self.pool = replace(self.pool, targets=kept)

    def given_up(self, reason):
        found = [self.versions.get(each) for each in (self.service.target, self.service.current)]
        return returned(self.service, *found, reason)

    def desired(self):
        goal = serving = None
        if self.service.target is not None and not self.service.stopped:
            goal = self.release(self.service.target, self.service.generation)
            if self.service.current is not None:
                serving = self.release(self.service.current, self.service.current_generation)
        return DesiredService(
            service=self.service, domains=frozenset({"a.b"}), goal=goal, serving=serving if goal else None
        )

    def release(self, number, generation):
        groups = tuple(
            ProcessGroup(process_type=kind, quantity=self.scale[kind], command="run", env={})
            for kind in KINDS
        )
        return Release(version=self.versions[number], generation=generation, groups=groups)

    def observed(self):
        return ObservedService(
            instances=tuple(self.instances.values()),
            ready=frozenset(self.ready),
            probed_since={name: each for name, each in self.since.items() if name not in self.ready},
            stopping=frozenset(self.stopping),
            pool=self.pool,
            draining=self.draining,
            draining_since=self.draining_since,
        )

    def plan(self):
        return plan_service(self.desired(), self.observed(), self.now, TIMING)

    def step(self):
        made = self.plan()
        held = past_holding(self.desired(), self.observed()).paused
        for action in made.actions:
            assert action.reason
            goal = goal_of(self.service)
            starts_goal = isinstance(action, Start) and goal == (action.spec.version, action.spec.generation)
            assert not (held and (starts_goal or isinstance(action, Promote | GiveUp))), "a step while paused"
            self.act(action)
        return made

    def act(self, action):
        match action:
            case Start(spec=spec):
                self.check_room(spec)
                self.start(spec)
            case Stop(instance=name):
                self.check_stop(name)
                self.stopping.add(name)
            case Route(pool=pool):
                self.check_route(pool)
                self.reroute(pool)
            case Promote(version=number, generation=generation):
                self.check_promotion(number, generation)
                self.service = replace(
                    self.service, current=number, current_generation=generation, promoted=(), paused=False
                )
            case GiveUp(reason=reason):
                self.service = self.given_up(reason)

    def start(self, spec):
        assert spec.id not in self.instances, "started over a living one"
        self.instances[spec.id] = Instance(
            id=spec.id,
            deployment="foo",
            service="app",
            version=spec.version,
            process_type=spec.process_type,
            number=spec.number,
            generation=spec.generation,
            state=InstanceState.RUNNING,
            address="127.0.0.1",
            port=20000 + spec.version * 100 + spec.number if spec.wants_port else None,
        )
        self.since[spec.id] = self.now

    def reroute(self, pool):
        before, after = self.routed(self.pool), self.routed(pool)
        for left in before - after:
            self.draining[left] = 1
            self.draining_since[left] = self.now
        for back in after:
            self.draining.pop(back, None)
        self.pool = pool

    @staticmethod
    def routed(pool):
        return {each.id for each in pool.targets} if pool else set()

    # -- what must hold with each action

    def check_room(self, spec):
        desired = self.desired()
        rollout = rollout_of(desired)
        if stops_first(desired):
            others = {(each.version, each.generation) for each in self.instances.values()}
            own = {(spec.version, spec.generation)}
            assert desired.paused or others <= own, "started beside another version"
        if rollout.strategy not in (Strategy.ONE_BY_ONE, Strategy.BATCH):
            return
        if (spec.version, spec.generation) != goal_of(self.service):
            return
        size = rollout.size if rollout.strategy is Strategy.BATCH else 1
        either = {goal_of(self.service), (self.service.current, self.service.current_generation)}
        there = [
            each
            for each in self.instances.values()
            if each.process_type == spec.process_type and (each.version, each.generation) in either
        ]
        assert len(there) < self.scale[spec.process_type] + size, "more at a time than asked for"

    def check_stop(self, name):
        assert name not in self.routed(self.pool), "stopped while it is routed to"
        assert not self.draining.get(name), "stopped while it works on requests"
        if stops_first(self.desired()):
            return
        kind = self.instances[name].process_type
        if kind != "worker" or name not in self.ready or self.desired().goal is None:
            return
        others = [
            each for each in self.ready - self.stopping - {name} if self.instances[each].process_type == kind
        ]
        assert len(others) >= min(len(others) + 1, self.scale[kind]), "fewer work than could"

    def check_route(self, pool):
        before, after = self.routed(self.pool), self.routed(pool)
        assert after <= self.ready | before, "newly routed to what is not ready"
        if stops_first(self.desired()):
            return
        if self.desired().goal is not None:
            could = before & self.ready
            assert len(after & self.ready) >= min(len(could), self.scale["web"]), "fewer serve than could"
        stays = self.desired().goal is not None  # who is stopped leaves the routing, canary or not
        if stays and is_canary(self.service, self.versions.get(self.service.target)):
            old = {name for name in before & self.ready if self.is_old(name)}
            kept = {name for name in after if self.is_old(name)}
            assert len(kept) >= min(len(old), self.scale["web"]), "a canary took the place of what serves"

    def is_old(self, name):
        each = self.instances[name]
        return (each.version, each.generation) == (self.service.current, self.service.current_generation)

    def check_promotion(self, number, generation):
        routed = self.routed(self.pool)
        for kind, quantity in self.scale.items():
            mine = [
                name
                for name in self.ready
                if self.instances[name].process_type == kind
                and (self.instances[name].version, self.instances[name].generation) == (number, generation)
            ]
            assert len(mine) >= quantity, "promoted before it was whole"
            assert kind != "web" or len(routed & set(mine)) >= quantity, "promoted before it was routed"
        canary = is_canary(self.service, self.versions[number])
        assert not (canary and any(self.scale.values())), "nobody promoted it"

    # -- what must hold at the end

    @invariant()
    def it_ends_once_nothing_more_happens(self):
        twin = self.twin()
        twin.service = replace(twin.service, paused=False)
        for _ in range(ENOUGH):
            made = twin.live_on()
            settled = made.waiting is None or (twin.serves_badly() and not twin.service.stopped)
            if not made.actions and settled and (twin.service.stopped or not is_rolling(twin.service)):
                break
        else:
            raise AssertionError(f"never ends: {made}")
        assert not twin.plan().actions, "planned again, there is more"
        twin.check_end()

    @precondition(lambda self: self.desired().paused)
    @invariant()
    def what_serves_is_whole_while_a_rollout_is_held(self):
        held = past_holding(self.desired(), self.observed()).paused
        twin = self.twin()
        for _ in range(30):
            twin.live_on()
        assert twin.desired().paused or not held
        if twin.service.target != twin.service.current and not twin.desired().paused:
            return  # it goes on, which takes its time
        if twin.service.current is not None and not twin.serves_badly():
            able = {name for name in twin.ready if twin.instances[name].process_type == "worker"}
            assert len(twin.routed(twin.pool) & twin.ready) >= self.scale["web"]
            assert len(able) >= self.scale["worker"]

    def twin(self):
        twin = Rolling.__new__(Rolling)
        twin.__dict__.update({key: copy.copy(value) for key, value in self.__dict__.items()})
        return twin

    def serves_badly(self):
        """A version that can't serve became current while nothing of it had to run, and has to run now."""
        return self.service.current in self.broken | self.mute

    def check_end(self):
        if self.service.stopped or self.service.target is None:
            assert not self.instances
            return
        assert self.service.target == self.service.current
        if self.serves_badly():
            return
        for kind, quantity in self.scale.items():
            names = {each.id for each in self.instances.values() if each.process_type == kind}
            assert len(names) == quantity
            assert kind != "web" or self.routed(self.pool) == names
        assert {each.version for each in self.instances.values()} <= {self.service.current}


Rolling.TestCase.settings = settings(max_examples=80, stateful_step_count=25, deadline=None)
TestRolling = Rolling.TestCase
