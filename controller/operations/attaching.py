"""Being attached to a one-off, or to a shell in an instance: from the order to its end, whatever ends it."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from controller.backends.base import Attached, BackendError, SupportsRun, Terminal
from controller.errors import InvalidInput, MooringError, NotFound, Refused, Unavailable
from controller.names import Address
from controller.operations.access import Actor, Renew
from controller.operations.lookup import get_service
from controller.operations.runs import Order, RunOperations
from controller.operations.runtime import Runtime
from controller.provided import effective
from controller.reconcile.act_runs import Prepare
from controller.reconcile.plan_runs import run_spec
from controller.run_record import begun, ended
from controller.state import EventDraft, Put, State, put
from controller.types import Instance, Limits, Right, Run, RunKind, RunStatus

log = logging.getLogger(__name__)

CHECK = 0.5
"""Seconds between two looks at whether it may go on."""
GRACE = 3.0
"""Seconds between SIGTERM and SIGKILL for what is attached: nobody is there any more to wait for it."""
START_TIMEOUT = 60.0
SHELL = "if command -v bash >/dev/null; then exec bash; else exec sh; fi"
"""What somebody gets who enters an instance without a command."""


@dataclass
class Attachment:
    """A one-off that runs, and whoever is attached to it."""

    run: Run
    process: Attached
    ending: tuple[RunStatus, str] | None = None
    """As what, and why, the server ends it; None: nobody but itself or the client does."""

    async def outcome(self) -> tuple[int | None, str]:
        """Its exit code and in words how it ended, once it has."""
        code, detail = await self.process.wait()
        return code, self.ending[1] if self.ending else detail


class AttachOperations:
    def __init__(
        self,
        state: State,
        runtime: Runtime,
        runs: RunOperations,
        *,
        limits: Limits,
        renew: Renew,
        prepare: Prepare,
        clock: Callable[[], datetime],
    ) -> None:
        """`limits`: of services that have none of their own. `prepare`: has the last word on what is started."""
        self._prepare = prepare
        self._state = state
        self._runtime = runtime
        self._runs = runs
        self._limits = limits
        self._renew = renew
        self._clock = clock

    @asynccontextmanager
    async def run(
        self, asker: Actor, address: Address, order: Order, terminal: Terminal | None
    ) -> AsyncIterator[Attachment]:
        """A fresh process of the wanted version for as long as the block lasts.

        Leaving the block ends it with everything it began. Raises NotFound, Forbidden, InvalidInput, Refused,
        Unavailable.
        """
        get_service(self._state, asker, address, Right.OPERATE)
        backend = self._backend()

        async def start(run: Run) -> Attached:
            service = get_service(self._state, asker, address, Right.OPERATE)
            version = self._state.version(run.deployment, run.service, run.version)
            if version is None:
                raise NotFound(f"{address} has no v{run.version} any more.")
            spec = run_spec(service, effective(version), run, self._limits)
            return await backend.run(await self._prepare(spec), terminal=terminal)

        async with self._attached(asker, address, order, RunKind.RUN, start) as attachment:
            yield attachment

    @asynccontextmanager
    async def enter(
        self, asker: Actor, address: Address, process: str | None, order: Order, terminal: Terminal | None
    ) -> AsyncIterator[Attachment]:
        """A command, else a shell, in the place of a running instance: `web.1`, its id, or None for any."""
        instance = self._find(asker, address, process)
        backend = self._backend()
        order = order if order.command else replace(order, command=[SHELL])

        async def start(run: Run) -> Attached:
            return await backend.enter(instance.id, run.command, env=run.env, terminal=terminal)

        async with self._attached(
            asker, address, order, RunKind.ENTER, start, instance=instance
        ) as attachment:
            yield attachment

    async def sweep(self) -> None:
        """At the start of the server: what was attached to the one before has ended with it."""

        def decide() -> Iterator[Any]:
            for each in self._state.runs():
                if each.attached:
                    why = "the server stopped while it ran"
                    yield from ended(self._state, each.id, RunStatus.LOST, why, now=self._clock())

        await self._state.transact(decide)

    def _backend(self) -> SupportsRun:
        backend = self._runtime.backend
        if not isinstance(backend, SupportsRun):
            raise Refused("The backend of this server can't attach anybody to a process: use run:detached.")
        return backend

    def _find(self, asker: Actor, address: Address, process: str | None) -> Instance:
        service = get_service(self._state, asker, address, Right.OPERATE)
        found = sorted(
            self._runtime.instances(service.deployment, service.name),
            key=lambda each: (each.process_type not in ("web", ""), -each.version, each.number),
        )
        for each in found:
            if process in (None, each.id, f"{each.process_type or 'web'}.{each.number}", each.process_type):
                return each
        known = ", ".join(f"{each.process_type or 'web'}.{each.number}" for each in found) or "nothing"
        if process is None:
            raise Refused(f"Nothing of {address} runs now: `run` starts a fresh process.")
        raise NotFound(f"{address} has no process {process[:100]!a} now; what runs: {known}.")

    @asynccontextmanager
    async def _attached(
        self,
        asker: Actor,
        address: Address,
        order: Order,
        kind: RunKind,
        start: Callable[[Run], Coroutine[Any, Any, Attached]],
        instance: Instance | None = None,
    ) -> AsyncIterator[Attachment]:
        run = await self._recorded(asker, address, order, kind, instance)
        attachment: Attachment | None = None
        failure = (RunStatus.FAILED, "it could not be started")
        try:
            attachment = Attachment(run, await _in_time(start(run)))
            async with _beside(self._end_in_time(asker, attachment)):
                yield attachment
        except BackendError as error:
            failure = (RunStatus.FAILED, f"it could not be started: {error}")
            if error.retryable:
                raise Unavailable(f"{run.process} could not be started: {error}") from error
            raise Refused(f"{run.process} could not be started: {error}") from error
        finally:
            await _to_the_end(self._close(run, attachment, failure))

    async def _recorded(
        self, asker: Actor, address: Address, order: Order, kind: RunKind, instance: Instance | None
    ) -> Run:
        made: list[Run] = []

        def decide() -> Iterator[Put | EventDraft]:
            run = self._runs.new_run(asker, address, order, kind, attached=True, instance=instance)
            run = replace(run, status=RunStatus.RUNNING, started_at=self._clock())
            made[:] = [run]
            yield put(run)
            yield begun(run)

        await self._state.transact(decide)
        return made[0]

    async def _end_in_time(self, asker: Actor, attachment: Attachment) -> None:
        """End it when its time is over, when somebody asked, or when the right to it was taken away."""
        while attachment.ending is None:
            await asyncio.sleep(CHECK)
            attachment.ending = self._ending(asker, attachment.run)
        await attachment.process.end(grace=GRACE)

    def _ending(self, asker: Actor, run: Run) -> tuple[RunStatus, str] | None:
        now = self._state.run(run.id)
        if now is None:
            return RunStatus.STOPPED, "its app was destroyed"
        if now.stop_requested_by:
            return RunStatus.STOPPED, f"{now.stop_requested_by} asked for its end"
        if run.started_at is not None and (self._clock() - run.started_at).total_seconds() >= run.ttl:
            return RunStatus.TIMED_OUT, f"it did not end within {run.ttl:g} s"
        try:
            self._renew(asker).require(run.deployment, Right.OPERATE)
        except MooringError as error:
            return RunStatus.STOPPED, f"{asker.name} may no longer: {error}"
        return None

    async def _close(self, run: Run, attachment: Attachment | None, failure: tuple[RunStatus, str]) -> None:
        code: int | None = None
        status, detail = failure
        if attachment is not None:
            status, detail, code = await _outcome(attachment)
        with suppress(InvalidInput):
            await self._state.transact(
                lambda: ended(self._state, run.id, status, detail, exit_code=code, now=self._clock())
            )


async def _outcome(attachment: Attachment) -> tuple[RunStatus, str, int | None]:
    """How it ended; what still runs is ended now, as whoever was attached has left."""
    left = (RunStatus.STOPPED, "whoever was attached to it has left", None)
    over = False
    with suppress(TimeoutError):
        async with asyncio.timeout(0.05):
            code, detail = await attachment.process.wait()
            over = True
    try:
        await attachment.process.end(grace=GRACE)
    except BackendError as error:
        log.warning("attached run does not end run=%s cause=%s", attachment.run.id, error)
    if attachment.ending is not None:
        return (*attachment.ending, None)
    if not over:
        return left
    if code is None:
        return RunStatus.LOST, detail, None
    return RunStatus.FAILED if code else RunStatus.SUCCEEDED, detail, code


async def _in_time(start: Coroutine[Any, Any, Attached]) -> Attached:
    try:
        async with asyncio.timeout(START_TIMEOUT):
            return await start
    except TimeoutError as error:
        raise BackendError(f"the backend did not start it within {START_TIMEOUT:g} s") from error


@asynccontextmanager
async def _beside(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Do this for as long as the block lasts."""
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _to_the_end(work: Coroutine[Any, Any, None]) -> None:
    """Also when we are cancelled meanwhile: nothing of it may stay, and its record must say so."""
    task = asyncio.ensure_future(work)
    cancelled = False
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            cancelled = True
    task.result()
    if cancelled:
        raise asyncio.CancelledError
