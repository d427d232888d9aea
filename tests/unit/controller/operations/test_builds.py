"""Build records and their logs."""

import pytest

from controller.errors import Conflict, InvalidInput, NotFound, Refused
from controller.logs import builds as logs
from controller.operations import builds as module
from controller.types import BuildStatus
from tests.factories import slug
from tests.unit.controller.world import ADMIN, FOO, World


async def test_a_build_is_opened_logged_and_closed(world: World):
    await world.app()
    ops = world.operations.builds
    build = await ops.open(ADMIN, FOO, commit="c" * 40)
    await ops.append_log(ADMIN, build.id, ["one", "two"])
    await ops.append_log(ADMIN, build.id, ["three"])
    closed = await ops.close(ADMIN, build.id, BuildStatus.SUCCEEDED, artifact=slug())
    assert (closed.status, closed.artifact) == (BuildStatus.SUCCEEDED, slug())
    assert closed.finished_at is not None
    assert await ops.log(ADMIN, build.id) == "one\ntwo\nthree\n"


async def test_what_has_ended_stays_as_it_ended(world: World):
    await world.app()
    ops = world.operations.builds
    build = await ops.open(ADMIN, FOO, commit=None)
    await ops.close(ADMIN, build.id, BuildStatus.FAILED, error="no Procfile")
    assert (await ops.close(ADMIN, build.id, BuildStatus.FAILED)).error == "no Procfile"
    for late in (
        ops.close(ADMIN, build.id, BuildStatus.CANCELED),
        ops.append_log(ADMIN, build.id, ["x"]),
        ops.cancel(ADMIN, build.id),
    ):
        with pytest.raises(Conflict, match="has ended: it failed"):
            await late


async def test_an_end_must_be_one(world: World):
    await world.app()
    build = await world.operations.builds.open(ADMIN, FOO, commit=None)
    for status in (BuildStatus.QUEUED, BuildStatus.RUNNING, BuildStatus.SUCCEEDED):
        with pytest.raises(InvalidInput):
            await world.operations.builds.close(ADMIN, build.id, status)


async def test_only_some_builds_of_a_service_run_at_once(world: World, monkeypatch):
    monkeypatch.setattr(module, "MAX_OPEN", 1)
    await world.app()
    first = await world.operations.builds.open(ADMIN, FOO, commit=None)
    with pytest.raises(Refused, match="under way"):
        await world.operations.builds.open(ADMIN, FOO, commit=None)
    await world.operations.builds.close(ADMIN, first.id, BuildStatus.CANCELED)
    await world.operations.builds.open(ADMIN, FOO, commit=None)


async def test_a_queued_build_says_what_it_waits_for_until_it_runs(world: World):
    await world.app()
    ops = world.operations.builds
    queued = await ops.open(ADMIN, FOO, commit=None, reason="push of 1a2b3c4", waits_for="Waiting for bob")
    assert (queued.status, queued.doing, queued.started_at) == ("queued", "Waiting for bob", None)
    running = await ops.touch(ADMIN, queued.id, status=BuildStatus.RUNNING, doing="Python app detected")
    assert (running.status, running.doing) == ("running", "Python app detected")
    assert running.started_at is not None
    assert running.reason == "push of 1a2b3c4"
    closed = await ops.close(ADMIN, queued.id, BuildStatus.CANCELED)
    assert closed.doing == ""
    kinds = [each.kind for each in world.state.events() if each.kind.startswith("build.")]
    assert kinds == ["build.queued", "build.running", "build.canceled"]


async def test_a_sign_of_life_alone_writes_nothing_and_tells_of_the_end(world: World):
    await world.app()
    ops = world.operations.builds
    build = await ops.open(ADMIN, FOO, commit=None)
    before, heard = world.state.last_event, ops.heard(build)
    assert await ops.touch(ADMIN, build.id) == build
    assert world.state.last_event == before
    assert ops.heard(build) > heard
    await ops.close(ADMIN, build.id, BuildStatus.ABANDONED, error="too late")
    assert (await ops.touch(ADMIN, build.id)).status is BuildStatus.ABANDONED
    with pytest.raises(Conflict, match="was abandoned"):
        await ops.touch(ADMIN, build.id, doing="something")
    with pytest.raises(InvalidInput, match="closing it says how it ended"):
        await ops.touch(ADMIN, build.id, status=BuildStatus.SUCCEEDED)


async def test_builds_of_a_server_that_died_are_abandoned(world: World):
    await world.app()
    ops = world.operations.builds
    running = await ops.open(ADMIN, FOO, commit=None)
    queued = await ops.open(ADMIN, FOO, commit=None, waits_for="Waiting")
    await ops.abandon()
    assert ops.get(ADMIN, running.id).error == "the server stopped while it ran"
    assert ops.get(ADMIN, queued.id).error == "the server stopped while it waited"
    assert not any(each.status.under_way for each in ops.list(ADMIN, FOO))


async def test_only_the_newest_builds_are_kept_with_their_logs(world: World, monkeypatch):
    await world.app()
    ops = world.operations.builds
    monkeypatch.setattr(ops, "_keep", 3)
    made = []
    for _ in range(5):
        build = await ops.open(ADMIN, FOO, commit=None)
        await ops.append_log(ADMIN, build.id, ["x"])
        await ops.close(ADMIN, build.id, BuildStatus.CANCELED)
        made.append(build.id)
    kept = [each.id for each in ops.list(ADMIN, FOO)]
    assert kept == made[:1:-1]
    assert {path.stem for path in world.settings.folders.builds.iterdir()} == set(kept)


async def test_logs_of_a_destroyed_service_go_with_it(world: World):
    await world.app()
    build = await world.operations.builds.open(ADMIN, FOO, commit=None)
    await world.operations.builds.append_log(ADMIN, build.id, ["x"])
    await world.operations.deployments.destroy(ADMIN, "foo")
    await world.operations.removal.idle()
    assert list(world.settings.folders.builds.iterdir()) == []


async def test_a_log_that_is_full_says_so_once(world: World, monkeypatch):
    monkeypatch.setattr(logs, "MAX_BYTES", 2 * len("2026-01-01T00:00:00.000000Z build abcd\n"))
    await world.app()
    ops = world.operations.builds
    build = await ops.open(ADMIN, FOO, commit=None)
    for _ in range(4):
        await ops.append_log(ADMIN, build.id, ["abcd"])
    assert await ops.log(ADMIN, build.id) == f"abcd\nabcd\n{logs.CUT}\n"


@pytest.mark.parametrize("odd", ["", "../../etc/passwd", "x", "\0"])
async def test_what_is_no_build_is_not_found(world: World, odd: str):
    with pytest.raises(NotFound):
        await world.operations.builds.log(ADMIN, odd)
