"""Making versions: what a change of a service's content leads to. Pure."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from controller.difference import summary
from controller.environment import changed_names, configured
from controller.errors import InvalidInput
from controller.formation import chosen_process
from controller.names import Address
from controller.operations.definition import changed_definition
from controller.operations.text import one_line
from controller.plugins.advice import Question, code_text, opinion, vars_for
from controller.plugins.exec import SECTION as EXEC
from controller.plugins.generate import SECTION as GENERATE
from controller.plugins.resources import SECTION as RESOURCES
from controller.provided import put_in, used
from controller.state import EventDraft, Put, put
from controller.types import (
    Artifact,
    ArtifactKind,
    Code,
    Definition,
    Deployment,
    Provided,
    Service,
    Version,
    VersionStatus,
)

MAX_REASON = 500
"""Characters of what is kept of why a version was made."""


@dataclass(frozen=True, kw_only=True)
class Content:
    """What makes one version differ from another."""

    definition: Definition
    globals: Mapping[str, Any]
    artifact: Artifact
    commit: str | None = None
    origin: str = ""
    build: str | None = None
    provided: Provided = field(default_factory=Provided)

    def is_that_of(self, version: Version) -> bool:
        """The commit does not count: the same files from another commit run the same. Of the globals'
        variables only those count that the service's own don't override."""
        return (
            self.definition,
            _others(self.globals),
            self.artifact,
            self.provided,
            configured(self.globals, self.artifact, self.definition),
        ) == (
            version.definition,
            _others(version.globals),
            version.artifact,
            version.provided,
            configured(version.globals, version.artifact, version.definition),
        )

    def runs_like(self, other: "Content | None") -> bool:
        """Whether nothing of the globals tells them apart, where definition and code are the same."""
        return (
            other is not None
            and _others(self.globals) == _others(other.globals)
            and self.provided == other.provided
            and self.environment == other.environment
        )

    @property
    def environment(self) -> Mapping[str, str]:
        """The variables that it would run with, but for the server's own."""
        found = configured(self.globals, self.artifact, self.definition)
        return {**self.provided.env, **put_in(found, self.provided.vars)}


_OF_THEIR_OWN = frozenset({"Env", "Domains", GENERATE, EXEC, RESOURCES})


def _others(shared: Mapping[str, Any]) -> Mapping[str, Any]:
    """Globals but for variables, what a version has in another form, and what is none of its business."""
    return {name: value for name, value in shared.items() if name not in _OF_THEIR_OWN}


@dataclass(frozen=True, kw_only=True)
class Cause:
    """Who wants it, when and why."""

    actor: str
    now: datetime
    reason: str


def held_text(service: Service, content: Content | None) -> str | None:
    """Why it can't start yet; None when nothing holds it. `content`: what it would run."""
    reasons = [*service.holds.values()]
    if content is None:
        reasons.append(code_text(service.deployment, service.name, service.definition))
    return "; ".join(reasons) or None


def content_with(
    deployment: Deployment, service: str, definition: Definition, code: Code | None
) -> Content | None:
    """What a service of this name and definition would run, with that code; None: there is none yet.

    Raises Unasked where plugins have something to say and were not asked.
    """
    question = Question(deployment, service, definition)
    said = opinion(question)
    runs = changed_definition(definition, said.keys) if said.keys else definition
    provided = Provided(
        vars=used(runs, deployment.globals, vars_for(question)),
        env=said.env,
        definition=runs if runs != definition else None,
    )
    if definition.image is not None:
        artifact = Artifact(kind=ArtifactKind.IMAGE, reference=definition.image)
        return Content(
            definition=definition, globals=deployment.globals, artifact=artifact, provided=provided
        )
    if code is None:
        return None
    return Content(
        definition=definition,
        provided=provided,
        globals=deployment.globals,
        artifact=code.artifact,
        commit=code.commit,
        origin=code.origin,
        build=code.build,
    )


def check_process(content: Content, address: Address) -> None:
    """Raise InvalidInput where the definition chooses a process type that its code does not have."""
    only = chosen_process(content.definition)
    known = content.artifact.process_types
    if only is not None and only not in known:
        there = ", ".join(sorted(each or "web" for each in known)) or "none"
        raise InvalidInput(
            "process",
            f"{address} is to run the process type {only}, which its code does not have. It has: {there}.",
        )


def new_version(
    service: Service, wanted: Version | None, content: Content, cause: Cause
) -> tuple[Version, Iterator[Put | EventDraft]]:
    """The next version, and what is written for it. Where it brings staged config along, its reason says so."""
    staged = tuple(
        name
        for name in staged_names(service, wanted)
        if content.definition.env.get(name) == service.definition.env.get(name)
    )
    reason = f"{cause.reason}, with staged config {' '.join(staged)}" if staged else cause.reason
    cause = replace(cause, reason=one_line(reason, MAX_REASON))
    version = Version(
        deployment=service.deployment,
        service=service.name,
        number=service.latest + 1,
        definition=content.definition,
        globals=content.globals,
        artifact=content.artifact,
        commit=content.commit,
        origin=content.origin,
        build=content.build,
        provided=content.provided,
        actor=cause.actor,
        reason=cause.reason,
        staged=staged,
        before=None if wanted is None else wanted.number,
        created_at=cause.now,
    )
    version = replace(version, summary=one_line(summary(wanted, version), MAX_REASON))
    return version, _written(service, wanted, version, cause)


def staged_names(service: Service, wanted: Version | None) -> tuple[str, ...]:
    """Variables that the wanted version does not have as the definition says; none before a first version."""
    return () if wanted is None else changed_names(wanted.definition.env, service.definition.env)


def _written(
    service: Service, wanted: Version | None, version: Version, cause: Cause
) -> Iterator[Put | EventDraft]:
    if wanted is not None and wanted.status is VersionStatus.PENDING:
        overtaken = f"v{version.number} was wanted before it was live"
        yield put(replace(wanted, status=VersionStatus.SUPERSEDED, failure=overtaken))
    yield put(version)
    yield put(
        replace(
            service,
            definition=version.definition,
            holds={},
            code=None,
            latest=version.number,
            target=version.number,
            withdrawn=(),
            replacing=(),
            rollout_started_at=cause.now,
            rollout_failure="",
        )
    )
    if service.holds:
        yield EventDraft(
            kind="service.released",
            deployment=service.deployment,
            service=service.name,
            actor=cause.actor,
            text="it is held no more: nothing is left that it waits for",
        )
    yield EventDraft(
        kind="version.created",
        deployment=service.deployment,
        service=service.name,
        actor=cause.actor,
        text=f"v{version.number}: {cause.reason}",
        data={"version": version.number},
    )


def was_live(version: Version) -> bool:
    """Whether it ever served. What was overtaken before that says so in `failure`."""
    return version.status in (VersionStatus.LIVE, VersionStatus.SUPERSEDED) and not version.failure
