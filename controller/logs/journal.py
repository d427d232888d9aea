"""The journal of a service as log lines: `system[deploy]: v12 is live`."""

from collections.abc import AsyncGenerator, Sequence

from controller.logs.parts import process_of
from controller.logs.query import LogQuery
from controller.state import State
from controller.types import Event, LogLine, LogSource

_ABOUT = {"version": "deploy", "service": "deploy", "route": "router", "deployment": "config"}
"""First word of an event's kind to what stands in brackets, where that is not the word itself."""


class JournalStream:
    """Implements LogStream. Events of an older service of the same name are left out."""

    def __init__(self, query: LogQuery, state: State) -> None:
        self._query = query
        self._state = state
        self._after = state.last_event
        service = state.service(query.deployment, query.service)
        self._begin = service.created_at if service else None

    async def past(self) -> AsyncGenerator[LogLine, None]:
        events = self._state.events(self._query.deployment, self._query.service)
        self._after = self._state.last_event
        for line in self._last_wanted(events):
            yield line

    async def following(self) -> AsyncGenerator[LogLine, None]:
        query = self._query
        async for event in self._state.follow_events(query.deployment, query.service, after=self._after):
            line = line_of(event)
            if query.accepts(line):
                yield line

    def _last_wanted(self, events: Sequence[Event]) -> list[LogLine]:
        found: list[LogLine] = []
        for event in reversed(events):
            if self._query.lines is not None and len(found) >= self._query.lines:
                break
            if self._begin is not None and event.time < self._begin:
                break
            line = line_of(event)
            if self._query.accepts(line):
                found.append(line)
        return found[::-1]


def line_of(event: Event) -> LogLine:
    """The event in words, with who wanted it."""
    instance = str(event.data.get("instance") or event.data.get("build") or "")
    word = event.kind.partition(".")[0]
    by = f" (by {event.actor})" if event.actor and event.actor not in event.text else ""
    return LogLine(
        time=event.time,
        source=LogSource.SYSTEM,
        instance=instance,
        process=process_of(instance) or _ABOUT.get(word, word),
        text=" ".join(f"{event.text}{by}".splitlines()),
    )
