"""How many instances run, and whether they do: scale, restart, stop, start."""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from datetime import datetime

from controller.errors import InvalidInput, NotFound, Refused
from controller.formation import UNNAMED, process_commands, wanted_processes
from controller.names import Address, check_process_type
from controller.operations.access import Actor, shown_version
from controller.operations.lookup import address_of, find_wanted, get_service
from controller.operations.runtime import Runtime
from controller.state import EventDraft, Put, State, put
from controller.types import Right, Service, Version

MAX_INSTANCES = 100
"""Of one process type."""


def scaled(service: Service, wanted: Version | None, changes: Mapping[str, str]) -> Mapping[str, int]:
    """The service's `scale` after the changes ("2", "+1", "-1" by process type); raises InvalidInput. Pure."""
    commands = process_commands(wanted) if wanted else None
    now = wanted_processes(service, wanted) if wanted else service.scale
    scale = dict(service.scale)
    for given, amount in changes.items():
        kind = _known_type(given, commands)
        match = re.fullmatch(r"([+-]?)([0-9]{1,4})", amount.strip())
        if not match:
            raise InvalidInput("scale", f"{given}={amount[:40]!a} is no number: use {given}=2, or +1 or -1.")
        number = int(match[2])
        if match[1]:
            before = now.get(kind, 1 if kind in ("web", UNNAMED) else 0)
            number = before + number if match[1] == "+" else before - number
        if not 0 <= number <= MAX_INSTANCES:
            raise InvalidInput(
                "scale", f"{given} would have {number} instances: 0 to {MAX_INSTANCES} are possible."
            )
        scale[kind] = number
    return scale


def _known_type(given: str, commands: Mapping[str, str] | None) -> str:
    """`web` stands for the unnamed type where there is no other."""
    if commands is None:
        return check_process_type(given)
    if given in commands:
        return given
    if given == "web" and UNNAMED in commands:
        return UNNAMED
    known = ", ".join(sorted(each or "web" for each in commands))
    raise InvalidInput("scale", f"There is no process type {given[:40]!a}. Known are: {known}.")


class ProcessOperations:
    def __init__(self, state: State, runtime: Runtime, *, clock: Callable[[], datetime]) -> None:
        self._state = state
        self._runtime = runtime
        self._clock = clock

    async def scale(self, asker: Actor, address: Address, changes: Mapping[str, str]) -> None:
        """Process type to "2", "+1" or "-1". Raises InvalidInput."""
        if not changes:
            raise InvalidInput("scale", "Name at least one process type, as in web=2.")

        def change(service: Service) -> tuple[Service, str, str]:
            scale = scaled(service, find_wanted(self._state, service), changes)
            told = " ".join(f"{kind or 'web'}={scale[kind]}" for kind in sorted(scale))
            return replace(service, scale=scale), "service.scaled", f"scaled to {told}"

        await self._change(asker, address, change)

    async def restart(self, asker: Actor, address: Address) -> Version:
        """Replace all instances by new ones of the same version. Raises Refused where there is nothing to restart."""

        def change(service: Service) -> tuple[Service, str, str]:
            if find_wanted(self._state, service) is None:
                raise Refused(f"{address_of(service)} has no version to restart yet: push some code first.")
            if service.stopped:
                raise Refused(f"{address_of(service)} is stopped: start it instead (ps:start).")
            restarted = replace(service, generation=service.generation + 1)
            return self._begun(restarted), "service.restart", "restart was asked for"

        service = await self._change(asker, address, change)
        wanted = find_wanted(self._state, service)
        if wanted is None:
            raise NotFound(f"{address} was destroyed meanwhile.")
        return shown_version(asker, wanted)

    async def stop(self, asker: Actor, address: Address) -> None:
        """Stop all instances; the domains stay and are answered with 503."""
        await self._change(
            asker,
            address,
            lambda service: (replace(service, stopped=True), "service.stopped", "stop was asked for"),
        )

    async def start(self, asker: Actor, address: Address) -> None:
        """Undo `stop`. A rollout that was under way begins anew."""

        def change(service: Service) -> tuple[Service, str, str]:
            started = replace(service, stopped=False)
            rolling = (service.target, service.generation) != (service.current, service.current_generation)
            if service.stopped and rolling:
                started = self._begun(started)
            return started, "service.started", "start was asked for"

        await self._change(asker, address, change)

    def _begun(self, service: Service) -> Service:
        return replace(service, rollout_started_at=self._clock(), rollout_failure="")

    async def _change(
        self, asker: Actor, address: Address, change: Callable[[Service], tuple[Service, str, str]]
    ) -> Service:
        """`change` gives the service as it shall be, the event's kind and its text; the same again is no event."""

        def decide() -> Iterable[Put | EventDraft]:
            service = get_service(self._state, asker, address, Right.OPERATE)
            changed, kind, text = change(service)
            if changed == service:
                return ()
            event = EventDraft(
                kind=kind, deployment=service.deployment, service=service.name, actor=asker.name, text=text
            )
            return put(changed), event

        await self._state.transact(decide)
        self._runtime.wake()
        return get_service(self._state, asker, address, Right.OPERATE)
