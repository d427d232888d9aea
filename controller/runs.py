"""One-offs: what they are called, how many are remembered. Pure."""

import hashlib
import shlex
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime

from controller.names import instance_id
from controller.types import CronJob, Manifest, Run, RunKind, Service, Version

KEPT = 20
"""Ended ones kept for each service: so many that people asked for, that versions did, that resources came of, and
that schedules began; of these also the last of each job."""
OF_PEOPLE = frozenset({RunKind.RUN, RunKind.ENTER})
OF_VERSIONS = frozenset({RunKind.PREDEPLOY, RunKind.RELEASE, RunKind.POSTDEPLOY})
OF_RESOURCES = frozenset({RunKind.EXEC})
OF_SCHEDULES = frozenset({RunKind.SCHEDULED})
BEFORE_SWITCH = (RunKind.PREDEPLOY, RunKind.RELEASE)
"""What a version must have done before its first instance starts, in this order."""


def commands_before_switch(version: Version) -> Mapping[RunKind, str]:
    """What is to be run before the version is switched to; often nothing."""
    code = version.artifact
    found = {
        RunKind.PREDEPLOY: version.definition.predeploy or (code.manifest.predeploy if code else None),
        RunKind.RELEASE: code.process_types.get(RunKind.RELEASE) if code else None,
    }
    return {kind: command for kind in BEFORE_SWITCH if (command := found[kind])}


def command_after_switch(version: Version) -> str | None:
    """What is to be run once the version is live; None: nothing."""
    asked = version.artifact.manifest if version.artifact else Manifest()
    command = version.definition.postdeploy or asked.postdeploy
    if asked.first_postdeploy is None or version.before is not None:
        return command
    return f"{{\n{asked.first_postdeploy}\n}} && {{\n{command}\n}}" if command else asked.first_postdeploy


def run_of_version(version: Version, kind: RunKind, command: str, *, ttl: float, now: datetime) -> Run:
    """There is at most one of each kind for each version, so it goes by the version's number."""
    return Run(
        id=instance_id(version.deployment, version.service, version.number, kind, version.number),
        deployment=version.deployment,
        service=version.service,
        version=version.number,
        kind=kind,
        number=version.number,
        command=command,
        ttl=ttl,
        actor=version.actor,
        created_at=now,
    )


def next_number(known: Sequence[Run], kind: RunKind) -> int:
    """Above all that are remembered; the newest always is."""
    return max((each.number for each in known if each.kind is kind), default=0) + 1


def find_run(known: Sequence[Run], version: int, kind: RunKind) -> Run | None:
    """That of a version."""
    return next((each for each in known if each.kind is kind and each.version == version), None)


def command_line(words: Sequence[str], process_types: Mapping[str, str]) -> str:
    """The shell line for what somebody asked for: one word is a line as it is, several are a program and its
    arguments. A first word that names a process type stands for that one's command."""
    if not words:
        return ""
    first, *rest = words
    if first in process_types:
        return " ".join((process_types[first], *map(shlex.quote, rest)))
    return shlex.join(words) if rest else first


def title(run: Run) -> str:
    """As a sentence calls it: "release command of v5", "run.3"."""
    return f"{run.kind} command of v{run.version}" if run.kind in OF_VERSIONS else run.process


def job_key(job: CronJob) -> str:
    """The same for the same command at the same times, whichever version it comes with."""
    return hashlib.sha256(f"{job.schedule}\n{job.command}".encode()).hexdigest()[:16]


def surplus(service: Service, known: Sequence[Run]) -> Iterator[Run]:
    """Those to be forgotten, of `known` (newest first). What the wanted version did is never among them."""
    for kinds in (OF_PEOPLE, OF_VERSIONS, OF_RESOURCES, OF_SCHEDULES):
        ended = [each for each in known if each.kind in kinds and each.status.over]
        # Read from the oldest on, so that the newest of each job is what stays in it.
        last = {each.job: each.id for each in reversed(ended) if each.job in service.cron}
        for each in ended[KEPT:]:
            wanted = kinds is OF_VERSIONS and each.version == service.target
            if not wanted and last.get(each.job) != each.id:
                yield each
