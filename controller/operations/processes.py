"""How many instances run, and whether they do: scale, restart, stop, start."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from controller.errors import InvalidInput, NotFound, Refused
from controller.formation import process_commands, withdrawn_of
from controller.names import Address
from controller.operations.access import Actor, shown_version
from controller.operations.lookup import address_of, find_wanted, get_service
from controller.operations.runtime import Runtime
from controller.operations.scaling import rescaled, scaled
from controller.operations.selection import Selection, selected
from controller.operations.services import ServiceOperations
from controller.operations.text import is_passable
from controller.state import EventDraft, Put, State, put
from controller.types import Instance, InstanceState, Raise, Right, Service, Version
from router.diff import normal_page
from router.types import MAX_PAGE


class ProcessOperations:
    """`process` of a call: a process type (`web`), an instance (`web.1`, or its id), or None for all of it."""

    def __init__(
        self, state: State, runtime: Runtime, services: ServiceOperations, *, clock: Callable[[], datetime]
    ) -> None:
        self._state = state
        self._runtime = runtime
        self._services = services
        self._clock = clock

    async def scale(self, asker: Actor, address: Address, changes: Mapping[str, str]) -> None:
        """Process type to "2", "+1" or "-1". Raises InvalidInput."""
        if not changes:
            raise InvalidInput("scale", "Name at least one process type, as in web=2.")

        def change(service: Service) -> tuple[Service, str, str]:
            wanted = find_wanted(self._state, service)
            scale = scaled(service, wanted, changes)
            told = " ".join(f"{kind or 'web'}={scale[kind]}" for kind in sorted(scale))
            return rescaled(service, wanted, scale, self._clock()), "service.scaled", f"scaled to {told}"

        await self._change(asker, address, change)

    async def restart(self, asker: Actor, address: Address, process: str | None = None) -> Version:
        """Replace instances by new ones of the same version; where none ever came up, try the newest again, as a
        further one. Raises Refused where there is nothing to restart."""
        if process is None and self._never_came_up(get_service(self._state, asker, address, Right.OPERATE)):
            retried = await self._services.retry(asker, address)
            if retried.version is not None:
                return retried.version

        def change(service: Service) -> tuple[Service, str, str]:
            wanted = find_wanted(self._state, service)
            if wanted is None:
                raise Refused(f"{address_of(service)} has no version to restart yet: push some code first.")
            if service.stopped:
                raise Refused(f"{address_of(service)} is stopped: start it instead (ps:start).")
            if process is not None:
                what = selected(service, wanted, process)
                replacing = self._to_replace(service, wanted, what)
                restarted = replace(service, replacing=replacing)
                return self._begun(restarted), "service.restart", f"restart of {what} was asked for"
            restarted = replace(service, generation=service.generation + 1, withdrawn=(), replacing=())
            return self._begun(restarted), "service.restart", "restart was asked for"

        service = await self._change(asker, address, change)
        wanted = find_wanted(self._state, service)
        if wanted is None:
            raise NotFound(f"{address} was destroyed meanwhile.")
        return shown_version(asker, wanted)

    def _never_came_up(self, service: Service) -> bool:
        return bool(service.latest and not service.stopped and find_wanted(self._state, service) is None)

    async def stop(self, asker: Actor, address: Address, process: str | None = None) -> None:
        """Stop instances; the domains stay and are answered with 503 where none is left that takes requests."""

        def change(service: Service) -> tuple[Service, str, str]:
            if process is None:
                return replace(service, stopped=True), "service.stopped", "stop was asked for"
            wanted = self._wanted(service)
            what = selected(service, wanted, process)
            told = f"stop of {what} was asked for"
            if what.number is None:
                kinds = {*service.stopped_types, what.process_type}
                return replace(service, stopped_types=tuple(sorted(kinds))), "service.stopped", told
            self._check_settled(service, wanted)
            instance = what.instance(wanted)
            if instance not in service.withdrawn:
                self._check_exists(service, instance, what)
            withdrawn = tuple(sorted({*service.withdrawn, instance}))
            replacing = tuple(each for each in service.replacing if each != instance)
            return (
                replace(service, withdrawn=withdrawn, replacing=replacing),
                "service.stopped",
                told,
            )

        await self._change(asker, address, change)

    async def start(self, asker: Actor, address: Address, process: str | None = None) -> None:
        """Undo `stop`; None undoes every one. A rollout that was under way begins anew."""

        def change(service: Service) -> tuple[Service, str, str]:
            if process is None:
                return self._started(service), "service.started", "start was asked for"
            if service.stopped:
                raise Refused(f"{address_of(service)} is stopped as a whole: start that first (ps:start).")
            wanted = self._wanted(service)
            what = selected(service, wanted, process)
            told = f"start of {what} was asked for"
            if what.number is None:
                kept = tuple(each for each in service.stopped_types if each != what.process_type)
                gone = withdrawn_of(service, wanted.number, what.process_type)
            else:
                kept, gone = service.stopped_types, frozenset({what.instance(wanted)})
                if not gone <= set(service.withdrawn):
                    self._check_exists(service, min(gone), what)
            withdrawn = tuple(each for each in service.withdrawn if each not in gone)
            started = replace(service, stopped_types=kept, withdrawn=withdrawn)
            if started != service:
                started = replace(
                    started, raised={**service.raised, what.process_type: self._raise("started")}
                )
            return started, "service.started", told

        await self._change(asker, address, change)

    async def set_maintenance(self, asker: Actor, address: Address, on: bool, *, page: str = "") -> None:
        """The router answers for the service, with `page` (HTML) or its own one; what runs goes on running.

        Raises InvalidInput for a page that is too large.
        """
        if len(page.encode(errors="replace")) > MAX_PAGE or not is_passable(page):
            raise InvalidInput(
                "page",
                f"The page must be valid text of at most {MAX_PAGE // 1024} KiB: link to what is large.",
            )
        shown = normal_page(page) if on else ""

        def change(service: Service) -> tuple[Service, str, str]:
            told = f"maintenance was turned {'on' if on else 'off'}"
            changed = replace(service, maintenance=on, maintenance_page=shown)
            if changed != service and on and service.maintenance:
                told = "the maintenance page was changed"
            return changed, "service.maintenance", told

        await self._change(asker, address, change)

    def _started(self, service: Service) -> Service:
        started = replace(service, stopped=False, stopped_types=(), withdrawn=())
        rolling = (service.target, service.generation) != (service.current, service.current_generation)
        if service.stopped and rolling:
            return self._begun(started)
        wanted = find_wanted(self._state, service)
        if started == service or wanted is None:
            return started
        return replace(started, raised=dict.fromkeys(process_commands(wanted), self._raise("started")))

    def _to_replace(self, service: Service, wanted: Version, what: Selection) -> tuple[str, ...]:
        """Ids of what is being replaced, with those that are meant."""
        self._check_settled(service, wanted)
        if what.number is not None:
            self._check_exists(service, what.instance(wanted), what)
            return tuple(sorted({*service.replacing, what.instance(wanted)}))
        ids = {each.id for each in self._instances(service) if each.process_type == what.process_type}
        if not ids:
            raise Refused(f"{address_of(service)} runs no {what} that could be restarted.")
        return tuple(sorted({*service.replacing, *ids}))

    def _check_settled(self, service: Service, wanted: Version) -> None:
        if (service.target, service.generation) != (service.current, service.current_generation):
            raise Refused(
                f"v{wanted.number} of {address_of(service)} is being rolled out, which replaces every instance: "
                "wait until that has ended."
            )

    def _check_exists(self, service: Service, instance: str, what: Selection) -> None:
        if all(each.id != instance for each in self._instances(service)):
            raise NotFound(f"{address_of(service)} has no instance {what} now: `ps` lists those that it has.")

    def _instances(self, service: Service) -> Sequence[Instance]:
        """Those of what serves that are not on their way out."""
        return [
            each
            for each in self._runtime.instances(service.deployment, service.name)
            if (each.version, each.generation) == (service.current, service.current_generation)
            and each.state not in (InstanceState.STOPPING, InstanceState.STOPPED)
        ]

    def _wanted(self, service: Service) -> Version:
        wanted = find_wanted(self._state, service)
        if wanted is None:
            raise Refused(f"{address_of(service)} has no version yet: push some code first.")
        return wanted

    def _raise(self, reason: str) -> Raise:
        return Raise(at=self._clock(), reason=reason)

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
