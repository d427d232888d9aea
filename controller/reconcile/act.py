"""Acting: performs what planning asked for, and writes down what came of it."""

import asyncio
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from controller.backends.base import Backend, BackendError, InstanceSpec, SupportsLogs
from controller.logs.query import LogQuery
from controller.reconcile.act_runs import Prepare, RunActor
from controller.reconcile.actions import (
    Action,
    ClearWishes,
    EndRun,
    ForgetRun,
    GiveUp,
    KeepReplaced,
    NoteRun,
    Promote,
    Route,
    Start,
    StartRun,
    Stop,
)
from controller.reconcile.desired import Key
from controller.reconcile.routing import pool_name
from controller.rollout import returned
from controller.state import Delete, EventDraft, Put, State, put
from controller.store.base import StoreError
from controller.types import Service, VersionStatus
from router.base import Router, RouterError

log = logging.getLogger(__name__)

START_TIMEOUT = 60.0
"""Seconds that a backend may take to start one instance."""
STOP_MARGIN = 30.0
"""Seconds beyond the grace period after which a stop that has not returned is tried again."""
FAILURE_LINES = 20
"""How many of its last log lines a failed version keeps."""


@dataclass(frozen=True)
class FailedStart:
    """An instance that could not be started, and why."""

    spec: InstanceSpec
    error: BackendError


class Actor:
    """Performs actions. What fails is reported and left to the next plan."""

    def __init__(
        self,
        state: State,
        backend: Backend,
        router: Router,
        *,
        wake: Callable[[Key], None],
        release_timeout: float,
        prepare: Prepare,
    ) -> None:
        """`prepare`: has the last word on what is about to start."""
        self._prepare = prepare
        self._state = state
        self._backend = backend
        self._router = router
        self._wake = wake
        self._stops_since: dict[str, datetime] = {}
        self._stops: dict[str, asyncio.Task[None]] = {}
        self._runs = RunActor(state, backend, wake=wake, release_timeout=release_timeout, prepare=prepare)

    @property
    def starting(self) -> frozenset[str]:
        """Ids of one-offs whose start is under way."""
        return self._runs.starting

    @property
    def stopping(self) -> frozenset[str]:
        """Ids of instances whose stop is under way."""
        return frozenset(self._stops)

    @property
    def stopping_since(self) -> Mapping[str, datetime]:
        """Ids of instances whose stop has not succeeded, to when it was first tried."""
        return dict(self._stops_since)

    async def perform(self, actions: Sequence[Action]) -> Mapping[Key, FailedStart]:
        """Do all of it. Returns the first start that failed of each service.

        Raises RouterError when the routing could not be changed. Stops go on in the background. What
        goes wrong with one service is raised after the others had their turn.
        """
        await self._tell(actions)
        failures = await self._start([each for each in actions if isinstance(each, Start)])
        await self._route([each for each in actions if isinstance(each, Route)])
        faults: list[Exception] = []
        for each in actions:
            try:
                await self._conclude(each)
            except Exception as fault:
                log.exception("action failed action=%s service=%s", type(each).__name__, "/".join(each.key))
                faults.append(fault)
        if faults:
            raise faults[0]
        return failures

    async def _conclude(self, action: Action) -> None:
        match action:
            case Promote():
                await self._promote(action)
            case GiveUp():
                await self._give_up(action)
            case KeepReplaced() | ClearWishes():
                await self._end_wishes(action)
            case Stop():
                self._begin_stop(action)
            case StartRun():
                await self._runs.start(action)
            case NoteRun():
                await self._runs.note(action)
            case EndRun(key=key, run=run, grace=grace, reason=reason):
                self._begin_stop(Stop(key=key, instance=run.id, grace=grace, reason=reason))
            case ForgetRun(key=key, instance=instance, reason=reason):
                self._begin_stop(Stop(key=key, instance=instance, grace=0, reason=reason))

    async def close(self) -> None:
        """Leave stops that are under way to the next controller."""
        stops = list(self._stops.values())
        for task in stops:
            task.cancel()
        await self._runs.close()
        await asyncio.gather(*stops, return_exceptions=True)

    async def _tell(self, actions: Iterable[Action]) -> None:
        drafts = [draft for each in actions if (draft := _draft(each))]
        for each in drafts:
            log.info("%s service=%s/%s %s", each.kind, each.deployment, each.service, each.text)
        if drafts:
            await self._state.commit(events=drafts)

    async def _start(self, starts: Sequence[Start]) -> Mapping[Key, FailedStart]:
        async def one(action: Start) -> None:
            try:
                async with asyncio.timeout(START_TIMEOUT):
                    await self._backend.start(await self._prepare(action.spec))
            except TimeoutError as error:
                raise BackendError(f"the backend did not start it within {START_TIMEOUT:g} s") from error

        results = await asyncio.gather(*map(one, starts), return_exceptions=True)
        failures: dict[Key, FailedStart] = {}
        for action, result in zip(starts, results, strict=True):
            if isinstance(result, BackendError):
                log.warning("instance.start-failed instance=%s cause=%s", action.spec.id, result)
                failures.setdefault(action.key, FailedStart(action.spec, result))
            elif isinstance(result, Exception):
                log.error("instance.start-fault instance=%s", action.spec.id, exc_info=result)
                ours = BackendError(f"a fault of our own, see the server's log: {result!r}")
                failures.setdefault(action.key, FailedStart(action.spec, ours))
            elif isinstance(result, BaseException):
                raise result
        return failures

    async def _route(self, routes: Sequence[Route]) -> None:
        if routes:
            await self._router.change(
                [each.pool for each in routes if each.pool is not None],
                gone=[pool_name(each.key) for each in routes if each.pool is None],
            )

    def _begin_stop(self, action: Stop) -> None:
        task = asyncio.create_task(self._stop(action), name=f"stop {action.instance}")
        self._stops[action.instance] = task
        self._stops_since.setdefault(action.instance, datetime.now(UTC))

    async def _stop(self, action: Stop) -> None:
        try:
            async with asyncio.timeout(action.grace + STOP_MARGIN):
                await self._router.remove(action.instance)
                await self._backend.stop(action.instance, grace=action.grace)
            self._stops_since.pop(action.instance, None)
            await self._tell_stopped(action)
        except (BackendError, RouterError, TimeoutError) as error:
            log.warning(
                "instance.stop-failed instance=%s cause=%s", action.instance, error or type(error).__name__
            )
            await asyncio.sleep(1.0)  # the next plan tries again: not at once
        finally:
            # First this: whoever is woken looks at once, and what is being stopped is left alone.
            self._stops.pop(action.instance, None)
            self._wake(action.key)

    async def _tell_stopped(self, action: Stop) -> None:
        if self._state.run(action.instance) is not None:
            return  # a one-off, whose end is told elsewhere
        stopped = EventDraft(
            kind="instance.stopped",
            deployment=action.key[0],
            service=action.key[1],
            text=f"{action.instance} is gone",
            data={"instance": action.instance},
        )
        try:
            await self._state.commit(events=[stopped])
        except StoreError as error:
            log.warning("journal.missed instance=%s cause=%s", action.instance, error)

    async def _promote(self, action: Promote) -> None:
        def decide() -> Iterator[Put | Delete | EventDraft]:
            service = self._state.service(*action.key)
            if service is None or (service.target, service.generation) != (action.version, action.generation):
                return  # somebody wants something else by now
            yield put(
                replace(
                    service,
                    current=action.version,
                    current_generation=action.generation,
                    promoted=(),
                    paused=False,
                    rollout_failure="",
                )
            )
            yield from self._set_status(service, action.version, VersionStatus.LIVE)
            if service.current is not None and service.current != action.version:
                yield from self._set_status(service, service.current, VersionStatus.SUPERSEDED)
            restarted = service.current == action.version
            version = self._state.version(*action.key, action.version)
            yield EventDraft(
                kind="service.restarted" if restarted else "version.live",
                deployment=service.deployment,
                service=service.name,
                text=f"Restarted v{action.version}" if restarted else f"v{action.version} is live",
                data={"version": action.version, "reason": action.reason},
            )
            if version is not None and not restarted:
                yield from self._runs.promoted(version)

        await self._state.transact(decide)

    def _set_status(self, service: Service, number: int, status: VersionStatus) -> Iterator[Put]:
        version = self._state.version(service.deployment, service.name, number)
        if version is not None:
            yield put(replace(version, status=status))

    async def _give_up(self, action: GiveUp) -> None:
        lines = await self._last_lines(action)

        def decide() -> Iterator[Put | Delete | EventDraft]:
            service = self._state.service(*action.key)
            if service is None or (service.target, service.generation) != (action.version, action.generation):
                return
            restart = service.current == action.version
            version = self._state.version(*action.key, action.version)
            before = self._state.version(*action.key, service.current or 0)
            yield put(returned(service, version, before, action.reason))
            if version is not None and not restart:
                yield put(replace(version, status=action.status, failure=action.reason, failure_log=lines))
            stays = f"v{service.current} stays" if service.current else "nothing serves"
            yield EventDraft(
                kind=f"{'service.restart-' if restart else 'version.'}{action.status}",
                deployment=service.deployment,
                service=service.name,
                text=f"{'Restart' if restart else f'v{action.version}'} {action.status}, {stays}: {action.reason}",
                data={"version": action.version, "reason": action.reason, "log": list(lines)},
            )

        await self._state.transact(decide)

    async def _end_wishes(self, action: KeepReplaced | ClearWishes) -> None:
        def decide() -> Iterator[Put | Delete | EventDraft]:
            service = self._state.service(*action.key)
            if service is None:
                return
            replaced = set(action.instances) & set(service.replacing)
            changed = replace(
                service,
                replacing=tuple(each for each in service.replacing if each not in action.instances),
                withdrawn=tuple(each for each in service.withdrawn if each not in action.instances),
            )
            failed = isinstance(action, KeepReplaced)
            if failed and replaced:
                changed = replace(changed, rollout_failure=action.reason)
            if changed == service:
                return
            yield put(changed)
            if replaced:
                stay = f"{', '.join(sorted(replaced))} stay{'s' * (len(replaced) == 1)}"
                yield EventDraft(
                    kind="service.restart-failed" if failed else "service.restarted",
                    deployment=service.deployment,
                    service=service.name,
                    text=f"Restart failed, {stay}: {action.reason}" if failed else action.reason,
                    data={"instances": sorted(replaced), "reason": action.reason},
                )

        await self._state.transact(decide)

    async def _last_lines(self, action: GiveUp) -> tuple[str, ...]:
        if not isinstance(self._backend, SupportsLogs) or not action.instances:
            return ()
        lines: list[str] = []
        deployment, service = action.key
        try:
            async with asyncio.timeout(5):
                query = LogQuery(
                    deployment=deployment,
                    service=service,
                    instance=action.instances[0],
                    lines=FAILURE_LINES,
                )
                async for line in self._backend.logs(query).past():
                    lines.append(line.text)
        except (BackendError, TimeoutError) as error:
            log.warning(
                "logs of a failed instance can't be read instance=%s cause=%s", action.instances[0], error
            )
        return tuple(lines)


def _draft(action: Action) -> EventDraft | None:
    """The journal entry for an action that is about to be performed; None where its outcome is told instead."""
    deployment, service = action.key
    data = {}
    match action:
        case Start(spec=spec, reason=reason):
            kind, text = "instance.start", f"Starting {spec.id}: {reason}"
            data = {"instance": spec.id}
        case Stop(instance=instance, reason=reason):
            kind, text = "instance.stop", f"Stopping {instance}: {reason}"
            data = {"instance": instance}
        case Route(reason=reason):
            kind, text = "route.changed", f"Routing: {reason}"
        case EndRun(run=run, reason=reason):
            kind, text = "run.stop", f"Ending {run.process}: {reason}"
        case _:
            return None
    return EventDraft(kind=kind, deployment=deployment, service=service, text=text, data=data)
