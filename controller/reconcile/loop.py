"""The loop that keeps the desired state true: look, plan, act, and again.

It is the only part that starts, stops or routes anything. Where it can't see (a store, a backend or
a router that does not answer) it does nothing and says so: unknown is not empty.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from controller.backends.base import Backend, BackendError, Observation
from controller.domains import domains_of
from controller.operations.execs import provisional_version
from controller.plugins.generate import secrets_of
from controller.provided import effective
from controller.reconcile.act import Actor, FailedStart
from controller.reconcile.act_runs import Prepare, as_planned
from controller.reconcile.actions import Plan, Start
from controller.reconcile.desired import DesiredService, Key, desired_service
from controller.reconcile.health import HealthWatch
from controller.reconcile.observed import ObservedService
from controller.reconcile.plan import plan_orphans
from controller.reconcile.plan_runs import ObservedRuns, plan_service_and_runs
from controller.reconcile.probing import Probe, Prober
from controller.reconcile.routing import place_of
from controller.reconcile.sight import Sight
from controller.reconcile.timing import Timing
from controller.state import EventDraft, State
from controller.store.base import StoreError
from controller.types import NO_LIMITS, HealthCheck, Instance, InstanceState, Limits, Service, Version
from router.base import Router, RouterError
from router.types import Table

log = logging.getLogger(__name__)

LOOK_TIMEOUT = 15.0
"""Seconds that backend or router may take to tell what there is."""
COMPLETE_LOOK = 30.0
"""Seconds between two looks at everything: in between, backend and router may tell only what has changed."""
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
    of: tuple[int, int]
    """Version and generation of what could not be started: the goal, or what serves until then."""
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
        prober: Prober | None = None,
        limits: Limits = NO_LIMITS,
        prepare: Prepare = as_planned,
    ) -> None:
        """`limits`: of services that have none of their own. `prepare`: has the last word on what is started."""
        self._state = state
        self._backend = backend
        self._router = router
        self._domain = domain
        self._timing = timing
        self._limits = limits
        self._awake = asyncio.Event()
        self._changes = state.changes()
        self._health = HealthWatch(prober or Probe(backend), self._note_due)
        self._actor = Actor(
            state,
            backend,
            router,
            wake=self._note_due,
            release_timeout=timing.release_timeout,
            prepare=prepare,
        )
        self._sight = Sight()
        self._stopping = frozenset[str]()
        """Ids of instances whose stop was under way when the last look began."""
        self._starting = frozenset[str]()
        """The same of one-offs and their starts."""
        self._looked = False
        """Whether everything was seen and planned once."""
        self._look_at_all = 0.0
        """When (monotonic) the next look asks for everything, not only for what has changed."""
        self._due: set[Key] = set()
        """Services that something happened to since they were planned last."""
        self._plans: dict[Key, Plan] = {}
        """Of services that have not settled."""
        self._resting: dict[Key, Plan] = {}
        """Of services that have settled for now, but for a time that comes or a person who decides."""
        self._planned: dict[Key, Service] = {}
        self._problems: tuple[str, ...] = ("The first look at what runs is not done yet.",)
        self._start_failures: dict[Key, _StartFailure] = {}
        self._told: dict[Key, Mapping[str, str]] = {}
        """By service: instance id to what the journal last said of its health."""

    # What operations may ask

    @property
    def backend(self) -> Backend:
        return self._backend

    def instances(self, deployment: str, service: str | None = None) -> Sequence[Instance]:
        found: Iterable[Instance] = (
            self._sight.instances_of_deployment(deployment)
            if service is None
            else self._sight.instances((deployment, service))
        )
        return sorted(
            (self._shown(each) for each in found if not each.once),
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
        plan = self._plans.get(key) or self._resting.get(key)
        return plan.awaiting if plan else None

    def stopping(self) -> Mapping[str, datetime]:
        since = self._actor.stopping_since
        return {each: since[each] for each in self._sight.present(since)}

    def problems(self) -> Sequence[str]:
        return self._problems + ((self._state.problem,) if self._state.problem else ())

    def wake(self) -> None:
        self._awake.set()

    def look_at_everything(self) -> None:
        """At the next look, whatever backend and router could leave out."""
        self._look_at_all = 0.0

    def _note_due(self, key: Key) -> None:
        self._due.add(key)
        self.wake()

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
        async for touched in self._changes:
            self._due |= touched
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
            quiet = 0 if acted else quiet + 1
            pause = min(BUSY_TICK * 1.2**quiet, IDLE_TICK) if self._plans else IDLE_TICK
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0 if acted else pause):
                    await self._awake.wait()
                    quiet = 0

    async def tick(self) -> bool:
        """Look, plan and act once; True when anything was done. Raises when it could not see or act."""
        now = datetime.now(UTC)
        due = await self._look(now)
        try:
            desired = {key: wanted for key in due if (wanted := self._desired(key)) is not None}
            self._follow_health(due, desired)
            await self._tell_health(due)
            await self._forget_lost_targets()
            plans = {key: self._plan(key, desired.get(key), now) for key in sorted(due)}
            self._note_plans(plans, desired)
            self._clear_problem()
            actions = [action for plan in plans.values() for action in plan.actions]
            if actions:
                failures = await self._actor.perform(actions)
                started = {each.key for each in actions if isinstance(each, Start)}
                self._note_starts(started, failures, desired, now)
        except BaseException:
            self._due |= due
            raise
        return bool(actions)

    async def _look(self, now: datetime) -> set[Key]:
        """The services to plan: those that look different, were touched, or have not settled."""
        everything = time.monotonic() >= self._look_at_all
        if everything:
            self._sight.forget_cursors()
        # What ends while we look may be seen as it was before: it is looked at once more after this.
        self._stopping, self._starting = self._actor.stopping, self._actor.starting
        noted, self._due = self._due, set()
        try:
            observation, table = await self._see()
        except BaseException:
            self._due |= noted
            raise
        if everything:
            self._look_at_all = time.monotonic() + COMPLETE_LOOK
        changed = self._sight.take(observation, table, now)
        due = changed | noted | self._due | self._plans.keys() | self._changes.take()
        due |= {key for key, plan in self._resting.items() if plan.again_at and plan.again_at <= now}
        if not self._looked:
            due |= self._sight.keys() | {(each.deployment, each.name) for each in self._state.services()}
        return {key for key in due if key[1] or self._sight.pool(key)} | self._reached(due)

    async def _see(self) -> tuple[Observation, Table]:
        """What runs and what is routed. Raises where anything of it is not known."""
        async with asyncio.timeout(LOOK_TIMEOUT):
            observation, table = await asyncio.gather(
                self._backend.observe(after=self._sight.instances_cursor),
                self._router.table(after=self._sight.table_cursor),
            )
        if observation.unreachable:
            hosts = ", ".join(sorted(observation.unreachable))
            raise BackendError(f"no answer from {hosts}: what runs there is not known, so nothing is changed")
        return observation, table

    def _reached(self, due: Iterable[Key]) -> set[Key]:
        """Services of deployments that changed themselves, where those say at which ports they are reached."""
        found = set[Key]()
        for name, service in due:
            deployment = self._state.deployment(name) if not service else None
            if deployment is not None and deployment.inner_ports:
                found |= {(name, each.name) for each in self._state.services(name)}
        return found

    def _desired(self, key: Key) -> DesiredService | None:
        service = self._state.service(*key)
        if service is None:
            return None
        versions = {
            number: effective(version)
            for number in {service.target, service.current} - {None}
            if number and (version := self._state.version(*key, number)) is not None
        }
        domains = frozenset(domains_of(service, self._domain))
        deployment = self._state.deployment(service.deployment)
        return desired_service(service, versions, domains, self._limits, deployment)

    async def _forget_lost_targets(self) -> None:
        """Those that drain and have no instance any more, so that no plan ever stops them.

        A proxy that was killed may come up with a table that is some moments old.
        """
        for target in self._sight.lost_targets():
            if target not in self._actor.stopping:
                log.info("route.forgotten target=%s: its instance is gone", target)
                await self._router.remove(target)

    def _follow_health(self, due: Iterable[Key], desired: Mapping[Key, DesiredService]) -> None:
        for key in due:
            instances = [
                each
                for each in self._sight.instances(key)
                if each.id not in self._actor.stopping and not each.once
            ]
            checks = {each.id: _check(desired.get(key), each) for each in instances}
            pool = self._sight.pool(key)
            routed = frozenset(each.id for each in instances if pool and place_of(each) in pool.targets)
            self._health.update(key, instances, checks, routed)

    def _plan(self, key: Key, desired: DesiredService | None, now: datetime) -> Plan:
        observed = self._observed(key)
        if desired is None:
            self._start_failures.pop(key, None)
            return plan_orphans(key, observed, now, self._timing)
        failure = self._start_failure(desired)
        tried = failure is not None and (failure.attempts >= START_ATTEMPTS or not failure.error.retryable)
        if failure is not None and tried and failure.of == failure.goal:
            observed = replace(observed, start_failure=str(failure.error))
        plan = plan_service_and_runs(desired, self._runs(key), observed, now, self._timing)
        if failure is not None and now < failure.not_before:
            plan = _without_starts(plan, str(failure.error))
        if plan.pending is None:
            self._start_failures.pop(key, None)  # what could not be started is not wanted any more
        return plan

    def _runs(self, key: Key) -> ObservedRuns:
        runs = self._state.runs(*key)
        numbers = {each.version for each in runs if not each.status.over}
        versions = [version for each in numbers if (version := self._version_of_run(key, each))]
        return ObservedRuns(
            runs=runs,
            versions={each.number: effective(self._with_secrets(each)) for each in versions},
            starting=self._starting | self._actor.starting,
        )

    def _with_secrets(self, version: Version) -> Version:
        """With all of its deployment's secrets: a command of `Exec` may name others than the service does."""
        deployment = self._state.deployment(version.deployment)
        names = {**(secrets_of(deployment) if deployment else {}), **version.provided.vars}
        return replace(version, provided=replace(version.provided, vars=names))

    def _version_of_run(self, key: Key, number: int) -> Version | None:
        if number:
            return self._state.version(*key, number)
        service = self._state.service(*key)
        return None if service is None else provisional_version(self._state, service)

    def _observed(self, key: Key) -> ObservedService:
        instances = self._sight.instances(key)
        ids = [each.id for each in instances]
        return ObservedService(
            instances=instances,
            ready=frozenset(each for each in ids if self._health.ready(each)),
            probes={each: said for each in ids if (said := self._health.said(each))},
            probed_since={each: since for each in ids if (since := self._health.since(each))},
            stopping=(self._stopping | self._actor.stopping) & frozenset(ids),
            pool=self._sight.pool(key),
            draining=self._sight.draining(ids),
            draining_since=self._sight.draining_since(ids),
        )

    def _note_plans(self, plans: Mapping[Key, Plan], desired: Mapping[Key, DesiredService]) -> None:
        for key, plan in plans.items():
            self._plans.pop(key, None)
            self._resting.pop(key, None)
            if plan.pending is not None:
                self._plans[key] = plan
            elif plan.again_at or plan.awaiting:
                self._resting[key] = plan
            if key in desired:
                self._planned[key] = desired[key].service
            else:
                self._planned.pop(key, None)
        self._looked = True

    # Starts that fail

    def _start_failure(self, desired: DesiredService) -> _StartFailure | None:
        failure = self._start_failures.get(desired.key)
        if failure is not None and failure.goal != (desired.service.target, desired.service.generation):
            del self._start_failures[desired.key]
            return None
        return failure

    def _note_starts(
        self,
        started: set[Key],
        failures: Mapping[Key, FailedStart],
        desired: Mapping[Key, DesiredService],
        now: datetime,
    ) -> None:
        for key in started - failures.keys():
            self._start_failures.pop(key, None)
        for key, failed in failures.items():
            known = self._start_failures.get(key)
            of = (failed.spec.version, failed.spec.generation)
            attempts = known.attempts + 1 if known and known.of == of else 1
            pause = min(0.5 * 2**attempts, LONGEST_BACKOFF)
            service = desired[key].service
            self._start_failures[key] = _StartFailure(
                goal=(service.target, service.generation),
                of=of,
                attempts=attempts,
                error=failed.error,
                not_before=now + timedelta(seconds=pause),
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

    async def _tell_health(self, due: Iterable[Key]) -> None:
        """Journal what became healthy and what crashed since the last look."""
        drafts = list[EventDraft]()
        for key in due:
            before, told = self._told.pop(key, {}), dict[str, str]()
            for each in self._sight.instances(key):
                told[each.id], kind = self._health_word(each, before.get(each.id, ""))
                if told[each.id] != before.get(each.id, ""):
                    drafts.append(
                        EventDraft(
                            kind=kind,
                            deployment=key[0],
                            service=key[1],
                            text=told[each.id],
                            data={"instance": each.id},
                        )
                    )
            if told:
                self._told[key] = told
        if drafts and self._looked:
            await self._state.commit(events=drafts)

    def _health_word(self, instance: Instance, before: str) -> tuple[str, str]:
        """What is to be said of it, and as which kind of event."""
        if instance.state is InstanceState.CRASH_LOOPING:
            told = f"{instance.id} keeps ending soon after each start"
            # Once, however often it still ends, and with what.
            return before if before.startswith(told) else _with_cause(
                told, instance
            ), "instance.crash-looping"
        ready = self._health.ready(instance.id)
        # One that was started again before anybody looked has crashed all the same.
        if instance.state is InstanceState.CRASHED or (instance.restarts and instance.detail and not ready):
            return f"{instance.id} {instance.detail or 'crashed'}", "instance.crashed"
        if ready:
            return f"{instance.id} is healthy", "instance.healthy"
        return before, ""

    def _set_problem(self, text: str) -> None:
        if self._problems != (text,):
            log.warning("reconcile can't go on: %s", text)
        self._problems = (text,)

    def _clear_problem(self) -> None:
        if self._problems:
            log.info("reconcile sees everything")
        self._problems = ()


def _with_cause(told: str, instance: Instance) -> str:
    cause = instance.detail.partition(" (")[0]
    return f"{told}: {cause}" if cause else told


def _check(desired: DesiredService | None, instance: Instance) -> HealthCheck:
    for release in (desired.goal, desired.serving) if desired else ():
        if release is not None and release.version.number == instance.version:
            return release.check(instance.process_type)
    return HealthCheck()


def _without_starts(plan: Plan, why: str) -> Plan:
    actions = tuple(each for each in plan.actions if not isinstance(each, Start))
    if len(actions) == len(plan.actions):
        return plan
    return replace(plan, actions=actions, waiting=plan.waiting or f"an instance could not be started: {why}")
