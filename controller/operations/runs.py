"""One-offs: asking for one, looking at them, their output, the wish that one ends."""

from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from controller.backends.base import SupportsLogs
from controller.difference import HIDDEN
from controller.errors import Conflict, InvalidInput, NotFound, Refused
from controller.names import Address, instance_id
from controller.operations.access import Actor, Renew
from controller.operations.definition import changed_env
from controller.operations.following import while_allowed
from controller.operations.logs import MAX_LINES
from controller.operations.lookup import address_of, find_wanted, get_service
from controller.operations.numbers import seconds
from controller.operations.run_output import run_output
from controller.operations.runtime import Runtime
from controller.operations.text import is_passable
from controller.run_record import begun
from controller.runs import command_line, next_number
from controller.state import EventDraft, Put, State, put
from controller.types import Instance, LogLine, Right, Run, RunKind, RunStatus, Service, Version

MAX_OPEN = 50
"""One-offs of one service that may be under way at once."""
MAX_COMMAND = 64 * 1024
"""Bytes of a command line."""
LONGEST_TTL = 30 * 86400
"""Seconds."""


@dataclass(frozen=True, kw_only=True)
class Order:
    """What somebody wants to be run."""

    command: Sequence[str]
    """One word is a shell line as it is, several are a program and its arguments. The first may name a process type."""
    env: Mapping[str, str] = field(default_factory=dict)
    """Variables over those of the version, for this run alone."""
    ttl: float | None = None
    """Seconds; None: the server's setting."""
    process_type: str = ""
    """Whose limits shall apply."""


class RunOperations:
    def __init__(
        self,
        state: State,
        runtime: Runtime,
        *,
        renew: Renew,
        default_ttl: float,
        clock: Callable[[], datetime],
    ) -> None:
        self._state = state
        self._runtime = runtime
        self._renew = renew
        self._default_ttl = default_ttl
        self._clock = clock

    def list(self, asker: Actor, address: Address) -> Sequence[Run]:
        """Newest first, ended ones too."""
        service = get_service(self._state, asker, address, Right.VIEW)
        return [shown_run(each) for each in self._state.runs(service.deployment, service.name)]

    def get(self, asker: Actor, address: Address, name: str) -> Run:
        """By its id or by its process name (`run.3`). Raises NotFound."""
        return shown_run(self._get(asker, address, name, Right.VIEW))

    async def detach(self, asker: Actor, address: Address, order: Order) -> Run:
        """A run of the wanted version that goes on by itself. Raises InvalidInput, Refused."""
        made: list[Run] = []

        def decide() -> Iterator[Put | EventDraft]:
            run = self.new_run(asker, address, order, RunKind.RUN)
            made[:] = [run]
            yield put(run)
            yield begun(run)

        await self._state.transact(decide)
        self._runtime.wake()
        return shown_run(made[0])

    async def stop(self, asker: Actor, address: Address, name: str) -> Run:
        """Ask for its end. Raises Conflict when it has ended."""

        def decide() -> Iterator[Put | EventDraft]:
            run = self._get(asker, address, name, Right.OPERATE)
            if run.status.over:
                raise Conflict(f"{run.process} of {address} has ended: it {_ENDED[run.status]}.")
            if run.stop_requested_by:
                return
            yield put(replace(run, stop_requested_by=asker.name))
            yield EventDraft(
                kind="run.stop-requested",
                deployment=run.deployment,
                service=run.service,
                actor=asker.name,
                text=f"{asker.name} asked for the end of {run.process}",
                data={"run": run.id},
            )

        await self._state.transact(decide)
        self._runtime.wake()
        return self.get(asker, address, name)

    def logs(
        self, asker: Actor, address: Address, name: str, *, lines: int | None = None, follow: bool = False
    ) -> AsyncIterator[LogLine]:
        """The last `lines` that it printed (None: all that is kept); with `follow` also what it will, until it ends.

        Errors are raised by this call, before the first line: NotFound, Refused, InvalidInput.
        """
        run = self._get(asker, address, name, Right.VIEW)
        if run.attached:
            raise Refused(
                f"{run.process} is attached: what it prints goes to whoever runs it, and is not kept."
            )
        backend = self._runtime.backend
        if not isinstance(backend, SupportsLogs):
            raise Refused("The backend of this server keeps no logs: look for them where the instances run.")
        if lines is not None and not 0 <= lines <= MAX_LINES:
            raise InvalidInput("lines", f"lines must be 0 to {MAX_LINES}.")
        found = run_output(self._state, backend, run, lines=lines, follow=follow)
        return while_allowed(found, lambda: self._renew(asker).require(run.deployment, Right.VIEW))

    def new_run(
        self,
        asker: Actor,
        address: Address,
        order: Order,
        kind: RunKind,
        *,
        attached: bool = False,
        instance: Instance | None = None,
    ) -> Run:
        """The record of a run that may begin now, of the wanted version or of that instance's.

        No door's. Raises NotFound, Forbidden, InvalidInput, Refused.
        """
        service = get_service(self._state, asker, address, Right.OPERATE)
        version = self._runnable(service, instance)
        known = self._state.runs(service.deployment, service.name)
        if sum(not each.status.over for each in known) >= MAX_OPEN:
            raise Refused(
                f"{MAX_OPEN} one-offs of {address} are under way: end some first (run:list, run:stop)."
            )
        types = version.artifact.process_types if version.artifact else {}
        if order.process_type and order.process_type not in types:
            raise InvalidInput(
                "type",
                f"There is no process type {order.process_type[:40]!a}. Known are: {', '.join(sorted(types))}.",
            )
        number = next_number(known, kind)
        ttl = self._default_ttl if order.ttl is None else seconds("ttl", order.ttl, most=LONGEST_TTL)
        return Run(
            id=instance_id(service.deployment, service.name, version.number, kind, number),
            deployment=service.deployment,
            service=service.name,
            version=version.number,
            kind=kind,
            number=number,
            command=_checked(command_line(order.command, types)),
            env=changed_env({}, put=order.env, drop=()),
            process_type=order.process_type,
            attached=attached,
            ttl=ttl,
            actor=asker.name,
            created_at=self._clock(),
        )

    def _runnable(self, service: Service, instance: Instance | None) -> Version:
        if instance is not None:
            version = self._state.version(service.deployment, service.name, instance.version)
        else:
            version = find_wanted(self._state, service)
        if version is None or version.artifact is None:
            raise Refused(
                f"{address_of(service)} has no version to run something in yet: push some code first."
            )
        return version

    def _get(self, asker: Actor, address: Address, name: str, right: Right) -> Run:
        service = get_service(self._state, asker, address, right)
        for each in self._state.runs(service.deployment, service.name):
            if name in (each.id, each.process):
                return each
        raise NotFound(f"{address} has no one-off {name[:100]!a} (see run:list).")


def shown_run(run: Run) -> Run:
    """Without the values of the variables that were given to it: nobody needs to see them again."""
    return replace(run, env=dict.fromkeys(run.env, HIDDEN))


def _checked(command: str) -> str:
    if not command.strip() or not is_passable(command) or len(command.encode()) > MAX_COMMAND:
        raise InvalidInput(
            "command", f"Give a command of at most {MAX_COMMAND // 1024} KiB, without zero bytes."
        )
    return command


_ENDED = {
    RunStatus.SUCCEEDED: "succeeded",
    RunStatus.FAILED: "failed",
    RunStatus.STOPPED: "was stopped",
    RunStatus.TIMED_OUT: "took too long",
    RunStatus.LOST: "was lost",
}
