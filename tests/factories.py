"""Model values with defaults everywhere, so that a test names only what it is about."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from controller.types import (
    Artifact,
    ArtifactKind,
    Definition,
    Deployment,
    Instance,
    InstanceState,
    LogLine,
    LogSource,
    Run,
    RunKind,
    Service,
    Version,
    VersionStatus,
)

NOW = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)


def deployment(name: str = "foo", **changes: Any) -> Deployment:
    return replace(Deployment(name=name, created_at=NOW, created_by="ann"), **changes)


def service(deployment: str = "foo", name: str = "app", **changes: Any) -> Service:
    return replace(Service(deployment=deployment, name=name, created_at=NOW, created_by="ann"), **changes)


def slug(reference: str = "a" * 64, **changes: Any) -> Artifact:
    types = {"web": "python app.py"}
    return replace(
        Artifact(kind=ArtifactKind.SLUG, reference=reference, size=1000, process_types=types), **changes
    )


def version(number: int = 1, deployment: str = "foo", service: str = "app", **changes: Any) -> Version:
    made = Version(
        deployment=deployment,
        service=service,
        number=number,
        definition=Definition(),
        artifact=slug(),
        actor="ann",
        reason=f"push {number}",
        created_at=NOW,
        status=VersionStatus.PENDING,
    )
    return replace(made, **changes)


def instance(version: int = 1, number: int = 1, process_type: str = "web", **changes: Any) -> Instance:
    made = Instance(
        id=f"foo-app-{version}-{process_type}-{number}",
        deployment="foo",
        service="app",
        version=version,
        process_type=process_type,
        number=number,
        generation=1,
        state=InstanceState.RUNNING,
        address="127.0.0.1",
        port=20000 + 100 * version + number if process_type in ("web", "") else None,
        started_at=NOW,
    )
    return replace(made, **changes)


def run(number: int = 1, kind: RunKind = RunKind.RUN, **changes: Any) -> Run:
    values: dict[str, Any] = {
        "version": 1,
        "command": "rake db:migrate",
        "actor": "ann",
        "created_at": NOW,
    } | changes
    name = f"foo-app-{values['version']}-{kind}-{number}"
    return Run(id=name, deployment="foo", service="app", kind=kind, number=number, **values)


def log_line(text: str = "hello", **changes: Any) -> LogLine:
    line = LogLine(time=NOW, source=LogSource.APP, instance="foo-app-1-web-1", process="web.1", text=text)
    return replace(line, **changes)
