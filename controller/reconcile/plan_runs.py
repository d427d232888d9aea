"""Deciding about one-offs, without any I/O: which to start, to end, to note, and whether a version may start.

A run is a record in the state and, while it lives, an instance that its backend starts a single time. As
with everything here nothing is remembered: what the record says and what is observed tell how far it is.

    pending  no instance    start it               running  no instance    lost (or ended, where that was wanted)
    pending  runs           note that it runs      running  exited         note how
    over     instance       forget the instance    no record, instance     the same
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from controller.backends.base import InstanceSpec
from controller.environment import environment
from controller.limits import limits_for
from controller.reconcile.actions import Action, EndRun, ForgetRun, GiveUp, NoteRun, Plan, StartRun
from controller.reconcile.desired import DesiredService, Release
from controller.reconcile.observed import ObservedService
from controller.reconcile.plan import plan_service
from controller.reconcile.timing import Timing
from controller.runs import BEFORE_SWITCH, OF_PEOPLE, commands_before_switch, find_run, run_of_version, title
from controller.servicefile.replace import replaced_text
from controller.types import Instance, InstanceState, Limits, Run, RunStatus, Service, Version

START_LIMIT = timedelta(seconds=60)
"""A run that could not be started for so long has failed."""


@dataclass(frozen=True, kw_only=True)
class ObservedRuns:
    """What is known of a service's one-offs."""

    runs: Sequence[Run] = ()
    """Newest first, ended ones too."""
    versions: Mapping[int, Version] | None = None
    """At least those of runs that are not over."""
    starting: frozenset[str] = frozenset()
    """Ids of runs whose start is under way."""


def plan_service_and_runs(
    desired: DesiredService, known: ObservedRuns, observed: ObservedService, now: datetime, timing: Timing
) -> Plan:
    """The next steps for one service and its one-offs."""
    once = {each.id: each for each in observed.instances if each.once}
    actions = tuple(_runs(desired, known, once, observed, now, timing))
    gate = _gate(desired, known, now, timing)
    rest = replace(observed, instances=[each for each in observed.instances if not each.once])
    plan = _behind(gate, desired, rest, now, timing)
    due = tuple(each for each in (gate.action,) if each is not None)
    return replace(
        plan,
        actions=(*actions, *due, *plan.actions),
        waiting=plan.waiting if gate.awaited else gate.closed or plan.waiting,
        awaiting=gate.closed if gate.awaited else plan.awaiting,
        again_at=min(_times(known, plan), default=None),
    )


def _times(known: ObservedRuns, plan: Plan) -> Iterator[datetime]:
    """When something is due although nothing is seen to change."""
    if plan.again_at is not None:
        yield plan.again_at
    for run in known.runs:
        if not run.status.over and not run.attached and run.started_at is not None:
            yield run.started_at + timedelta(seconds=run.ttl)


# One run


def _runs(
    desired: DesiredService,
    known: ObservedRuns,
    once: Mapping[str, Instance],
    observed: ObservedService,
    now: datetime,
    timing: Timing,
) -> Iterator[Action]:
    open_runs = {each.id: each for each in known.runs if not each.status.over and not each.attached}
    busy = observed.stopping | known.starting
    for run in reversed(open_runs.values()):
        if run.id not in busy:
            yield from _run(desired, run, known, once.get(run.id), now, timing)
    for name in once.keys() - open_runs.keys() - busy:
        yield ForgetRun(key=desired.key, instance=name, reason="how it ended has been noted")


def _run(
    desired: DesiredService,
    run: Run,
    known: ObservedRuns,
    instance: Instance | None,
    now: datetime,
    timing: Timing,
) -> Iterator[Action]:
    ending = _ending(desired.service, run, now)
    if instance is None and run.status is RunStatus.PENDING:
        yield from _pending(desired, run, known, ending, now)
    elif instance is None:
        lost = (RunStatus.LOST, "nothing is left of it, so that its outcome is not known")
        yield _noted(desired, run, *(ending or lost))
    elif instance.state is InstanceState.EXITED:
        yield _exited(desired, run, instance)
    elif instance.state in (InstanceState.STOPPING, InstanceState.STOPPED):
        return
    elif ending is not None:
        yield EndRun(key=desired.key, run=run, grace=timing.stop_grace, reason=ending[1])
    elif run.status is RunStatus.PENDING:
        yield _noted(desired, run, RunStatus.RUNNING, "")


def _ending(service: Service, run: Run, now: datetime) -> tuple[RunStatus, str] | None:
    """As what, and why, it is to end now; None: it may go on."""
    if run.stop_requested_by:
        return RunStatus.STOPPED, f"{run.stop_requested_by} asked for its end"
    if run.kind in BEFORE_SWITCH and run.version != service.target:
        return RunStatus.STOPPED, f"v{run.version} is no longer wanted"
    if run.started_at is not None and now - run.started_at >= timedelta(seconds=run.ttl):
        return RunStatus.TIMED_OUT, f"it did not end within {run.ttl:g} s"
    return None


def _pending(
    desired: DesiredService,
    run: Run,
    known: ObservedRuns,
    ending: tuple[RunStatus, str] | None,
    now: datetime,
) -> Iterator[Action]:
    version = (known.versions or {}).get(run.version)
    if ending is not None:
        yield _noted(desired, run, *ending)
    elif run.kind in BEFORE_SWITCH and desired.goal is None:
        return  # the service is stopped: its version comes up, or not, once it is started
    elif version is None or version.artifact is None:
        yield _noted(desired, run, RunStatus.FAILED, f"v{run.version} has nothing to run any more")
    elif run.created_at is not None and now - run.created_at > START_LIMIT and run.detail:
        yield _noted(desired, run, RunStatus.FAILED, f"it could not be started: {run.detail}")
    else:
        yield StartRun(
            key=desired.key,
            run=run,
            spec=run_spec(desired.service, version, run, desired.limits),
            reason=_reason(run),
        )


def _exited(desired: DesiredService, run: Run, instance: Instance) -> NoteRun:
    if instance.exit_code is None:
        return _noted(desired, run, RunStatus.LOST, instance.detail or "its outcome is not known")
    status = RunStatus.FAILED if instance.exit_code else RunStatus.SUCCEEDED
    return _noted(desired, run, status, instance.detail, instance.exit_code)


def _noted(
    desired: DesiredService, run: Run, status: RunStatus, detail: str, exit_code: int | None = None
) -> NoteRun:
    reason = f"{title(run)}: {detail or status}"
    return NoteRun(
        key=desired.key, run=run.id, status=status, detail=detail, exit_code=exit_code, reason=reason
    )


def _reason(run: Run) -> str:
    if run.resource:
        return f"all that {run.resource} waits for is there"
    if run.job:
        return "its time has come"
    return f"{run.actor or 'somebody'} asked for it" if run.kind == "run" else f"v{run.version} is released"


def run_spec(service: Service, version: Version, run: Run, limits: Limits) -> InstanceSpec:
    """How a run is started: as an instance of its version (an effective one), but once and without a port."""
    assert version.artifact is not None
    names = {} if run.kind in OF_PEOPLE else version.provided.vars
    return InstanceSpec(
        id=run.id,
        deployment=run.deployment,
        service=run.service,
        version=run.version,
        process_type=run.kind,
        number=run.number,
        generation=1,
        artifact=version.artifact,
        command=replaced_text(run.command, names),
        env={**environment(version), **run.env},
        uid=service.uid,
        limits=limits_for(version.definition, run.process_type, limits),
        volumes=version.definition.volumes,
        once=True,
    )


# What a version does before its first instance starts


@dataclass(frozen=True, kw_only=True)
class _Gate:
    closed: str | None = None
    """Why the goal may not start yet, in words; None: it may."""
    action: Action | None = None
    awaited: bool = False
    """A person has to decide before it opens."""


def _gate(desired: DesiredService, known: ObservedRuns, now: datetime, timing: Timing) -> _Gate:
    """Whether the goal has run what it must before its first instance starts, and if not, the next step."""
    goal = desired.goal
    if goal is None or not desired.rolling or goal.version.number == desired.service.current:
        return _Gate()
    for kind, command in commands_before_switch(goal.version).items():
        run = find_run(known.runs, goal.version.number, kind)
        if run is None:
            earlier = _earlier(goal, known)
            if earlier is not None:
                return _Gate(closed=f"the {title(earlier)} ends first")
            if desired.service.paused:
                return _Gate(closed=f"the rollout of v{goal.version.number} is paused", awaited=True)
            new = run_of_version(goal.version, kind, command, ttl=timing.release_timeout, now=now)
            spec = run_spec(desired.service, goal.version, new, desired.limits)
            start = StartRun(key=desired.key, run=new, spec=spec, reason=_reason(new))
            return _Gate(closed=f"the {title(new)} starts", action=start)
        if not run.status.over:
            return _Gate(closed=f"the {title(run)} runs")
        if run.status is not RunStatus.SUCCEEDED:
            return _Gate(closed=f"the {title(run)} failed", action=_given_up(desired, goal, run))
    return _Gate()


def _earlier(goal: Release, known: ObservedRuns) -> Run | None:
    """Two versions' release commands (migrations, most of all) never run at the same time."""
    others = (each for each in known.runs if each.kind in BEFORE_SWITCH and not each.status.over)
    return next((each for each in others if each.version != goal.version.number), None)


def _given_up(desired: DesiredService, goal: Release, run: Run) -> GiveUp:
    what = f"its {run.kind} command"
    match run.status:
        case RunStatus.LOST:
            reason = (
                f"{what} was begun, and how it ended is not known ({run.detail}). It is not run a second time"
            )
        case RunStatus.STOPPED | RunStatus.TIMED_OUT:
            reason = f"{what} was ended: {run.detail}"
        case _:
            reason = f"{what} {run.detail or 'failed'}"
    return GiveUp(
        key=desired.key,
        version=goal.version.number,
        generation=goal.generation,
        instances=(run.id,),
        reason=reason,
    )


def _behind(
    gate: _Gate, desired: DesiredService, observed: ObservedService, now: datetime, timing: Timing
) -> Plan:
    """The service's own plan; while the gate is closed, as if nothing but what serves were wanted."""
    if gate.closed is None:
        return plan_service(desired, observed, now, timing)
    if desired.serving is None and desired.service.current is not None:
        return Plan()  # what serves is not known any more: nothing of it is touched
    return plan_service(replace(desired, goal=desired.serving), observed, now, timing)
