"""One-offs through the loop, on drivers in memory."""

import asyncio

import pytest

from controller.backends.memory import Behaviour
from controller.state import put
from controller.types import Definition, RunStatus, VersionStatus
from tests.factories import run, slug
from tests.unit.controller.reconcile.test_loop import Photographed, opened

MIGRATES = slug(process_types={"web": "serve", "release": "migrate"})
RELEASE = "foo-app-1-release-1"


@pytest.fixture
async def here():
    async with opened() as setting:
        yield setting


async def until(setting, found, ticks=50):
    for _ in range(ticks):
        await setting.loop.tick()
        if found():
            return
        await asyncio.sleep(0.002)
    raise AssertionError("it never came to pass")


async def test_release_command_comes_before_the_first_instance(here) -> None:
    await here.push(1, artifact=MIGRATES)
    await until(here, lambda: here.running)
    assert here.running == [RELEASE]
    here.backend.exit(RELEASE, 0)
    await here.settle()
    assert here.running == ["foo-app-1-web-1"]
    assert here.state.run(RELEASE).status is RunStatus.SUCCEEDED
    assert here.state.version("foo", "app", 1).status is VersionStatus.LIVE


async def test_failed_release_command_fails_the_version_with_its_last_lines(here) -> None:
    await here.push(1, artifact=MIGRATES)
    await until(here, lambda: here.running)
    here.backend.say(RELEASE, "no such table")
    here.backend.exit(RELEASE, 4)
    await here.settle()
    failed = here.state.version("foo", "app", 1)
    assert failed.status is VersionStatus.FAILED
    assert failed.failure == "its release command exited with status 4"
    assert failed.failure_log == ("no such table",)
    assert ("start", "foo-app-1-web-1") not in here.world.history
    assert here.running == []


async def test_release_command_goes_on_under_another_controller_and_is_run_once(here) -> None:
    await here.push(1, artifact=MIGRATES)
    await until(here, lambda: here.running)
    here.restart_controller()
    for _ in range(3):
        await here.loop.tick()
    assert here.running == [RELEASE]
    here.backend.exit(RELEASE, 0)
    here.restart_controller()
    await here.settle()
    assert here.world.history.count(("start", RELEASE)) == 1
    assert here.service.current == 1


async def test_release_command_that_vanished_is_not_run_again(here) -> None:
    await here.push(1, artifact=MIGRATES)
    await until(here, lambda: here.state.run(RELEASE) and here.state.run(RELEASE).status is RunStatus.RUNNING)
    here.world.instances.clear()
    here.restart_controller()
    await here.settle()
    assert "not known" in here.state.version("foo", "app", 1).failure
    assert here.world.history.count(("start", RELEASE)) == 1


async def test_command_that_was_started_during_a_look_is_not_taken_for_lost(here) -> None:
    here.backend = here.loop._backend = here.loop._actor._runs._backend = Photographed(world=here.world)
    started, start = asyncio.Event(), here.backend.start

    async def patient(spec):
        await started.wait()
        return await start(spec)

    here.backend.start = patient
    await here.push(1, artifact=MIGRATES)
    while not here.loop._actor.starting:
        await here.loop.tick()
    here.backend.held = asyncio.Event()
    looking = asyncio.create_task(here.loop.tick())
    await asyncio.sleep(0)
    started.set()
    while here.loop._actor.starting:
        await asyncio.sleep(0)
    here.backend.held.set()
    await looking
    assert here.state.run(RELEASE).status is RunStatus.RUNNING
    here.backend.exit(RELEASE, 0)
    await here.settle()
    assert here.service.current == 1


async def test_newer_version_ends_the_release_command_of_the_older_and_waits_for_it(here) -> None:
    await here.push(1, artifact=MIGRATES)
    await until(here, lambda: here.running)
    await here.push(2, artifact=MIGRATES)
    await until(here, lambda: here.running == ["foo-app-2-release-2"])
    assert here.state.run(RELEASE).status is RunStatus.STOPPED


async def test_postdeploy_runs_once_the_version_is_live_and_undoes_nothing(here) -> None:
    await here.push(1, definition=Definition(postdeploy="warm"))
    post = "foo-app-1-postdeploy-1"
    await until(here, lambda: post in here.running)
    assert here.service.current == 1
    here.backend.exit(post, 1)
    await here.settle()
    await until(here, lambda: here.running == ["foo-app-1-web-1"])
    assert here.state.run(post).status is RunStatus.FAILED
    assert any(each.text.startswith("Warning: postdeploy command of v1") for each in here.state.events("foo"))
    assert here.state.version("foo", "app", 1).status is VersionStatus.LIVE


async def test_detached_run_does_not_keep_the_service_from_being_settled(here) -> None:
    await here.push(1)
    await here.settle()
    await here.state.commit(put(run(env={"A": "1"})))
    await until(here, lambda: here.state.run("foo-app-1-run-1").status is RunStatus.RUNNING)
    assert here.loop.pending("foo", "app") is None
    assert [each.id for each in here.loop.instances("foo")] == ["foo-app-1-web-1"]
    here.backend.exit("foo-app-1-run-1", 7)
    await until(here, lambda: here.running == ["foo-app-1-web-1"])
    over = here.state.run("foo-app-1-run-1")
    assert (over.status, over.exit_code, over.env) == (RunStatus.FAILED, 7, {"A": ""})


async def test_run_that_can_never_start_has_failed(here) -> None:
    await here.push(1)
    await here.settle()
    here.behaviours[1] = Behaviour(refused="no such folder")
    await here.state.commit(put(run(detail="no such folder")))  # asked for long ago
    await until(here, lambda: here.state.run("foo-app-1-run-1").status is RunStatus.FAILED)


async def test_one_that_ends_while_its_start_goes_on_and_somebody_looks_is_seen_to_end(here) -> None:
    """The start returns in the middle of a look that still takes it for under way."""
    await here.push(1)
    await here.settle()
    await here.state.commit(put(run()))
    name = "foo-app-1-run-1"
    start, observe = here.backend.start, here.backend.observe
    started, looked = asyncio.Event(), asyncio.Event()

    async def starts(spec):
        made = await start(spec)
        here.backend.exit(spec.id, 0)
        started.set()
        await looked.wait()
        return made

    async def observes(*, after=""):
        seen = await observe(after=after)
        if started.is_set() and not looked.is_set():
            looked.set()
            for _ in range(5):
                await asyncio.sleep(0)  # the start returns meanwhile
        return seen

    here.backend.start, here.backend.observe = starts, observes
    running = asyncio.create_task(here.loop.run())
    try:
        async with asyncio.timeout(5):
            while not here.state.run(name).status.over:
                await asyncio.sleep(0.01)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    assert here.state.run(name).status is RunStatus.SUCCEEDED
