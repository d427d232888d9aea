"""Planning against a small world that does as it is told: whatever happens, it settles, and nothing
that serves is taken away before something else serves."""

from dataclasses import replace

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from controller.formation import withdrawn_of
from controller.reconcile.actions import ClearWishes, GiveUp, KeepReplaced, Promote, Route, Start, Stop
from controller.reconcile.desired import DesiredService, ProcessGroup, Release
from controller.reconcile.observed import ObservedService
from controller.reconcile.plan import plan_service
from controller.reconcile.timing import Timing
from controller.types import Instance, InstanceState
from router.types import Pool
from tests.factories import NOW, service, version

MANY = 60


class World(RuleBasedStateMachine):
    """One service; health, crashes and requests in work are up to chance."""

    def __init__(self):
        super().__init__()
        self.service = service()
        self.web = 1
        self.instances: dict[str, Instance] = {}
        self.ready: set[str] = set()
        self.pool: Pool | None = None
        self.draining: dict[str, int] = {}
        self.broken: set[int] = set()

    # -- what people do

    @rule(breaks=st.booleans())
    def push(self, breaks):
        number = self.service.latest + 1
        if breaks:
            self.broken.add(number)
        self.service = replace(self.service, latest=number, target=number, withdrawn=(), replacing=())

    @precondition(lambda self: self.service.target is not None)
    @rule()
    def restart(self):
        generation = self.service.generation + 1
        self.service = replace(self.service, generation=generation, withdrawn=(), replacing=())

    @rule(quantity=st.integers(0, 4))
    def scale(self, quantity):
        self.web = quantity
        self.service = replace(self.service, withdrawn=())

    @precondition(lambda self: self.is_settled() and self.instances)
    @rule(data=st.data(), what=st.sampled_from(["withdrawn", "replacing"]))
    def stop_or_restart_one(self, data, what):
        name = data.draw(st.sampled_from(sorted(self.instances)))
        each = self.instances[name]
        if (each.version, each.generation) == (self.service.current, self.service.current_generation):
            others = "replacing" if what == "withdrawn" else "withdrawn"
            kept = tuple(each for each in getattr(self.service, others) if each != name)
            wishes = tuple({*getattr(self.service, what), name})
            self.service = replace(self.service, **{what: wishes, others: kept})

    @rule()
    def start_what_was_stopped(self):
        self.service = replace(self.service, withdrawn=())

    @rule(stopped=st.booleans())
    def stop_or_start(self, stopped):
        self.service = replace(self.service, stopped=stopped)

    # -- what happens by itself

    @rule(data=st.data())
    def something_crashes(self, data):
        if self.instances:
            name = data.draw(st.sampled_from(sorted(self.instances)))
            self.instances[name] = replace(self.instances[name], state=InstanceState.CRASHED, restarts=1)
            self.ready.discard(name)

    @rule()
    def backend_restarts_what_crashed(self):
        for name, each in self.instances.items():
            self.instances[name] = replace(each, state=InstanceState.RUNNING, restarts=0)

    @rule()
    def everything_becomes_ready_that_can(self):
        for name, each in self.instances.items():
            if each.version in self.broken:
                self.instances[name] = replace(each, state=InstanceState.CRASHED, restarts=1)
            elif each.state is InstanceState.RUNNING:
                self.ready.add(name)

    @rule()
    def requests_end(self):
        self.draining = dict.fromkeys(self.draining, 0)

    @rule()
    def one_step(self):
        self.step()

    @rule(steps=st.integers(1, 8))
    def time_passes(self, steps):
        for _ in range(steps):
            self.everything_becomes_ready_that_can()
            self.requests_end()
            self.step()

    def is_settled(self):
        now = (self.service.current, self.service.current_generation)
        return not self.service.stopped and now == (self.service.target, self.service.generation)

    def due(self, number):
        """How many shall run: the scale without single ones that were stopped."""
        return max(0, self.web - len(withdrawn_of(self.service, number, "web")))

    # -- acting

    def plan(self):
        goal = serving = None
        if self.service.target is not None and not self.service.stopped:
            goal = self.release(self.service.target, self.service.generation)
            if self.service.current is not None:
                serving = self.release(self.service.current, self.service.current_generation)
        desired = DesiredService(service=self.service, domains=frozenset({"a.b"}), goal=goal, serving=serving)
        observed = ObservedService(
            instances=tuple(self.instances.values()),
            ready=frozenset(self.ready),
            pool=self.pool,
            draining=self.draining,
            draining_since=dict.fromkeys(self.draining, NOW),
        )
        return plan_service(desired, observed, NOW, Timing())

    def release(self, number, generation):
        group = ProcessGroup(process_type="web", quantity=self.due(number), command="run", env={})
        return Release(
            version=version(number),
            generation=generation,
            groups=(group,),
            withdrawn=frozenset(self.service.withdrawn),
            replacing=frozenset(self.service.replacing),
        )

    def step(self):
        made = self.plan()
        for action in made.actions:
            assert action.reason
            self.act(action)
        return made

    def act(self, action):
        match action:
            case Start(spec=spec):
                assert spec.id not in self.instances, "started over a living one"
                self.instances[spec.id] = Instance(
                    id=spec.id,
                    deployment="foo",
                    service="app",
                    version=spec.version,
                    process_type="web",
                    number=spec.number,
                    generation=spec.generation,
                    state=InstanceState.RUNNING,
                    address="127.0.0.1",
                    port=20000 + spec.version * 100 + spec.number,
                )
            case Stop(instance=name):
                routed = {each.id for each in self.pool.targets} if self.pool else set()
                assert name not in routed, "stopped while it is routed to"
                assert not self.draining.get(name), "stopped while it works on requests"
                del self.instances[name]
                self.ready.discard(name)
                self.draining.pop(name, None)
            case Route(pool=pool):
                before = {each.id for each in self.pool.targets} if self.pool else set()
                after = {each.id for each in pool.targets} if pool else set()
                assert after <= self.ready | before, "newly routed to what is not ready"
                if not self.service.stopped and self.service.target is not None:
                    could = (before & self.ready) - set(self.service.withdrawn)
                    due = self.due(self.service.target)
                    assert len(after) >= min(len(could), due), "fewer serve than could"
                for left in before - after:
                    if left in self.instances:
                        self.draining[left] = 1
                for back in after:
                    self.draining.pop(back, None)
                self.pool = pool
            case Promote(version=number, generation=generation):
                self.service = replace(self.service, current=number, current_generation=generation)
            case KeepReplaced(instances=names) | ClearWishes(instances=names):
                self.service = replace(
                    self.service,
                    replacing=tuple(each for each in self.service.replacing if each not in names),
                    withdrawn=tuple(each for each in self.service.withdrawn if each not in names),
                )
            case GiveUp():
                self.service = replace(
                    self.service, target=self.service.current, generation=self.service.current_generation
                )

    # -- what must hold

    @invariant()
    def it_settles_once_nothing_more_happens(self):
        twin = World.__new__(World)
        twin.__dict__.update(
            {
                key: dict(value)
                if isinstance(value, dict)
                else set(value)
                if isinstance(value, set)
                else value
                for key, value in self.__dict__.items()
            }
        )
        for _ in range(MANY):
            twin.everything_becomes_ready_that_can()
            twin.requests_end()
            before = twin.plan()
            if not before.actions and (before.waiting is None or twin.crashes_for_ever()):
                break
            twin.backend_restarts_what_crashed_unless_broken()
            twin.step()
        else:
            raise AssertionError(f"never settles: {before}")
        if twin.service.stopped or twin.service.target is None:
            assert not twin.instances
        elif twin.crashes_for_ever():
            # What another version left that can serve goes on in its place.
            assert twin.ready <= {each.id for each in (twin.pool.targets if twin.pool else ())}
        else:
            assert not twin.service.replacing
            assert len(twin.instances) == twin.due(twin.service.target)
            assert {each.version for each in twin.instances.values()} <= {twin.service.current}
        if twin.service.current is not None and not twin.crashes_for_ever():
            assert {each.id for each in twin.pool.targets} == set(twin.instances)

    def crashes_for_ever(self):
        """A broken version became current without an instance (scaled to none), and was scaled up since."""
        return self.service.target == self.service.current and self.service.current in self.broken

    def backend_restarts_what_crashed_unless_broken(self):
        for name, each in self.instances.items():
            if each.version not in self.broken:
                self.instances[name] = replace(each, state=InstanceState.RUNNING, restarts=0)


World.TestCase.settings = settings(max_examples=150, stateful_step_count=25, deadline=None)
TestWorld = World.TestCase
