"""Following what a service is busy with, step by step, as it happens."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace

from controller.errors import Unavailable
from controller.names import Address
from controller.operations.access import Actor, Renew, shown_version
from controller.operations.following import while_allowed
from controller.operations.lookup import address_of, find_wanted, get_service, get_version
from controller.operations.runtime import Runtime
from controller.state import State
from controller.types import Event, Right, Service, Version, VersionStatus
from controller.views import RolloutStep

POLL = 0.1
"""Seconds between two looks at what no event tells: that the last instance is gone."""

ROLLOUT = frozenset({"version.created", "service.restart", "service.started"})
"""Kinds of events with which a rollout begins, so that an older one's failure no longer counts."""
ASKED = ROLLOUT | {"service.scaled", "service.stopped", "domains.changed"}
"""Kinds of events that tell what was asked for: with the newest of them begins what a service is busy with."""


class RolloutOperations:
    def __init__(self, state: State, runtime: Runtime, *, renew: Renew) -> None:
        self._state = state
        self._runtime = runtime
        self._renew = renew

    def follow(self, asker: Actor, address: Address, number: int | None = None) -> AsyncIterator[RolloutStep]:
        """The rollout of that version from its start until it has ended, as `Client.follow` tells.

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
            address, lambda event: event.kind == "version.created" and event.data.get("version") == number
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
            return _kept_back(asker, service, version) if service.stopped else None
        failure = version.failure if version.status is VersionStatus.FAILED else ""
        return RolloutStep(text="", done=True, version=shown_version(asker, version), failure=failure)

    def _settled(self, asker: Actor, address: Address, old_failure: str) -> RolloutStep | None:
        service = self._state.service(address.deployment, address.service)
        if service is None:
            return _destroyed(address)
        if self._runtime.pending(address.deployment, address.service) is not None:
            return None
        wanted = find_wanted(self._state, service)
        failure = service.rollout_failure if service.rollout_failure != old_failure else ""
        return RolloutStep(
            text="" if failure else "settled",
            done=True,
            version=shown_version(asker, wanted) if wanted else None,
            failure=failure,
        )


def _kept_back(asker: Actor, service: Service, version: Version) -> RolloutStep:
    """Nobody knows when it goes on, so nobody is made to wait for it."""
    text = f"{address_of(service)} is stopped: v{version.number} comes up once it is started (ps:start)"
    return RolloutStep(text=text, done=True, version=shown_version(asker, version))


def _destroyed(address: Address) -> RolloutStep:
    text = f"{replace(address, process_type=None)} was destroyed"
    return RolloutStep(text=text, done=True, failure=text)
