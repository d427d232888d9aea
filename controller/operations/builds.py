"""Builds: their records, their logs, and the wish that one of them ends."""

import asyncio
import secrets
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from controller.errors import Conflict, InvalidInput, NotFound, Refused
from controller.names import Address
from controller.operations.access import Actor
from controller.operations.artifacts import check_artifact, check_commit
from controller.operations.lookup import get_service
from controller.operations.text import one_line
from controller.operations.versions import check_takes_code
from controller.state import Delete, EventDraft, Put, State, delete, put
from controller.types import Artifact, Build, BuildStatus, Right

KEPT = 20
"""Ended builds kept for each service, with their logs."""

MAX_RUNNING = 100
"""Builds of one service that may be open at once. Pushes take turns: so many is a mistake or worse."""

MAX_ERROR = 2000
"""Characters that tell why a build failed; the log has the rest."""

MAX_LOG = 16 * 1024**2
"""Bytes of one build's log; what comes after that is left out, and said to be."""

CUT = b"[this log is full; the rest of the output was left out]\n"


class BuildOperations:
    def __init__(self, state: State, *, folder: Path, clock: Callable[[], datetime]) -> None:
        """`folder` holds the logs, `<build id>.log`; it is made when missing."""
        self._state = state
        self._folder = folder
        self._clock = clock

    def list(self, asker: Actor, address: Address) -> Sequence[Build]:
        """Newest first."""
        service = get_service(self._state, asker, address, Right.VIEW)
        return self._state.builds(service.deployment, service.name)

    def get(self, asker: Actor, build: str, right: Right = Right.VIEW) -> Build:
        found = self._state.build(build)
        if found is None or not asker.may(found.deployment, Right.VIEW):
            raise NotFound(f"There is no build {build[:60]!a}.")
        asker.require(found.deployment, right)
        return found

    async def open(self, asker: Actor, address: Address, *, commit: str | None) -> Build:
        """A build that runs from now on; whoever opened it closes it.

        Raises Refused for an image service, and when too many run.
        """
        opened = Build(
            id=_new_id(self._clock()),
            deployment=address.deployment,
            service=address.service,
            status=BuildStatus.RUNNING,
            commit=check_commit(commit),
            actor=asker.name,
            started_at=self._clock(),
        )
        forgotten: list[Build] = []

        def decide() -> Iterator[Put | Delete | EventDraft]:
            check_takes_code(get_service(self._state, asker, address, Right.DEPLOY))
            known = self._state.builds(address.deployment, address.service)
            ended = [each for each in known if each.status is not BuildStatus.RUNNING]
            if len(known) - len(ended) >= MAX_RUNNING:
                raise Refused(f"{MAX_RUNNING} builds of {address} are under way: wait for one, or cancel it.")
            forgotten[:] = ended[KEPT - 1 :]
            yield from map(delete, forgotten)
            yield put(opened)
            yield _event(opened, f"build of {commit[:8] if commit else 'uploaded code'} began")

        await self._state.transact(decide)
        await asyncio.to_thread(self._remove_logs, [each.id for each in forgotten])
        return opened

    async def append_log(self, asker: Actor, build: str, lines: Sequence[str]) -> None:
        """Raises Conflict once the build has ended."""
        self._check_runs(self.get(asker, build, Right.DEPLOY))
        await asyncio.to_thread(self._append, build, lines)

    async def close(
        self,
        asker: Actor,
        build: str,
        status: BuildStatus,
        *,
        error: str = "",
        artifact: Artifact | None = None,
    ) -> Build:
        """How it ended. Closing with the same status again changes nothing; with another raises Conflict."""
        if status is BuildStatus.RUNNING:
            raise InvalidInput("status", "A build is closed as succeeded, failed, canceled or abandoned.")
        if status is BuildStatus.SUCCEEDED and artifact is None:
            raise InvalidInput("artifact", "A build that succeeded has an artifact: name it.")

        if artifact is not None:
            check_artifact(artifact)
        why = one_line(error, MAX_ERROR)

        def decide() -> Iterable[Put | EventDraft]:
            running = self.get(asker, build, Right.DEPLOY)
            if running.status is status:
                return ()
            self._check_runs(running)
            closed = replace(running, status=status, error=why, artifact=artifact, finished_at=self._clock())
            return put(closed), _event(closed, f"build {status}" + (f": {why}" if why else ""))

        await self._state.transact(decide)
        return self.get(asker, build)

    async def cancel(self, asker: Actor, build: str) -> Build:
        """Ask for its end. Raises Conflict when it has ended."""

        def decide() -> Iterable[Put | EventDraft]:
            running = self.get(asker, build, Right.DEPLOY)
            self._check_runs(running)
            if running.cancel_requested_by:
                return ()
            event = EventDraft(
                kind="build.cancel",
                deployment=running.deployment,
                service=running.service,
                actor=asker.name,
                text=f"{asker.name} asked for the end of the build",
                data={"build": running.id},
            )
            return put(replace(running, cancel_requested_by=asker.name)), event

        await self._state.transact(decide)
        return self.get(asker, build)

    async def log(self, asker: Actor, build: str) -> str:
        """What it printed so far."""
        found = self.get(asker, build)
        return await asyncio.to_thread(self._read, found.id)

    async def abandon(self) -> None:
        """At the start of the server: builds that were running when it died are over."""

        def decide() -> Iterator[Put | EventDraft]:
            for each in self._state.builds():
                if each.status is BuildStatus.RUNNING:
                    why = "the server stopped while it ran"
                    over = replace(each, status=BuildStatus.ABANDONED, error=why, finished_at=self._clock())
                    yield put(over)
                    yield _event(over, f"build abandoned: {why}")

        await self._state.transact(decide)
        await self.sweep_logs()

    async def sweep_logs(self) -> None:
        """Remove the logs of builds that are no longer known."""
        logs = await asyncio.to_thread(lambda: [path.stem for path in self._folder.glob("*.log")])
        gone = [each for each in logs if self._state.build(each) is None]
        await asyncio.to_thread(self._remove_logs, gone)

    def _check_runs(self, build: Build) -> None:
        if build.status is not BuildStatus.RUNNING:
            raise Conflict(f"Build {build.id} has ended: it {_ENDED[build.status]}.")

    # Files. Only ids that the state knows get here, so they are safe in a path.

    def _path(self, build: str) -> Path:
        return self._folder / f"{build}.log"

    def _append(self, build: str, lines: Sequence[str]) -> None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        text = "".join(f"{line}\n" for line in lines).encode(errors="replace")
        with self._path(build).open("ab") as file:
            room = MAX_LOG - file.tell()
            if len(text) <= room:
                file.write(text)
            elif room >= 0:
                file.write(text[:room] + b"\n" + CUT)

    def _read(self, build: str) -> str:
        try:
            return self._path(build).read_text(errors="replace")
        except FileNotFoundError:
            return ""

    def _remove_logs(self, builds: Iterable[str]) -> None:
        for each in builds:
            self._path(each).unlink(missing_ok=True)


_ENDED = {
    BuildStatus.SUCCEEDED: "succeeded",
    BuildStatus.FAILED: "failed",
    BuildStatus.CANCELED: "was canceled",
    BuildStatus.ABANDONED: "was abandoned",
}


def _new_id(now: datetime) -> str:
    """Sorts by time as text, too."""
    return f"{int(now.timestamp() * 1000):011x}{secrets.token_hex(3)}"


def _event(build: Build, text: str) -> EventDraft:
    return EventDraft(
        kind=f"build.{build.status}",
        deployment=build.deployment,
        service=build.service,
        actor=build.actor,
        text=text,
        data={"build": build.id},
    )
