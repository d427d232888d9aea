"""What a service prints, what it was built with, what it was asked, and what was done with it."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import replace
from datetime import datetime
from functools import partial
from pathlib import Path

from controller.backends.base import BackendError, SupportsLogs
from controller.backends.labels import split_id
from controller.errors import InvalidInput, NotFound, Refused
from controller.logs.builds import BuildLogs
from controller.logs.files import Files, FileStream, in_thread
from controller.logs.journal import JournalStream
from controller.logs.limit import bound
from controller.logs.merging import MergedStream
from controller.logs.moments import parse_moment
from controller.logs.parts import Origin
from controller.logs.query import LogQuery, LogStream, Pattern, read
from controller.logs.recorder import ROUTER_LOG
from controller.names import Address
from controller.operations.access import Actor, Renew
from controller.operations.following import while_allowed
from controller.operations.lookup import get_service
from controller.operations.runtime import Runtime
from controller.state import State
from controller.types import LogLine, LogSource, Right, Service

log = logging.getLogger(__name__)

LINES = 100
"""Lines of the past that are given where neither their number nor a time was asked for."""
MAX_LINES = 10_000
"""Lines of the past that can be asked for by number."""
MAX_TEXT = 1000
"""Characters that can be looked for."""
OBSERVE_TIMEOUT = 15.0
"""Seconds that the backend may take to tell what runs."""


class LogOperations:
    def __init__(
        self,
        state: State,
        runtime: Runtime,
        *,
        builds: Path,
        logs: Path,
        renew: Renew,
        clock: Callable[[], datetime],
        limit: int,
    ) -> None:
        """`builds`: the folder of build logs; `logs`: that of all others, `<deployment>/<service>/`, of which
        each may hold `limit` bytes.

        `renew` gives an asker with the rights of the moment.
        """
        self._state = state
        self._runtime = runtime
        self._builds = BuildLogs(builds)
        self._logs = logs
        self._renew = renew
        self._clock = clock
        self._limit = limit

    def read(
        self,
        asker: Actor,
        address: Address,
        *,
        sources: Iterable[LogSource] = (),
        process: str | None = None,
        instance: str | None = None,
        since: str | None = None,
        until: str | None = None,
        text: str = "",
        lines: int | None = None,
        follow: bool = False,
    ) -> AsyncIterator[LogLine]:
        """Lines of the past in order of time, then (with `follow`) those that come.

        `sources`: none means all. `process`: `web` or `web.1`; the address may name a process type too.
        `instance`: also of one that is gone, or of a build. `since`, `until`: see `parse_moment`. `text`: see
        `Pattern`. `lines`: the last so many; None: 100, or all where `since` says how far back.

        Errors are raised by this call, before the first line: NotFound, Refused, InvalidInput.
        """
        service = get_service(self._state, asker, address, Right.VIEW)
        if lines is not None and not 0 <= lines <= MAX_LINES:
            raise InvalidInput("lines", f"lines must be 0 to {MAX_LINES}.")
        if len(text) > MAX_TEXT:
            raise InvalidInput("text", f"text to look for has at most {MAX_TEXT} characters.")
        if follow and until is not None:
            raise InvalidInput("until", "What is followed has no end: leave out until, or follow.")
        if instance is not None:
            self._check_known(service, address, instance)
        now = self._clock()
        query = LogQuery(
            deployment=service.deployment,
            service=service.name,
            sources=frozenset(sources) or frozenset(LogSource),
            process=self._process(service, process or address.process_type),
            instance=instance,
            since=parse_moment(since, "since", now) if since is not None else None,
            until=parse_moment(until, "until", now) if until is not None else None,
            pattern=Pattern(text),
            lines=LINES if lines is None and since is None else lines,
        )
        found = read(MergedStream(query, self._streams(query)), follow=follow)
        if not follow:
            return found
        return while_allowed(found, lambda: self._renew(asker).require(service.deployment, Right.VIEW))

    async def tidy(self) -> None:
        """Take away the oldest where a service has more than its logs may hold.

        Nothing is while it is not known what runs.
        """
        try:
            async with asyncio.timeout(OBSERVE_TIMEOUT):
                observation = await self._runtime.backend.observe()
        except (BackendError, TimeoutError):
            return
        if observation.unreachable:
            return
        running: dict[tuple[str, str], set[str]] = {}
        for each in observation.instances:
            running.setdefault((each.deployment, each.service), set()).add(each.id)
        for service in self._state.services():
            folder = self._logs / service.deployment / service.name
            known = frozenset(running.get((service.deployment, service.name), ()))
            freed = await in_thread(partial(bound, folder, limit=self._limit, running=known, now=time.time()))
            if freed:
                log.info("logs.bounded service=%s/%s bytes=%d", service.deployment, service.name, freed)

    def _streams(self, query: LogQuery) -> list[LogStream]:
        """In the order in which lines of equal time are told."""
        streams: list[LogStream] = []
        wanted = query.sources
        backend = self._runtime.backend
        if LogSource.SYSTEM in wanted:
            streams.append(JournalStream(query, self._state))
        if LogSource.BUILD in wanted:
            streams.append(
                self._builds.stream(query, lambda: self._state.builds(query.deployment, query.service))
            )
        if LogSource.ROUTER in wanted:
            streams.append(FileStream(self._of_this_service(query), lambda: self._router_files(query)))
        if wanted & {LogSource.APP, LogSource.SYSTEM} and isinstance(backend, SupportsLogs):
            streams.append(backend.logs(query))
        elif wanted == {LogSource.APP}:
            raise Refused("The backend of this server keeps no logs: look for them where the instances run.")
        return streams

    def _of_this_service(self, query: LogQuery) -> LogQuery:
        """Without what an older one of the same name was asked: its last requests may be written while it goes."""
        service = self._state.service(query.deployment, query.service)
        begin = service.created_at if service else None
        if begin is None or (query.since is not None and query.since >= begin):
            return query
        return replace(query, since=begin)

    async def _router_files(self, query: LogQuery) -> Files:
        return {self._logs / query.deployment / query.service / ROUTER_LOG: Origin("", "web")}

    def _check_known(self, service: Service, address: Address, instance: str) -> None:
        """Raise NotFound for what can't have been an instance or build of this service."""
        build = self._state.build(instance)
        if build is not None and (build.deployment, build.service) == (service.deployment, service.name):
            return
        if split_id(instance, deployment=service.deployment, service=service.name) is None:
            raise NotFound(
                f"{address} never had an instance {instance[:100]!a}: their names are such as "
                f"{service.deployment}-{service.name}-{max(1, service.latest)}-web-1 (see `ps`, and `logs` itself)."
            )

    def _process(self, service: Service, process: str | None) -> str | None:
        """`web` is also what people call the only process type of a service that has none by name."""
        if process is None or process.partition(".")[0] != "web":
            return process
        running = self._runtime.instances(service.deployment, service.name)
        if any(not each.process_type for each in running):
            return process.replace("web", service.name, 1)
        return process
