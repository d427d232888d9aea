"""Rollouts: steering the one that is under way, and following what a service is busy with, step by step."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Sequence
from contextlib import aclosing
from dataclasses import replace
from datetime import datetime

from controller.backends.base import BackendError, SupportsLogs
from controller.errors import Refused, Unavailable
from controller.names import Address
from controller.operations.access import Actor, Renew, shown_version
from controller.operations.following import while_allowed
from controller.operations.lookup import address_of, find_wanted, get_service, get_version
from controller.operations.run_output import run_output
from controller.operations.runtime import Runtime
from controller.operations.text import one_line
from controller.rollout import goal_of, goal_text, is_canary, is_restart, is_rolling, returned
from controller.runs import OF_VERSIONS, find_run
from controller.state import EventDraft, Put, State, put
from controller.types import Event, Right, RunKind, Service, Strategy, Version, VersionStatus
from controller.views import RolloutStep

POLL = 0.1
"""Seconds between two looks at what no event tells: that the last instance is gone."""

OF_VERSION = frozenset({"version.created", "rollout.promoted", "rollout.resumed"})
"""Kinds of events with which the rollout of a version begins, or goes on when it had waited."""
ROLLOUT = OF_VERSION | {"service.restart", "service.started"}
"""Kinds of events with which a rollout begins, so that an older one's failure no longer counts."""
ASKED = ROLLOUT | {"service.scaled", "service.stopped", "service.maintenance", "domains.changed"}
"""Kinds of events that tell what was asked for: with the newest of them begins what a service is busy with."""

GIVEN_UP = (VersionStatus.FAILED, VersionStatus.CANCELED)

MAX_REASON = 200
"""Characters of why somebody ended a rollout."""


class RolloutOperations:
    def __init__(
        self, state: State, runtime: Runtime, *, renew: Renew, clock: Callable[[], datetime]
    ) -> None:
        self._state = state
        self._runtime = runtime
        self._renew = renew
        self._clock = clock

    async def promote(self, asker: Actor, address: Address) -> Version:
        """Let the canary take the place of what serves. Promoting it once more changes nothing.

        Answers, as the other calls do, with the version whose rollout it is. Raises Refused.
        """

        def decide(service: Service, target: Version) -> Iterator[Put | EventDraft]:
            if service.promoted == goal_of(service):
                return
            self._check_canary(service, target)
            version, generation = target.number, service.generation
            yield put(replace(service, promoted=(version, generation)))
            yield _event(asker, service, "rollout.promoted", f"{goal_text(service)} was promoted")

        return await self._steer(asker, address, decide)

    async def abort(self, asker: Actor, address: Address, *, reason: str = "") -> Version:
        """End the canary; all requests go to what serves beside it. Raises Refused."""

        def decide(service: Service, target: Version) -> Iterator[Put | EventDraft]:
            self._check_canary(service, target)
            yield from self._back(asker, service, target, f"its canary was aborted by {asker.name}", reason)

        return await self._steer(asker, address, decide)

    async def cancel(self, asker: Actor, address: Address, *, reason: str = "") -> Version:
        """End the rollout, or the restart, under way: what serves is what is wanted again. Raises Refused."""

        def decide(service: Service, target: Version) -> Iterator[Put | EventDraft]:
            yield from self._back(asker, service, target, f"it was canceled by {asker.name}", reason)

        return await self._steer(asker, address, decide)

    async def pause(self, asker: Actor, address: Address) -> Version:
        """Hold the rollout: what runs and is routed stays so until `resume`. Raises Refused."""

        def decide(service: Service, target: Version) -> Iterator[Put | EventDraft]:
            if not service.paused:
                self._check_something_stays(service, target)
                yield put(replace(service, paused=True))
                text = f"the rollout of {goal_text(service)} was paused by {asker.name}"
                yield _event(asker, service, "rollout.paused", text)

        return await self._steer(asker, address, decide)

    def _check_something_stays(self, service: Service, target: Version) -> None:
        """A rollout that stops first can't be held any more once what served is gone, and its goal has begun."""
        if target.definition.rollout.strategy not in (Strategy.STOP_FIRST, Strategy.ALL_AT_ONCE):
            return
        before = (service.current, service.current_generation)
        instances = self._runtime.instances(service.deployment, service.name)
        there = {(each.version, each.generation) for each in instances}
        if service.current is not None and goal_of(service) in there and before not in there:
            raise Refused(
                f"Of what served before {goal_text(service)} nothing runs any more, so there is nothing to hold: "
                "deploy:cancel goes back to it."
            )

    async def resume(self, asker: Actor, address: Address) -> Version:
        """Undo `pause`. The time that a canary has begins anew. Raises Refused."""

        def decide(service: Service, target: Version) -> Iterator[Put | EventDraft]:
            if service.paused:
                yield put(replace(service, paused=False, rollout_started_at=self._clock()))
                text = f"the rollout of {goal_text(service)} was resumed by {asker.name}"
                yield _event(asker, service, "rollout.resumed", text)

        return await self._steer(asker, address, decide)

    async def give_up(self, deployment: str, service: str, goal: tuple[int | None, int], why: str) -> None:
        """On behalf of the server itself; nothing where that is no longer what is on its way."""

        def decide() -> Iterator[Put | EventDraft]:
            found = self._state.service(deployment, service)
            if found is None or not is_rolling(found) or goal_of(found) != goal:
                return
            target = self._state.version(deployment, service, found.target or 0)
            if target is not None:
                yield from self._ended_with(found, target, VersionStatus.FAILED, "", why)

        await self._state.transact(decide)
        self._runtime.wake()

    async def _steer(
        self,
        asker: Actor,
        address: Address,
        decide: Callable[[Service, Version], Iterator[Put | EventDraft]],
    ) -> Version:
        """`decide` on the rollout under way; Refused where there is none."""
        targets: list[Version] = []

        def decided() -> Iterator[Put | EventDraft]:
            service = get_service(self._state, asker, address, Right.DEPLOY)
            target = find_wanted(self._state, service)
            if target is None or not is_rolling(service):
                raise Refused(f"No rollout of {address_of(service)} is under way (see releases).")
            targets[:] = [target]
            yield from decide(service, target)

        await self._state.transact(decided)
        self._runtime.wake()
        target = targets[0]
        now = self._state.version(target.deployment, target.service, target.number)
        return shown_version(asker, now or target)

    def _check_canary(self, service: Service, target: Version) -> None:
        if not is_canary(service, target):
            raise Refused(
                f"The rollout of {goal_text(service)} is not that of a canary which waits for a decision: "
                "deploy:cancel ends it, and it needs no word to go on."
            )

    def _back(
        self, asker: Actor, service: Service, target: Version, what: str, reason: str
    ) -> Iterator[Put | EventDraft]:
        why = f"{what}: {one_line(reason, MAX_REASON)}" if reason.strip() else what
        yield from self._ended_with(service, target, VersionStatus.CANCELED, asker.name, why)

    def _ended_with(
        self, service: Service, target: Version, status: VersionStatus, actor: str, why: str
    ) -> Iterator[Put | EventDraft]:
        """What serves is what is wanted again."""
        current = self._state.version(service.deployment, service.name, service.current or 0)
        yield put(returned(service, target, current, why))
        if not is_restart(service):
            yield put(replace(target, status=status, failure=why))
        stays = f"v{service.current} stays" if service.current else "nothing serves"
        yield EventDraft(
            kind=f"{'service.restart-' if is_restart(service) else 'version.'}{status}",
            deployment=service.deployment,
            service=service.name,
            actor=actor,
            text=f"{goal_text(service)} ends, {stays}: {why}",
            data={"version": service.target},
        )

    def follow(self, asker: Actor, address: Address, number: int | None = None) -> AsyncIterator[RolloutStep]:
        """The rollout of that version, from its start or where it went on last, until it has ended, as
        `Client.follow` tells.

        NotFound and Forbidden are raised by this call, before the first step; Unavailable by the
        iterator when the server stops.
        """
        service = get_service(self._state, asker, address, Right.VIEW)
        if number is None:
            begun = self._find_event(address, lambda event: event.kind in ASKED)
            old_failure = "" if begun is None or begun.kind in ROLLOUT else service.rollout_failure
            steps = self._steps(address, begun, lambda: self._settled(asker, address, old_failure))
            return self._while_allowed(steps, asker, address)
        get_version(self._state, service, number)
        begun = self._find_event(
            address, lambda event: event.kind in OF_VERSION and event.data.get("version") == number
        )
        steps = self._steps(address, begun, lambda: self._ended(asker, address, number))
        return self._while_allowed(steps, asker, address)

    def _while_allowed(
        self, steps: AsyncIterator[RolloutStep], asker: Actor, address: Address
    ) -> AsyncIterator[RolloutStep]:
        def check() -> None:
            # Whoever destroys a deployment loses their right on it, and still is told how it ended.
            if self._state.deployment(address.deployment) is not None:
                self._renew(asker).require(address.deployment, Right.VIEW)

        return while_allowed(steps, check)

    async def _steps(
        self, address: Address, begun: Event | None, last_step: Callable[[], RolloutStep | None]
    ) -> AsyncIterator[RolloutStep]:
        """Every event from `begun` on (None: from now on), then the last step as soon as there is one."""
        seen = self._state.last_event if begun is None else begun.revision - 1
        arrivals = self._state.follow_events(
            address.deployment, address.service, after=self._state.last_event
        )
        arrival = asyncio.ensure_future(anext(arrivals, None))
        hindered: Sequence[str] = ()
        try:
            while True:
                # What ended it is looked at before the events, so that none of them is left out.
                last = last_step()
                for event in self._state.events(address.deployment, address.service, after=seen):
                    yield RolloutStep(text=event.text)
                    seen = event.revision
                    async with aclosing(self._printed(event)) as printed:
                        async for line in printed:
                            yield RolloutStep(text=f"  {line}")
                if last is not None:
                    yield last
                    return
                if (problems := tuple(self._runtime.problems())) != hindered:
                    hindered = problems
                    for each in problems:
                        yield RolloutStep(text=f"Waiting, as the server is hindered: {each}")
                await asyncio.wait({arrival}, timeout=POLL)
                if arrival.done():
                    if arrival.result() is None:
                        raise Unavailable("The server stops: follow again once it is back.")
                    arrival = asyncio.ensure_future(anext(arrivals, None))
        finally:
            arrival.cancel()
            await asyncio.wait({arrival})

    async def _printed(self, event: Event) -> AsyncGenerator[str, None]:
        """What a command prints that a version runs before or after its switch, up to the command's end."""
        run = self._state.run(str(event.data.get("run", ""))) if event.kind == "run.started" else None
        backend = self._runtime.backend
        if run is None or run.kind not in OF_VERSIONS or not isinstance(backend, SupportsLogs):
            return
        try:
            async with aclosing(run_output(self._state, backend, run, follow=True)) as lines:
                async for line in lines:
                    yield line.text
        except BackendError as error:
            yield f"[what it prints can't be read now: {error}]"

    def _find_event(self, address: Address, matches: Callable[[Event], bool]) -> Event | None:
        """The newest that matches; None when it is no longer kept."""
        events = self._state.events(address.deployment, address.service)
        return next((each for each in reversed(events) if matches(each)), None)

    def _ended(self, asker: Actor, address: Address, number: int) -> RolloutStep | None:
        version = self._state.version(address.deployment, address.service, number)
        service = self._state.service(address.deployment, address.service)
        if version is None or service is None:
            return _destroyed(address)
        if version.status is VersionStatus.PENDING:
            return self._kept_back(asker, service, version)
        after = find_run(self._state.runs(service.deployment, service.name), number, RunKind.POSTDEPLOY)
        if after is not None and not after.status.over:
            return None
        failure = version.failure if version.status in GIVEN_UP else ""
        return RolloutStep(text="", done=True, version=shown_version(asker, version), failure=failure)

    def _kept_back(self, asker: Actor, service: Service, version: Version) -> RolloutStep | None:
        """Where nobody knows when it goes on, nobody is made to wait for it."""
        text = _hold(self._runtime, service)
        if text is None:
            return None
        return RolloutStep(text=text, done=True, version=shown_version(asker, version))

    def _settled(self, asker: Actor, address: Address, old_failure: str) -> RolloutStep | None:
        service = self._state.service(address.deployment, address.service)
        if service is None:
            return _destroyed(address)
        wanted = find_wanted(self._state, service)
        if (
            wanted is not None
            and is_rolling(service)
            and (kept_back := self._kept_back(asker, service, wanted))
        ):
            return kept_back
        if self._runtime.pending(address.deployment, address.service) is not None:
            return None
        failure = service.rollout_failure if service.rollout_failure != old_failure else ""
        return RolloutStep(
            text="" if failure else "settled",
            done=True,
            version=shown_version(asker, wanted) if wanted else None,
            failure=failure,
        )


def rollout_text(runtime: Runtime, service: Service) -> str | None:
    """What the rollout under way does or waits for; None where none is."""
    if not is_rolling(service):
        return None
    held = _hold(runtime, service)
    return (
        held or f"{goal_text(service)}: {runtime.pending(service.deployment, service.name) or 'on its way'}"
    )


def waits_for_person(runtime: Runtime, service: Service) -> bool:
    """Whether its rollout goes on only when somebody decides so."""
    return _hold(runtime, service) is not None


def _hold(runtime: Runtime, service: Service) -> str | None:
    """What a rollout waits for that only people can bring about; None: nothing."""
    if service.stopped:
        return f"{address_of(service)} is stopped: v{service.target} comes up once it is started (ps:start)"
    if service.paused:
        return f"the rollout of {goal_text(service)} is paused: deploy:resume lets it go on, deploy:cancel ends it"
    return runtime.awaiting(service.deployment, service.name)


def _event(asker: Actor, service: Service, kind: str, text: str) -> EventDraft:
    return EventDraft(
        kind=kind,
        deployment=service.deployment,
        service=service.name,
        actor=asker.name,
        text=text,
        data={"version": service.target},
    )


def _destroyed(address: Address) -> RolloutStep:
    text = f"{replace(address, process_type=None)} was destroyed"
    return RolloutStep(text=text, done=True, failure=text)
