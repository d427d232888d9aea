"""The loop that keeps the desired state true: look, plan, act, and again.

It is the only part that starts, stops or routes anything. Where it can't see (a store, a backend or
a router that does not answer) it does nothing and says so: unknown is not empty.
"""

import asyncio
import contextlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from controller.backends.base import Backend, BackendError, Observation
from controller.domains import domains_of
from controller.reconcile.act import Actor
from controller.reconcile.actions import Plan, Start
from controller.reconcile.desired import DesiredService, Key, desired_service
from controller.reconcile.health import HealthWatch, Prober, probe
from controller.reconcile.observed import ObservedService
from controller.reconcile.plan import plan_orphans, plan_service
from controller.reconcile.routing import pool_name
from controller.reconcile.timing import Timing
from controller.state import EventDraft, State
from controller.store.base import StoreError
from controller.types import HealthCheck, Instance, InstanceState, Service
from router.base import Router, RouterError
from router.types import Table

log = logging.getLogger(__name__)

LOOK_TIMEOUT = 15.0
"""Seconds that backend or router may take to tell what there is."""
IDLE_TICK, BUSY_TICK = 1.0, 0.1
"""Seconds between two looks when all has settled, and while something is awaited (growing while it lasts)."""
START_ATTEMPTS = 3
"""So many failed starts give a new version up."""
LONGEST_BACKOFF = 30.0
"""Seconds between attempts to start what can't be started, at most."""


@dataclass
class _StartFailure:
    """What is remembered of starts that failed, until the goal changes or one succeeds."""

    goal: tuple[int | None, int]
    attempts: int
    error: BackendError
    not_before: datetime


class Reconciler:
    """Runs the loop, and tells operations what it sees (see `controller.operations.runtime.Runtime`)."""

    def __init__(
        self,
        state: State,
        backend: Backend,
        router: Router,
        *,
        domain: str,
        timing: Timing,
        prober: Prober = probe,
    ) -> None:
        self._state = state
        self._backend = backend
        self._router = router
        self._domain = domain
        self._timing = timing
        self._awake = asyncio.Event()
        self._health = HealthWatch(prober, self.wake)
        self._actor = Actor(state, backend, router, wake=self.wake)
        self._observation = Observation()
        self._plans: dict[Key, Plan] = {}
        self._planned: dict[Key, Service | None] = {}
        self._problems: tuple[str, ...] = ("The first look at what runs is not done yet.",)
        self._draining_since: dict[str, datetime] = {}
        self._start_failures: dict[Key, _StartFailure] = {}
        self._told: dict[str, str] = {}
        """Instance id to what the journal last said of its health."""

    # What operations may ask

    @property
    def backend(self) -> Backend:
        return self._backend

    def instances(self, deployment: str, service: str | None = None) -> Sequence[Instance]:
        return sorted(
            (
                self._shown(each)
                for each in self._observation.instances
                if each.deployment == deployment and service in (None, each.service)
            ),
            key=lambda each: (each.service, each.process_type, each.version, each.number),
        )

    def pending(self, deployment: str, service: str) -> str | None:
        key = (deployment, service)
        if self._planned.get(key) is not self._state.service(deployment, service):
            return "it is about to be planned"
        return self._plans[key].pending if key in self._plans else None

    def awaiting(self, deployment: str, service: str) -> str | None:
        key = (deployment, service)
        if self._planned.get(key) is not self._state.service(deployment, service):
            return None
        return self._plans[key].awaiting if key in self._plans else None

    def problems(self) -> Sequence[str]:
        return self._problems + ((self._state.problem,) if self._state.problem else ())

    def wake(self) -> None:
        self._awake.set()

    # The loop

    async def run(self) -> None:
        """Keep going until cancelled. Instances and router are left as they are."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._wake_on_changes())
                tasks.create_task(self._keep_true())
        finally:
            await self._health.close()
            await self._actor.close()

    async def _wake_on_changes(self) -> None:
        async for _ in self._state.changes():
            self.wake()

    async def _keep_true(self) -> None:
        quiet = 0
        while True:
            self._awake.clear()
            try:
                acted = await self.tick()
            except (BackendError, RouterError, StoreError, TimeoutError) as error:
                acted = False
                self._set_problem(f"{error or 'An answer took too long'} ({type(error).__name__})")
            except Exception as error:
                acted = False
                self._set_problem(f"The reconcile loop has a fault of its own: {error!r}")
                log.exception("reconcile fault")
            busy = any(each.pending for each in self._plans.values())
            quiet = 0 if acted else quiet + 1
            pause = min(BUSY_TICK * 1.2**quiet, IDLE_TICK) if busy else IDLE_TICK
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0 if acted else pause):
                    await self._awake.wait()
                    quiet = 0

    async def tick(self) -> bool:
        """Look, plan and act once; True when anything was done. Raises when it could not see or act."""
        async with asyncio.timeout(LOOK_TIMEOUT):
            observation, table = await asyncio.gather(self._backend.observe(), self._router.table())
        if observation.unreachable:
            hosts = ", ".join(sorted(observation.unreachable))
            raise BackendError(f"no answer from {hosts}: what runs there is not known, so nothing is changed")
        now = datetime.now(UTC)
        desired = {each.key: each for each in self._desired()}
        self._look(observation, table, desired, now)
        await self._tell_health(observation)
        await self._forget_lost_targets(observation, table)
        plans = dict(self._plan(desired, observation, table, now))
        self._plans = plans
        self._planned = {key: desired[key].service if key in desired else None for key in plans}
        self._clear_problem()
        actions = [action for plan in plans.values() for action in plan.actions]
        if actions:
            failures = await self._actor.perform(actions, table.pools)
            self._note_starts({each.key for each in actions}, failures, desired, now)
        return bool(actions)

    async def _forget_lost_targets(self, observation: Observation, table: Table) -> None:
        """Those that drain and have no instance any more, so that no plan ever stops them.

        A proxy that was killed may come up with a table that is some moments old.
        """
        known = {each.id for each in observation.instances} | self._actor.stopping
        for target in sorted(table.draining.keys() - known):
            log.info("route.forgotten target=%s: its instance is gone", target)
            await self._router.remove(target)

    def _desired(self) -> Iterator[DesiredService]:
        for service in self._state.services():
            versions = {}
            for number in {service.target, service.current} - {None}:
                version = self._state.version(service.deployment, service.name, number or 0)
                if version is not None:
                    versions[version.number] = version
            yield desired_service(service, versions, frozenset(domains_of(service, self._domain)))

    def _look(
        self, observation: Observation, table: Table, desired: Mapping[Key, DesiredService], now: datetime
    ) -> None:
        """Bring what is remembered between ticks up to what was just seen."""
        self._observation = observation
        routed = frozenset(target.id for pool in table.pools.values() for target in pool.targets)
        checks = {each.id: self._check(desired, each) for each in observation.instances}
        self._health.update(
            [each for each in observation.instances if each.id not in self._actor.stopping], checks, routed
        )
        self._draining_since = {each: self._draining_since.get(each, now) for each in table.draining}

    def _check(self, desired: Mapping[Key, DesiredService], instance: Instance) -> HealthCheck:
        wanted = desired.get((instance.deployment, instance.service))
        for release in (wanted.goal, wanted.serving) if wanted else ():
            if release is not None and release.version.number == instance.version:
                return release.health
        return HealthCheck()

    def _plan(
        self, desired: Mapping[Key, DesiredService], observation: Observation, table: Table, now: datetime
    ) -> Iterator[tuple[Key, Plan]]:
        instances: dict[Key, list[Instance]] = {}
        for each in observation.instances:
            instances.setdefault((each.deployment, each.service), []).append(each)
        pooled = {(name.split("/")[0], name.split("/")[-1]) for name in table.pools}
        for key in sorted({*desired, *instances, *pooled}):
            observed = self._observed(key, instances.get(key, []), table)
            if key not in desired:
                yield key, plan_orphans(key, observed, now, self._timing)
                continue
            failure = self._start_failure(desired[key])
            if failure is not None and (failure.attempts >= START_ATTEMPTS or not failure.error.retryable):
                observed = replace(observed, start_failure=str(failure.error))
            plan = plan_service(desired[key], observed, now, self._timing)
            if failure is not None and now < failure.not_before:
                plan = _without_starts(plan, str(failure.error))
            yield key, plan

    def _observed(self, key: Key, instances: Sequence[Instance], table: Table) -> ObservedService:
        ids = [each.id for each in instances]
        return ObservedService(
            instances=instances,
            ready=frozenset(each for each in ids if self._health.ready(each)),
            probes={each: said for each in ids if (said := self._health.said(each))},
            probed_since={each: since for each in ids if (since := self._health.since(each))},
            stopping=self._actor.stopping & frozenset(ids),
            pool=table.pools.get(pool_name(key)),
            draining={each: table.draining[each] for each in ids if each in table.draining},
            draining_since={each: self._draining_since[each] for each in ids if each in self._draining_since},
        )

    # Starts that fail

    def _start_failure(self, desired: DesiredService) -> _StartFailure | None:
        failure = self._start_failures.get(desired.key)
        if failure is not None and failure.goal != (desired.service.target, desired.service.generation):
            del self._start_failures[desired.key]
            return None
        return failure

    def _note_starts(
        self,
        acted: set[Key],
        failures: Mapping[Key, BackendError],
        desired: Mapping[Key, DesiredService],
        now: datetime,
    ) -> None:
        for key in acted - failures.keys():
            self._start_failures.pop(key, None)
        for key, error in failures.items():
            known = self._start_failures.get(key)
            attempts = known.attempts + 1 if known else 1
            pause = min(0.5 * 2**attempts, LONGEST_BACKOFF)
            service = desired[key].service
            self._start_failures[key] = _StartFailure(
                (service.target, service.generation), attempts, error, now + timedelta(seconds=pause)
            )

    # Telling

    def _shown(self, instance: Instance) -> Instance:
        if instance.id in self._actor.stopping:
            return replace(instance, state=InstanceState.STOPPING)
        if instance.state is InstanceState.RUNNING and not self._health.ready(instance.id):
            return replace(instance, state=InstanceState.STARTING, detail=self._health.said(instance.id))
        if instance.state is InstanceState.STARTING and self._health.ready(instance.id):
            return replace(instance, state=InstanceState.RUNNING)
        return instance

    async def _tell_health(self, observation: Observation) -> None:
        """Journal what became healthy and what crashed since the last look."""
        drafts, told = [], {}
        for each in observation.instances:
            before = self._told.get(each.id, "")
            if each.state is InstanceState.CRASHED:
                told[each.id] = f"{each.id} {each.detail or 'crashed'}"
                kind = "instance.crashed"
            elif self._health.ready(each.id):
                told[each.id] = f"{each.id} is healthy"
                kind = "instance.healthy"
            else:
                told[each.id] = before
                continue
            if told[each.id] != before:
                drafts.append(
                    EventDraft(
                        kind=kind, deployment=each.deployment, service=each.service, text=told[each.id]
                    )
                )
        first_look = not self._plans and not self._planned
        self._told = told
        if drafts and not first_look:
            await self._state.commit(events=drafts)

    def _set_problem(self, text: str) -> None:
        if self._problems != (text,):
            log.warning("reconcile can't go on: %s", text)
        self._problems = (text,)

    def _clear_problem(self) -> None:
        if self._problems:
            log.info("reconcile sees everything")
        self._problems = ()


def _without_starts(plan: Plan, why: str) -> Plan:
    actions = tuple(each for each in plan.actions if not isinstance(each, Start))
    return Plan(actions, plan.waiting or f"an instance could not be started: {why}")
