"""What has been in progress for too long, and who says so. Pure.

| what | limit | who ends it |
|---|---|---|
| build, queued | `queue_timeout` | its record is closed as abandoned; its owner sees that and refuses the push |
| build, queued or running, whose owner is silent | SILENCE | its record is closed as abandoned |
| build, running | `build_timeout`, by its builder; MARGIN more, by us | asked to end; abandoned after another MARGIN |
| rollout without progress | `rollout_timeout` | the version fails, what serves is wanted again |
| rollout that waits for a person (paused, canary, service stopped) | none | that person; `deploys` shows it |
| instance that does not stop | grace and a margin, over and over | stays a problem in `status` |
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from controller.types import Build, BuildStatus, Service

SILENCE = timedelta(seconds=120)
"""How long a build's owner may give no sign of life: ours gives one each second."""
MARGIN = timedelta(seconds=120)
"""How long a builder may take to end what has come to its limit."""
STOP_MARGIN = timedelta(seconds=120)
"""How long beyond its grace an instance may take to stop before people are told."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """The settings of the same names."""

    queue_timeout: timedelta
    build_timeout: timedelta
    rollout_timeout: timedelta
    stop_grace: timedelta


@dataclass(frozen=True, kw_only=True)
class OpenBuild:
    """A build under way, with when its owner was last heard of."""

    build: Build
    heard: datetime


@dataclass(frozen=True, kw_only=True)
class OpenRollout:
    """A rollout under way that waits for nobody's decision, with when it last got on."""

    service: Service
    progress: datetime
    doing: str
    """In words, what it does or waits for."""


@dataclass(frozen=True, kw_only=True)
class AbandonBuild:
    build: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class AskBuildToEnd:
    build: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class GiveUpRollout:
    deployment: str
    service: str
    goal: tuple[int | None, int]
    reason: str


Reap = AbandonBuild | AskBuildToEnd | GiveUpRollout


def overdue(
    builds: Sequence[OpenBuild], rollouts: Sequence[OpenRollout], now: datetime, limits: Limits
) -> Sequence[Reap]:
    """What is to be ended now, with the reason in words."""
    reaps = [_of_build(each.build, each.heard, now, limits) for each in builds]
    reaps += [_of_rollout(each, now, limits) for each in rollouts]
    return [each for each in reaps if each is not None]


def stuck(stopping: Mapping[str, datetime], now: datetime, limits: Limits) -> Sequence[str]:
    """What to tell of instances that were asked to stop, at these times, and don't."""
    late = limits.stop_grace + STOP_MARGIN
    return [
        f"{instance} does not end, though it was asked to {_text(now - since)} ago; it is asked again and again."
        for instance, since in sorted(stopping.items())
        if now - since > late
    ]


def _of_build(build: Build, heard: datetime, now: datetime, limits: Limits) -> Reap | None:
    if now - heard > SILENCE:
        reason = f"nothing was heard of its owner for {_text(SILENCE)}"
        return AbandonBuild(build=build.id, reason=reason)
    if build.status is BuildStatus.QUEUED:
        if build.queued_at is not None and now - build.queued_at > limits.queue_timeout:
            reason = f"its turn did not come within {_text(limits.queue_timeout)} (queue_timeout)"
            return AbandonBuild(build=build.id, reason=reason)
        return None
    ran = now - (build.started_at or now)
    reason = f"it ran for longer than {_text(limits.build_timeout)} (build_timeout)"
    if ran > limits.build_timeout + 2 * MARGIN:
        return AbandonBuild(build=build.id, reason=f"{reason} and did not end when it was asked to")
    if ran > limits.build_timeout + MARGIN and not build.cancel_requested_by:
        return AskBuildToEnd(build=build.id, reason=reason)
    return None


def _of_rollout(rollout: OpenRollout, now: datetime, limits: Limits) -> Reap | None:
    service = rollout.service
    since = max(rollout.progress, service.rollout_started_at or rollout.progress)
    if now - since <= limits.rollout_timeout:
        return None
    return GiveUpRollout(
        deployment=service.deployment,
        service=service.name,
        goal=(service.target, service.generation),
        reason=f"it did not get on for {_text(limits.rollout_timeout)} (rollout_timeout): {rollout.doing}",
    )


def _text(duration: timedelta) -> str:
    seconds = duration.total_seconds()
    return f"{seconds:g} s" if seconds < 120 else f"{seconds / 60:.0f} min"
