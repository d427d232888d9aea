"""Acting on one-offs: their records, and the starts that go on in the background."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime

from controller.backends.base import Backend, BackendError, InstanceSpec
from controller.reconcile.actions import NoteRun, StartRun
from controller.reconcile.desired import Key
from controller.run_record import begun, ended
from controller.runs import command_after_switch, run_of_version
from controller.state import EventDraft, Put, State, put
from controller.types import Run, RunKind, RunStatus, Version

log = logging.getLogger(__name__)

Prepare = Callable[[InstanceSpec], Awaitable[InstanceSpec]]
"""Gives what is started in place of what was planned; raises BackendError only, and does not wait for long."""


async def as_planned(spec: InstanceSpec) -> InstanceSpec:
    """Nobody changes it."""
    return spec


START_TIMEOUT = 60.0
"""Seconds that a backend may take to start a one-off."""


class RunActor:
    """Performs what planning asked for of one-offs."""

    def __init__(
        self,
        state: State,
        backend: Backend,
        *,
        wake: Callable[[Key], None],
        release_timeout: float,
        prepare: Prepare,
    ) -> None:
        self._prepare = prepare
        self._state = state
        self._backend = backend
        self._wake = wake
        self._release_timeout = release_timeout
        self._starts: dict[str, asyncio.Task[None]] = {}

    @property
    def starting(self) -> frozenset[str]:
        """Ids of runs whose start is under way."""
        return frozenset(self._starts)

    async def close(self) -> None:
        """Leave starts that are under way to the next controller: starting again does no harm."""
        starts = list(self._starts.values())
        for task in starts:
            task.cancel()
        await asyncio.gather(*starts, return_exceptions=True)

    async def start(self, action: StartRun) -> None:
        """Write the record where there is none, then begin the start: from there on it may be killed anywhere."""
        await self._state.transact(lambda: self._recorded(action.run))
        task = asyncio.create_task(self._start(action), name=f"start {action.run.id}")
        self._starts[action.run.id] = task

    def _recorded(self, run: Run) -> Iterator[Put | EventDraft]:
        if self._state.run(run.id) is None and self._state.service(run.deployment, run.service) is not None:
            yield put(run)
            yield begun(run)

    async def _start(self, action: StartRun) -> None:
        try:
            async with asyncio.timeout(START_TIMEOUT):
                await self._backend.start(await self._prepare(action.spec))
        except (BackendError, TimeoutError) as error:
            why = str(error) or f"the backend did not start it within {START_TIMEOUT:g} s"
            log.warning("run.start-failed run=%s cause=%s", action.run.id, why)
            final = isinstance(error, BackendError) and not error.retryable
            failed = RunStatus.FAILED if final else RunStatus.PENDING
            await self._change(action.run.id, failed, f"it could not be started: {why}" if final else why)
            await asyncio.sleep(1.0)  # the next plan tries again: not at once
        else:
            await self._change(action.run.id, RunStatus.RUNNING, "")
        finally:
            # First this: whoever is woken looks at once, and one whose start goes on is left alone.
            self._starts.pop(action.run.id, None)
            self._wake(action.key)

    async def note(self, action: NoteRun) -> None:
        await self._change(action.run, action.status, action.detail, action.exit_code)

    async def _change(self, name: str, status: RunStatus, detail: str, exit_code: int | None = None) -> None:
        await self._state.transact(
            lambda: ended(self._state, name, status, detail, exit_code=exit_code, now=datetime.now(UTC))
        )

    def promoted(self, version: Version) -> Iterator[Put | EventDraft]:
        """What is written when a version becomes live: its postdeploy command is to run, once."""
        command = command_after_switch(version)
        if not command:
            return
        run = run_of_version(
            version, RunKind.POSTDEPLOY, command, ttl=self._release_timeout, now=datetime.now(UTC)
        )
        if self._state.run(run.id) is None:
            yield put(run)
            yield begun(run)
