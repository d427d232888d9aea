"""One-offs as tables: what the record says and what is observed → what to do."""

from dataclasses import replace
from datetime import timedelta

import pytest

from controller.backends.labels import to_instance, to_labels
from controller.reconcile.actions import EndRun, ForgetRun, GiveUp, NoteRun, Start, StartRun
from controller.reconcile.desired import desired_service
from controller.reconcile.observed import ObservedService
from controller.reconcile.plan_runs import ObservedRuns, plan_service_and_runs, run_spec
from controller.reconcile.timing import Timing
from controller.types import Definition, InstanceState, Limits, RunKind, RunStatus, VersionStatus
from tests.factories import NOW, instance, run, service, slug, version

TIMING = Timing(release_timeout=60)
MIGRATES = slug(process_types={"web": "serve", "release": "migrate"})
RUNNING = {"status": RunStatus.RUNNING, "started_at": NOW}


def plan(wanted=None, versions=None, runs=(), instances=(), now=NOW, **observed):
    versions = versions or {1: version(1, status=VersionStatus.LIVE)}
    wanted = wanted or service(current=1, target=1, scale={"web": 0})
    return plan_service_and_runs(
        desired_service(wanted, versions, frozenset()),
        ObservedRuns(runs=runs, versions=versions, starting=observed.pop("starting", frozenset())),
        ObservedService(instances=instances, **observed),
        now,
        TIMING,
    )


def runs_actions(planned):
    return [each for each in planned.actions if isinstance(each, StartRun | EndRun | NoteRun | ForgetRun)]


def seen(of, state=InstanceState.RUNNING, **changes):
    spec = run_spec(service(), version(of.version), of, Limits(pids=9))
    return replace(to_instance(of.id, to_labels(spec), state=state), **changes)


def test_pending_run_is_started_once_with_its_own_variables() -> None:
    asked = run(env={"A": "1"})
    (action,) = runs_actions(plan(runs=[asked]))
    assert isinstance(action, StartRun)
    assert (action.spec.once, action.spec.wants_port, action.spec.env["A"]) == (True, False, "1")
    assert action.spec.env["MOORING_VERSION"] == "1"
    assert "ann" in action.reason


@pytest.mark.parametrize("where", ["starting", "stopping"])
def test_what_is_under_way_is_left_alone(where: str) -> None:
    asked = run()
    assert runs_actions(plan(runs=[asked], **{where: frozenset({asked.id})})) == []


@pytest.mark.parametrize(
    ("record", "now", "status"),
    [
        (run(**RUNNING), NOW, RunStatus.LOST),
        (run(**RUNNING, stop_requested_by="bob"), NOW, RunStatus.STOPPED),
        (run(**RUNNING, ttl=10), NOW + timedelta(seconds=10), RunStatus.TIMED_OUT),
        (run(stop_requested_by="bob"), NOW, RunStatus.STOPPED),
        (run(version=9), NOW, RunStatus.FAILED),
        (run(detail="no disk"), NOW + timedelta(seconds=61), RunStatus.FAILED),
    ],
)
def test_run_without_an_instance_is_noted(record, now, status) -> None:
    (action,) = runs_actions(plan(runs=[record], now=now))
    assert isinstance(action, NoteRun)
    assert (action.run, action.status) == (record.id, status)
    assert action.reason


@pytest.mark.parametrize(
    ("code", "status"), [(0, RunStatus.SUCCEEDED), (3, RunStatus.FAILED), (None, RunStatus.LOST)]
)
def test_exit_is_noted_whatever_was_wanted_meanwhile(code, status) -> None:
    record = run(**RUNNING, stop_requested_by="bob")
    gone = seen(record, InstanceState.EXITED, exit_code=code)
    (action,) = runs_actions(plan(runs=[record], instances=[gone]))
    assert isinstance(action, NoteRun)
    assert (action.status, action.exit_code) == (status, code)


@pytest.mark.parametrize(
    ("record", "now"),
    [
        (run(**RUNNING, stop_requested_by="bob"), NOW),
        (run(**RUNNING, ttl=10), NOW + timedelta(seconds=11)),
        (run(2, RunKind.RELEASE, version=2, **RUNNING), NOW),
    ],
)
def test_run_that_nobody_wants_any_longer_is_ended(record, now) -> None:
    (action,) = runs_actions(plan(runs=[record], instances=[seen(record)], now=now))
    assert isinstance(action, EndRun)
    assert (action.run.id, action.grace) == (record.id, TIMING.stop_grace)


def test_run_that_was_started_and_not_noted_is_noted() -> None:
    (action,) = runs_actions(plan(runs=[run()], instances=[seen(run())]))
    assert isinstance(action, NoteRun) and action.status is RunStatus.RUNNING


@pytest.mark.parametrize("records", [(), (run(status=RunStatus.SUCCEEDED),)])
def test_instance_whose_run_is_over_or_unknown_is_forgotten(records) -> None:
    (action,) = runs_actions(plan(runs=records, instances=[seen(run(), InstanceState.EXITED, exit_code=0)]))
    assert isinstance(action, ForgetRun)


def test_attached_run_is_its_connections_own() -> None:
    assert runs_actions(plan(runs=[run(attached=True, **RUNNING)])) == []


def test_run_is_no_instance_of_the_service_and_keeps_it_from_nothing() -> None:
    planned = plan(runs=[run(**RUNNING)], instances=[seen(run())], pool=None)
    assert [type(each).__name__ for each in planned.actions] == ["Route"]
    assert planned.waiting is None


# Before the switch


def releasing(*runs, definition=None, current=1, now=NOW, **changes):
    new = version(2, artifact=MIGRATES, definition=definition or Definition())
    versions = {1: version(1, status=VersionStatus.LIVE), 2: new}
    wanted = service(current=current, target=2, latest=2, **changes)
    live = [instance(1, 1)] if current else []
    return plan(wanted, versions, runs, live, now, ready=frozenset({each.id for each in live}))


def test_release_command_runs_before_anything_of_the_version_starts() -> None:
    planned = releasing()
    (action,) = runs_actions(planned)
    assert isinstance(action, StartRun)
    assert (action.run.kind, action.run.command, action.run.ttl) == (RunKind.RELEASE, "migrate", 60)
    assert not any(isinstance(each, Start) for each in planned.actions)
    assert planned.waiting


def test_predeploy_runs_before_the_release_command() -> None:
    definition = Definition(predeploy="check")
    (first,) = runs_actions(releasing(definition=definition))
    assert (first.run.kind, first.run.command) == (RunKind.PREDEPLOY, "check")
    done = replace(first.run, status=RunStatus.SUCCEEDED)
    (second,) = runs_actions(releasing(done, definition=definition))
    assert second.run.kind is RunKind.RELEASE


def release(**changes):
    return run(2, RunKind.RELEASE, version=2, **changes)


def test_while_it_runs_only_what_serves_is_kept() -> None:
    record = release(**RUNNING)
    planned = plan(
        service(current=1, target=2, scale={"web": 2}),
        {1: version(1, status=VersionStatus.LIVE), 2: version(2, artifact=MIGRATES)},
        [record],
        [instance(1, 1), seen(record)],
        ready=frozenset({"foo-app-1-web-1"}),
    )
    assert [each.spec.id for each in planned.actions if isinstance(each, Start)] == ["foo-app-1-web-2"]
    assert planned.waiting == "the release command of v2 runs"


def test_version_starts_once_it_has_succeeded() -> None:
    planned = releasing(release(status=RunStatus.SUCCEEDED))
    starts = [each.spec.id for each in planned.actions if isinstance(each, Start)]
    assert starts == ["foo-app-2-web-1"]


@pytest.mark.parametrize(
    ("status", "detail", "words"),
    [
        (RunStatus.FAILED, "exited with status 3", "its release command exited with status 3"),
        (RunStatus.TIMED_OUT, "it did not end within 60 s", "did not end within 60 s"),
        (RunStatus.STOPPED, "bob asked for its end", "bob asked for its end"),
        (RunStatus.LOST, "its keeper ended", "not run a second time"),
    ],
)
@pytest.mark.parametrize("current", [1, None])
def test_version_is_given_up_when_it_has_not(status, detail, words, current) -> None:
    planned = releasing(release(status=status, detail=detail), current=current)
    (given_up,) = [each for each in planned.actions if isinstance(each, GiveUp)]
    assert (given_up.version, given_up.instances) == (2, ("foo-app-2-release-2",))
    assert words in given_up.reason
    assert not any(isinstance(each, Start) for each in planned.actions)


def test_it_runs_for_a_first_version_and_for_none_that_is_stopped() -> None:
    assert len(runs_actions(releasing(current=None))) == 1
    assert runs_actions(releasing(current=None, stopped=True)) == []


def test_restart_of_what_serves_runs_nothing() -> None:
    live = version(2, artifact=MIGRATES, status=VersionStatus.LIVE)
    planned = plan(service(current=2, target=2, generation=2), {2: live})
    assert runs_actions(planned) == []
    assert any(isinstance(each, Start) for each in planned.actions)


def test_two_versions_never_migrate_at_the_same_time() -> None:
    older = run(3, RunKind.RELEASE, version=3, **RUNNING)
    planned = releasing(older)
    assert not any(isinstance(each, StartRun) for each in planned.actions)
    assert planned.waiting == "the release command of v3 ends first"


def test_release_command_of_a_stopped_service_waits_with_it() -> None:
    assert runs_actions(releasing(release(), stopped=True)) == []


def test_paused_rollout_begins_no_release_command_until_somebody_resumes_it() -> None:
    planned = releasing(paused=True)
    assert runs_actions(planned) == []
    assert (planned.waiting, planned.awaiting) == (None, "the rollout of v2 is paused")


def test_plan_is_made_again_when_the_time_of_a_run_is_over() -> None:
    record = run(**RUNNING, ttl=90)
    assert plan(runs=[record], instances=[seen(record)]).again_at == NOW + timedelta(seconds=90)
