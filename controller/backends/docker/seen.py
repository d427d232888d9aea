"""One container as the engine tells of it, and what became of the instance in it so far. Nothing here performs."""

import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from controller.backends.docker.container import ADDRESS, DIGEST, ID, PORT, instance_labels
from controller.backends.keeper.endurance import LASTS, LOOPS_AFTER, Endurance
from controller.backends.keeper.limits import SAME_CAUSE, too_much
from controller.backends.labels import ONCE, to_instance
from controller.types import Instance, InstanceState

FIRST_PAUSE, LONGEST_PAUSE = 0.1, 60.0
"""Seconds that the engine waits before it starts a container again: twice as long after each early end."""
EARLY = 10.0
"""Seconds: whoever stayed up for that long is started again after the first pause."""
SAME_END = 0.09
"""Seconds: two tellings of an end that are closer are of the same one, as no start comes sooner after it."""


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What was inspected at one moment. Times are seconds since 1970, None: never."""

    container: str
    """The engine's own id of it."""
    labels: Mapping[str, str]
    status: str
    """created, running, paused, restarting, removing, exited or dead."""
    exit_code: int = 0
    """Of its last end, while it is down."""
    memory_ran_out: bool = False
    """At its last end, or since its start."""
    started_at: float | None = None
    finished_at: float | None = None
    restarts: int = 0
    """How often the engine began to start it again."""
    kept: bool = True
    """Whether the engine starts it again when it ends."""
    memory: int = 0
    """Bytes that it may take; 0: no limit."""
    fault: str = ""
    """Why the engine could not start it."""

    @property
    def id(self) -> str:
        return self.labels[ID]

    @property
    def once(self) -> bool:
        return ONCE in instance_labels(self.labels)

    @property
    def digest(self) -> str:
        return self.labels.get(DIGEST, "")

    @property
    def address(self) -> str | None:
        return self.labels.get(ADDRESS)

    @property
    def port(self) -> int | None:
        port = self.labels.get(PORT)
        return int(port) if port else None

    @property
    def runs(self) -> bool:
        return self.status in ("running", "paused")

    @property
    def retired(self) -> bool:
        """Somebody began to stop it for good: that it is kept was taken back."""
        return not self.once and not self.kept

    @property
    def is_given_up(self) -> bool:
        """Whether the engine has stopped starting it, though nobody wants that."""
        return self.status in ("exited", "dead") and self.kept and not self.once

    @property
    def started_count(self) -> int:
        """Restarts that have happened: the last one counted may be still to come."""
        return max(0, self.restarts - (self.status == "restarting"))


def parse(data: Mapping[str, Any]) -> Seen:
    """What the engine answers to an inspection."""
    state, host = data["State"], data["HostConfig"]
    return Seen(
        container=data["Id"],
        labels=data["Config"]["Labels"] or {},
        status=state["Status"],
        exit_code=int(state.get("ExitCode") or 0),
        memory_ran_out=bool(state.get("OOMKilled")),
        started_at=seconds_of(state.get("StartedAt") or ""),
        finished_at=seconds_of(state.get("FinishedAt") or ""),
        restarts=int(data.get("RestartCount") or 0),
        kept=(host.get("RestartPolicy") or {}).get("Name") not in ("no", "", None),
        memory=int(host.get("Memory") or 0),
        fault=str(state.get("Error") or ""),
    )


def seconds_of(text: str) -> float | None:
    """`2026-01-31T12:00:00.123456789Z`; None for the year 1, by which an engine means never."""
    if not text or text.startswith("0001-"):
        return None
    whole, _, fraction = text.rstrip("Z").partition(".")
    moment = datetime.fromisoformat(whole).replace(tzinfo=UTC).timestamp()
    return moment + (float(f"0.{fraction}") if fraction.isdecimal() else 0.0)


def describe_exit(code: int) -> str:
    """An exit code as shells tell it, in words."""
    if code > 128:
        try:
            return f"killed by {signal.Signals(code - 128).name}"
        except ValueError:
            pass
    return f"exited with status {code}"


class Life:
    """One instance over its starts: how it ended, how often, and what that says of it now."""

    def __init__(self, seen: Seen, now: float) -> None:
        """Of one that is seen for the first time; it may have ended before, and nobody of us saw it."""
        self.seen = seen
        self.shown: Instance
        """As it was last told of."""
        self._endurance = Endurance()
        self._early_ends = 0
        self._words = ""
        self._ended_at: float | None = None
        self._earlier_start: float | None = None
        self._memory_ran_out_at = 0.0
        self._mended = 0
        """Restarts that the engine does not count, because we did them."""
        self._remember(seen, now)
        self.look(now)

    def take(self, seen: Seen, now: float) -> bool:
        """It was inspected again. Whether it looks different."""
        before, self.seen = self.seen, seen
        if seen.restarts < before.restarts:
            self._mended += before.restarts  # somebody started it by hand, or the engine itself began anew
        if seen.started_at != before.started_at and seen.started_at is not None:
            self._earlier_start = before.started_at
            self._endurance.began(seen.started_at)
        if seen.finished_at is not None and self._is_news(seen.finished_at) and not seen.runs:
            self.end(seen.finished_at, seen.exit_code, now)
        return self.look(now)

    def end(self, at: float, code: int, now: float) -> str | None:
        """It ended then. Returns how, in words; None when that is known already."""
        if not self._is_news(at):
            return None
        self._ended_at = at
        starts = (self.seen.started_at, self._earlier_start)
        began = next((each for each in starts if each is not None and each <= at), None)
        early = began is not None and at - began < EARLY
        self._early_ends = self._early_ends + 1 if early else 1
        if began is not None:
            self._endurance.began(began)
        self._endurance.ended(at)
        if self.seen.runs and self.seen.started_at is not None:
            self._endurance.began(
                self.seen.started_at
            )  # it has been started again before we heard of its end
        self._words = self._cause(code, at)
        return self._words

    def memory_ran_out(self, at: float) -> None:
        """The system killed a part of it, or all."""
        self._memory_ran_out_at = at

    def of_memory(self, at: float) -> str | None:
        """What is to be said of a part that was killed then while the rest went on; None where that was its end."""
        if self._ended_at is not None and self._ended_at >= at - SAME_END:
            return None
        return f"a process of it was {too_much(self.seen.memory)}"

    def look(self, now: float) -> bool:
        """See what time has made of it. Whether it looks different."""
        before = getattr(self, "shown", None)
        self.shown = self._instance(now)
        return self.shown != before

    @property
    def moves(self) -> bool:
        """Whether it may look different by the mere passing of time."""
        return self.shown.state is InstanceState.CRASH_LOOPING

    @property
    def last_end(self) -> tuple[float, str] | None:
        """When it ended last, and how."""
        return None if self._ended_at is None else (self._ended_at, self._words)

    def _remember(self, seen: Seen, now: float) -> None:
        if not seen.runs and seen.finished_at is not None:
            self._words = self._cause(seen.exit_code, seen.finished_at)
        elif seen.finished_at is not None:
            self._words = "ended, and nobody saw how"
        self._ended_at = seen.finished_at
        self._early_ends = min(seen.restarts, 10) if _was_short(seen) else int(seen.finished_at is not None)
        known = LOOPS_AFTER if _seems_to_loop(seen, now) else min(seen.restarts, LOOPS_AFTER - 1)
        for _ in range(known):
            self._endurance.ended(seen.finished_at or now)
        if seen.runs and seen.started_at is not None:
            self._endurance.began(seen.started_at)

    def _is_news(self, at: float) -> bool:
        return self._ended_at is None or at > self._ended_at + SAME_END

    def _cause(self, code: int, at: float) -> str:
        ran_out = (
            self.seen.memory_ran_out and not self.seen.runs
        ) or at - self._memory_ran_out_at < SAME_CAUSE
        if code == 128 + signal.SIGKILL and self.seen.memory and ran_out:
            return too_much(self.seen.memory)
        return describe_exit(code)

    def _instance(self, now: float) -> Instance:
        seen, state = self.seen, self._state(now)
        waits = state in (InstanceState.CRASHED, InstanceState.CRASH_LOOPING) and not seen.runs
        restarts = seen.started_count + self._mended
        exited = state is InstanceState.EXITED
        return to_instance(
            seen.id,
            instance_labels(seen.labels),
            state=state,
            address=seen.address if seen.port is not None else None,
            port=seen.port,
            started_at=_moment(seen.started_at),
            restarts=restarts,
            next_start_at=_moment(self._next_start(now)) if waits else None,
            detail=self._detail(state, restarts),
            exit_code=seen.exit_code if exited else None,
        )

    def _state(self, now: float) -> InstanceState:
        seen = self.seen
        if seen.retired or seen.status == "removing":
            return InstanceState.STOPPING
        if seen.once:
            return InstanceState.RUNNING if seen.runs else InstanceState.EXITED
        if self._endurance.loops(now):
            return InstanceState.CRASH_LOOPING
        return InstanceState.RUNNING if seen.runs else InstanceState.CRASHED

    def _detail(self, state: InstanceState, restarts: int) -> str:
        if state is InstanceState.STOPPING:
            return ""
        words = self._words
        if self.seen.status == "paused":
            words = "somebody has paused its container"
        elif self.seen.is_given_up and self.seen.fault:
            words = f"can't be started again: {self.seen.fault}"
        if self.seen.status == "running" and not restarts:
            return ""
        if not words or not restarts:
            return words
        return f"{words} ({restarts} restart{'s' if restarts > 1 else ''})"

    def _next_start(self, now: float) -> float:
        ended = self.seen.finished_at or now
        return ended + min(FIRST_PAUSE * 2.0 ** max(0, self._early_ends - 1), LONGEST_PAUSE)


def _seems_to_loop(seen: Seen, now: float) -> bool:
    """Of one whose ends nobody saw: its last run was short, or the engine has waited long for its last start."""
    if seen.restarts < LOOPS_AFTER or seen.started_at is None or seen.finished_at is None:
        return False
    if seen.runs:
        waited = seen.started_at - seen.finished_at
        return waited >= FIRST_PAUSE * 2 ** (LOOPS_AFTER - 1) and now - seen.started_at < LASTS
    return _was_short(seen)


def _was_short(seen: Seen) -> bool:
    began, ended = seen.started_at, seen.finished_at
    return not seen.runs and began is not None and ended is not None and ended - began < EARLY


def _moment(seconds: float | None) -> datetime | None:
    return datetime.fromtimestamp(seconds, UTC) if seconds else None


def now() -> float:
    """The clock of all of this: the engine's and ours are the same machine's."""
    return time.time()
