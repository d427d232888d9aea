"""Builds: their records, their logs, and the wish that one of them ends."""

import asyncio
import secrets
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from controller.errors import Conflict, InvalidInput, NotFound, Refused
from controller.logs.builds import BuildLogs
from controller.names import Address
from controller.operations.access import Actor
from controller.operations.artifacts import check_artifact, check_commit
from controller.operations.lookup import get_service
from controller.operations.text import one_line
from controller.operations.versions import check_takes_code
from controller.state import Delete, EventDraft, Put, State, delete, put
from controller.types import Artifact, Build, BuildStatus, Right

MAX_OPEN = 100
"""Builds of one service that may be open at once. Pushes take turns: so many is a mistake or worse."""

AT_ONCE = 50
"""Records that are forgotten in one transaction."""

MAX_TEXT = 200
"""Characters that tell why a build was begun, and what it does."""

MAX_ERROR = 2000
"""Characters that tell why a build failed; the log has the rest."""


class BuildOperations:
    def __init__(self, state: State, *, folder: Path, keep: int, clock: Callable[[], datetime]) -> None:
        """`folder` holds the logs, `<build id>.log`; it is made when missing. `keep`: how many ended builds
        each service keeps, with their logs."""
        self._state = state
        self._logs = BuildLogs(folder)
        self._keep = max(keep, 1)
        self._clock = clock
        self._heard: dict[str, datetime] = {}
        """Id of a build that is under way, to when its owner last gave a sign of life to this server."""

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

    async def open(
        self, asker: Actor, address: Address, *, commit: str | None, reason: str = "", waits_for: str = ""
    ) -> Build:
        """A build under way; whoever opened it gives signs of life (`touch`, `append_log`) and closes it.

        `waits_for`: it is queued, for that reason, until a touch says that it runs; empty: it runs from now on.
        Raises Refused for an image service, and when too many are under way.
        """
        now = self._clock()
        opened = Build(
            id=_new_id(now),
            deployment=address.deployment,
            service=address.service,
            status=BuildStatus.QUEUED if waits_for else BuildStatus.RUNNING,
            commit=check_commit(commit),
            actor=asker.name,
            reason=one_line(reason, MAX_TEXT),
            doing=one_line(waits_for, MAX_TEXT),
            queued_at=now,
            started_at=None if waits_for else now,
        )
        forgotten: list[Build] = []

        def decide() -> Iterator[Put | Delete | EventDraft]:
            check_takes_code(get_service(self._state, asker, address, Right.DEPLOY))
            known = self._state.builds(address.deployment, address.service)
            ended = [each for each in known if not each.status.under_way]
            if len(known) - len(ended) >= MAX_OPEN:
                raise Refused(f"{MAX_OPEN} builds of {address} are under way: wait for one, or cancel it.")
            forgotten[:] = ended[self._keep - 1 :]
            yield from map(delete, forgotten)
            yield put(opened)
            what = f"build of {commit[:8] if commit else 'uploaded code'}"
            yield _event(opened, f"{what} waits: {opened.doing}" if waits_for else f"{what} began")

        await self._state.transact(decide)
        self._heard[opened.id] = now
        await asyncio.to_thread(self._logs.remove, [each.id for each in forgotten])
        return opened

    async def touch(
        self, asker: Actor, build: str, *, status: BuildStatus | None = None, doing: str | None = None
    ) -> Build:
        """A sign of life of its owner, who may say what it does now; the build as it is, for its owner to see
        whether somebody asked for its end.

        Raises InvalidInput for a `status` other than queued and running, Conflict when there is something
        to be changed in a build that has ended.
        """
        if status is not None and not status.under_way:
            raise InvalidInput(
                "status", "A build under way is queued or running; closing it says how it ended."
            )
        known = self.get(asker, build, Right.DEPLOY)
        if known.status.under_way:
            self._heard[build] = self._clock()
        if status in (None, known.status) and doing in (None, known.doing):
            return known

        def decide() -> Iterable[Put | EventDraft]:
            before = self.get(asker, build, Right.DEPLOY)
            self._check_under_way(before)
            after = replace(
                before,
                status=status or before.status,
                doing=before.doing if doing is None else one_line(doing, MAX_TEXT),
            )
            if after.status is BuildStatus.RUNNING and before.status is BuildStatus.QUEUED:
                after = replace(after, started_at=self._clock())
                return put(after), _event(after, "build began")
            return (put(after),) if after != before else ()

        await self._state.transact(decide)
        return self.get(asker, build)

    async def trim(self) -> int:
        """Forget ended builds beyond those that each service keeps; how many it were."""
        surplus: list[Build] = []
        for number, service in enumerate(self._state.services()):
            if number % AT_ONCE == 0:
                await asyncio.sleep(0)  # others get the event loop in between
            known = self._state.builds(service.deployment, service.name)
            surplus += [each for each in known if not each.status.under_way][self._keep :]
        for start in range(0, len(surplus), AT_ONCE):
            batch = surplus[start : start + AT_ONCE]
            await self._state.transact(lambda batch=batch: map(delete, batch))  # type: ignore[misc]
            await asyncio.to_thread(self._logs.remove, [each.id for each in batch])
        return len(surplus)

    def heard(self, build: Build) -> datetime:
        """When its owner last gave a sign of life; to a server that has just started, not before now."""
        return self._heard.setdefault(build.id, self._clock())

    async def append_log(self, asker: Actor, build: str, lines: Sequence[str]) -> None:
        """Raises Conflict once the build has ended."""
        self._check_under_way(self.get(asker, build, Right.DEPLOY))
        self._heard[build] = self._clock()
        await asyncio.to_thread(self._logs.append, build, lines, self._clock())

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
        if status.under_way:
            raise InvalidInput("status", "A build is closed as succeeded, failed, canceled or abandoned.")
        if status is BuildStatus.SUCCEEDED and artifact is None:
            raise InvalidInput("artifact", "A build that succeeded has an artifact: name it.")

        if artifact is not None:
            check_artifact(artifact)
        why = one_line(error, MAX_ERROR)

        def decide() -> Iterable[Put | EventDraft]:
            open_ = self.get(asker, build, Right.DEPLOY)
            if open_.status is status:
                return ()
            self._check_under_way(open_)
            return _closed(open_, status, why, self._clock(), artifact=artifact)

        await self._state.transact(decide)
        self._heard.pop(build, None)
        return self.get(asker, build)

    async def cancel(self, asker: Actor, build: str) -> Build:
        """Ask for its end. Raises Conflict when it has ended."""

        def decide() -> Iterable[Put | EventDraft]:
            running = self.get(asker, build, Right.DEPLOY)
            self._check_under_way(running)
            if running.cancel_requested_by:
                return ()
            return _asked_to_end(running, asker.name)

        await self._state.transact(decide)
        return self.get(asker, build)

    async def log(self, asker: Actor, build: str) -> str:
        """What it printed so far."""
        found = self.get(asker, build)
        return await asyncio.to_thread(self._logs.read, found.id)

    async def abandon(self) -> None:
        """At the start of the server: builds that were under way when it died are over."""

        def decide() -> Iterator[Put | EventDraft]:
            for each in self._state.builds_under_way():
                why = f"the server stopped while it {_DOES[each.status]}"
                yield from _closed(each, BuildStatus.ABANDONED, why, self._clock())

        await self._state.transact(decide)
        await self.sweep_logs()

    async def abandon_one(self, build: str, why: str) -> None:
        """On behalf of the server itself. Raises NotFound, Conflict when it has ended."""

        def decide() -> Iterable[Put | EventDraft]:
            return _closed(self._get_under_way(build), BuildStatus.ABANDONED, why, self._clock())

        await self._state.transact(decide)
        self._heard.pop(build, None)

    async def ask_to_end(self, build: str, who: str) -> None:
        """On behalf of the server itself; `who` is what its owner tells people. Raises NotFound, Conflict."""

        def decide() -> Iterable[Put | EventDraft]:
            return _asked_to_end(self._get_under_way(build), who)

        await self._state.transact(decide)

    def _get_under_way(self, build: str) -> Build:
        found = self._state.build(build)
        if found is None:
            raise NotFound(f"There is no build {build}.")
        self._check_under_way(found)
        return found

    async def sweep_logs(self) -> None:
        """Remove the logs of builds that are no longer known."""
        logs = await asyncio.to_thread(self._logs.known)
        gone = [each for each in logs if self._state.build(each) is None]
        await asyncio.to_thread(self._logs.remove, gone)

    def _check_under_way(self, build: Build) -> None:
        if not build.status.under_way:
            raise Conflict(f"Build {build.id} has ended: it {_ENDED[build.status]}.")


_DOES = {BuildStatus.QUEUED: "waited", BuildStatus.RUNNING: "ran"}
_ENDED = {
    BuildStatus.SUCCEEDED: "succeeded",
    BuildStatus.FAILED: "failed",
    BuildStatus.CANCELED: "was canceled",
    BuildStatus.ABANDONED: "was abandoned",
}


def _new_id(now: datetime) -> str:
    """Sorts by time as text, too."""
    return f"{int(now.timestamp() * 1000):011x}{secrets.token_hex(3)}"


def _closed(
    build: Build, status: BuildStatus, why: str, now: datetime, *, artifact: Artifact | None = None
) -> tuple[Put, EventDraft]:
    over = replace(build, status=status, error=why, artifact=artifact, doing="", finished_at=now)
    return put(over), _event(over, f"build {status}" + (f": {why}" if why else ""))


def _asked_to_end(build: Build, who: str) -> tuple[Put, EventDraft]:
    event = EventDraft(
        kind="build.cancel",
        deployment=build.deployment,
        service=build.service,
        actor=who,
        text=f"{who} asked for the end of the build",
        data={"build": build.id},
    )
    return put(replace(build, cancel_requested_by=who)), event


def _event(build: Build, text: str) -> EventDraft:
    return EventDraft(
        kind=f"build.{build.status}",
        deployment=build.deployment,
        service=build.service,
        actor=build.actor,
        text=text,
        data={"build": build.id},
    )
