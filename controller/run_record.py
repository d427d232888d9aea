"""What is written down of a one-off: by the reconcile loop, and by whoever is attached to one."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime

from controller.runs import OF_VERSIONS, surplus, title
from controller.state import Delete, EventDraft, Put, State, delete, put
from controller.types import Run, RunKind, RunStatus


def begun(run: Run) -> EventDraft:
    """The journal entry for a run; the values of variables given to it are not in it."""
    what = f"Running the {title(run)}" if run.kind in OF_VERSIONS else f"{run.actor} runs {run.process}"
    if run.resource:
        what = f"Running {run.process} for {run.resource}"
    if run.job:
        what = f"Running {run.process} by its schedule"
    given = f" with {' '.join(sorted(run.env))}" if run.env else ""
    return EventDraft(
        kind="run.started",
        deployment=run.deployment,
        service=run.service,
        actor=run.actor,
        text=f"{what}{given}: {run.command}",
        data={"run": run.id, "version": run.version, "command": run.command},
    )


def ended(
    state: State, name: str, status: RunStatus, detail: str, *, exit_code: int | None = None, now: datetime
) -> Iterator[Put | Delete | EventDraft]:
    """What is written for a run's next status; nothing where it is over already, or has that one."""
    run = state.run(name)
    if run is None or run.status.over or (run.status, run.detail) == (status, detail):
        return
    changed = replace(run, status=status, detail=detail, exit_code=exit_code)
    if status is RunStatus.RUNNING:
        yield put(replace(changed, started_at=run.started_at or now))
        return
    if not status.over:
        yield put(changed)
        return
    changed = replace(changed, finished_at=now, env=dict.fromkeys(run.env, ""))
    yield put(changed)
    service = state.service(run.deployment, run.service)
    if service is not None:
        known = [changed if each.id == name else each for each in state.runs(run.deployment, run.service)]
        yield from map(delete, surplus(service, known))
    yield EventDraft(
        kind="run.ended",
        deployment=run.deployment,
        service=run.service,
        text=_end_text(changed),
        data={"run": run.id, "version": run.version, "status": status, "exit_code": exit_code},
    )


def _end_text(run: Run) -> str:
    words = f"{title(run)} {run.status}"
    if run.detail and run.status is not RunStatus.SUCCEEDED:
        words += f": {run.detail}"
    if run.kind is RunKind.POSTDEPLOY and run.status is not RunStatus.SUCCEEDED:
        return f"Warning: {words}. v{run.version} is live all the same"
    return words[0].upper() + words[1:] if run.kind in OF_VERSIONS else words
