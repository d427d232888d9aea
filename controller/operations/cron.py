"""Commands that an app.json has run again and again: one-offs of what serves, each at its time."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial

from controller.names import Address, instance_id
from controller.operations.access import Actor
from controller.operations.lookup import get_service
from controller.operations.runs import MAX_OPEN
from controller.operations.runtime import Runtime
from controller.run_record import begun
from controller.runs import command_line, job_key, next_number
from controller.schedules import is_due, next_time
from controller.state import EventDraft, Put, State, put
from controller.types import CronJob, Right, Run, RunKind, Service, Version
from controller.views import CronInfo


class CronOperations:
    def __init__(self, state: State, runtime: Runtime, *, ttl: float, clock: Callable[[], datetime]) -> None:
        """`ttl`: seconds that each of them may take."""
        self._state = state
        self._runtime = runtime
        self._ttl = ttl
        self._clock = clock

    def list(self, asker: Actor, address: Address) -> Sequence[CronInfo]:
        """In the order of the app.json that came with what serves."""
        service = get_service(self._state, asker, address, Right.VIEW)
        runs = self._state.runs(service.deployment, service.name)
        return [self._info(service, key, job, runs) for key, job in _jobs(self._serving(service)).items()]

    async def look(self) -> None:
        """Begin what is due now. Raises what the store does; the next look takes it up then."""
        for service in self._state.services():
            if (service.cron or _jobs(self._serving(service))) and await self._state.transact(
                partial(self._turn, service)
            ):
                self._runtime.wake()

    def _turn(self, before: Service) -> Iterator[Put | EventDraft]:
        """Runs that begin, and when each job had its last turn, in one step: none of both is lost alone."""
        service = self._state.service(before.deployment, before.name)
        if service is None:
            return
        version, now = self._serving(service), self._clock()
        # A job that was not there before has missed nothing.
        since = {key: service.cron.get(key, now) for key in _jobs(version)}
        known = self._state.runs(service.deployment, service.name)
        going = [each for each in known if not each.status.over]
        number = next_number(known, RunKind.SCHEDULED)
        for key, job in _jobs(version).items():
            busy = service.stopped or len(going) >= MAX_OPEN or any(each.job == key for each in going)
            if version is None or busy or not is_due(job.schedule, since[key], now):
                continue
            run = self._run(version, key, job, number)
            number, since[key] = number + 1, now
            going.append(run)
            yield put(run)
            yield begun(run)
        if since != service.cron:
            yield put(replace(service, cron=since))

    def _run(self, version: Version, key: str, job: CronJob, number: int) -> Run:
        types = version.artifact.process_types if version.artifact else {}
        return Run(
            id=instance_id(version.deployment, version.service, version.number, RunKind.SCHEDULED, number),
            deployment=version.deployment,
            service=version.service,
            version=version.number,
            kind=RunKind.SCHEDULED,
            number=number,
            command=command_line([job.command], types),
            job=key,
            ttl=self._ttl,
            created_at=self._clock(),
        )

    def _info(self, service: Service, key: str, job: CronJob, runs: Sequence[Run]) -> CronInfo:
        last = next((each for each in runs if each.job == key), None)
        since = service.cron.get(key, self._clock())
        return CronInfo(
            schedule=job.schedule,
            command=job.command,
            next_at=next_time(job.schedule, since),
            last_at=None if last is None else last.created_at,
            run=None if last is None else last.process,
            status=None if last is None else last.status,
            detail="" if last is None else last.detail,
        )

    def _serving(self, service: Service) -> Version | None:
        if service.current is None:
            return None
        return self._state.version(service.deployment, service.name, service.current)


def _jobs(version: Version | None) -> Mapping[str, CronJob]:
    """By what they are known by; the same command at the same times is one."""
    if version is None or version.artifact is None:
        return {}
    return {job_key(each): each for each in version.artifact.manifest.cron}
