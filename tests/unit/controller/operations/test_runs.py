"""One-offs: asking for one, looking at it, ending it."""

from dataclasses import replace

import pytest

from controller.backends.memory import MemoryBackend
from controller.errors import Conflict, Forbidden, InvalidInput, NotFound, Refused
from controller.operations.runs import Order
from controller.run_record import begun, ended
from controller.runs import KEPT, command_line, run_of_version
from controller.state import put
from controller.types import LogLine, LogSource, Right, RunKind, RunStatus
from tests.factories import NOW, run, version
from tests.unit.controller.world import ADMIN, FOO, World

ECHO = Order(command=["echo", "a b"], env={"SECRET": "hush"})


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["echo $HOME"], "echo $HOME"),
        (["echo", "$HOME", "a b"], "echo '$HOME' 'a b'"),
        (["worker"], "python work.py"),
        (["worker", "--once now"], "python work.py '--once now'"),
        ([], ""),
    ],
)
def test_words_become_a_shell_line(words, line) -> None:
    assert command_line(words, {"worker": "python work.py"}) == line


async def test_detached_run_is_a_record_that_the_loop_takes_up(world: World) -> None:
    await world.app()
    number = await world.push()
    made = await world.operations.runs.detach(ADMIN, FOO, ECHO)
    kept = world.state.run(made.id)
    assert kept is not None
    assert (kept.status, kept.version, kept.command) == (RunStatus.PENDING, number, "echo 'a b'")
    assert (kept.env, kept.process, kept.attached) == ({"SECRET": "hush"}, "run.1", False)
    assert kept.ttl == world.settings.run_ttl
    again = await world.operations.runs.detach(ADMIN, FOO, replace(ECHO, ttl=5))
    assert (again.process, again.ttl) == ("run.2", 5)
    assert world.runtime.woken


async def test_values_given_to_it_are_shown_to_nobody(world: World) -> None:
    await world.app()
    await world.push()
    made = await world.operations.runs.detach(ADMIN, FOO, ECHO)
    shown = [made, world.operations.runs.get(ADMIN, FOO, "run.1"), *world.operations.runs.list(ADMIN, FOO)]
    assert {each.env["SECRET"] for each in shown} == {"(hidden)"}
    events = world.state.events("foo")
    assert "hush" not in repr(events)
    assert events[-1].text == "ann runs run.1 with SECRET: echo 'a b'"


@pytest.mark.parametrize(
    "order",
    [
        Order(command=[]),
        Order(command=["a\0b"]),
        Order(command=["x" * 70_000]),
        replace(ECHO, ttl=0),
        replace(ECHO, ttl=10**9),
        replace(ECHO, process_type="nothing"),
        replace(ECHO, env={"1": "x"}),
        replace(ECHO, env={"PORT": "1"}),
    ],
)
async def test_what_makes_no_sense_is_refused(world: World, order: Order) -> None:
    await world.app()
    await world.push()
    with pytest.raises(InvalidInput):
        await world.operations.runs.detach(ADMIN, FOO, order)


async def test_there_must_be_something_to_run_in(world: World) -> None:
    await world.app()
    with pytest.raises(Refused, match="push some code"):
        await world.operations.runs.detach(ADMIN, FOO, ECHO)


async def test_running_and_ending_take_the_right_to_operate_and_looking_that_to_view(world: World) -> None:
    await world.app()
    await world.push()
    deployer = await world.user("dan", foo=Right.DEPLOY)
    with pytest.raises(Forbidden):
        await world.operations.runs.detach(deployer, FOO, ECHO)
    await world.operations.runs.detach(ADMIN, FOO, ECHO)
    with pytest.raises(Forbidden):
        await world.operations.runs.stop(deployer, FOO, "run.1")
    viewer = await world.user("vic", foo=Right.VIEW)
    assert len(world.operations.runs.list(viewer, FOO)) == 1
    with pytest.raises(NotFound):
        world.operations.runs.list(await world.user("eve"), FOO)


async def test_end_is_asked_for_once_and_only_while_it_runs(world: World) -> None:
    await world.app()
    await world.push()
    await world.operations.runs.detach(ADMIN, FOO, ECHO)
    assert (await world.operations.runs.stop(ADMIN, FOO, "run.1")).stop_requested_by == "ann"
    before = world.state.last_event
    await world.operations.runs.stop(ADMIN, FOO, "run.1")
    assert world.state.last_event == before
    await world.state.transact(
        lambda: ended(world.state, "foo-app-1-run-1", RunStatus.STOPPED, "ann asked for its end", now=NOW)
    )
    with pytest.raises(Conflict, match="was stopped"):
        await world.operations.runs.stop(ADMIN, FOO, "run.1")
    with pytest.raises(NotFound):
        await world.operations.runs.stop(ADMIN, FOO, "run.9")


async def test_only_so_many_that_have_ended_are_remembered(world: World) -> None:
    await world.app()
    await world.push()
    for _ in range(KEPT + 3):
        made = await world.operations.runs.detach(ADMIN, FOO, ECHO)
        await world.state.transact(
            lambda name=made.id: ended(world.state, name, RunStatus.FAILED, "x", now=NOW)
        )
    kept = world.operations.runs.list(ADMIN, FOO)
    assert len(kept) == KEPT
    assert kept[0].process == f"run.{KEPT + 3}"


async def test_what_the_wanted_version_ran_is_remembered_however_much_came_after(world: World) -> None:
    await world.app()
    await world.push()
    for number in [1, *range(50, 50 + KEPT + 2)]:
        made = run(number, RunKind.RELEASE, version=number)
        await world.state.commit(put(made))
        await world.state.transact(
            lambda name=made.id: ended(world.state, name, RunStatus.FAILED, "x", now=NOW)
        )
    assert world.state.run("foo-app-1-release-1") is not None
    assert len(world.state.runs("foo", "app")) == KEPT + 1


async def test_output_is_told_to_its_end_and_then_ends(world: World) -> None:
    await world.app()
    await world.push()
    backend = MemoryBackend()
    world.runtime.backend = backend
    made = await world.operations.runs.detach(ADMIN, FOO, ECHO)

    def says(text: str, second: int, source: LogSource = LogSource.APP) -> None:
        line = LogLine(
            time=NOW.replace(second=second), source=source, instance=made.id, process="run.1", text=text
        )
        backend.world.lines.append(line)

    says("one", 1)
    told = []
    async for line in world.operations.runs.logs(ADMIN, FOO, "run.1", follow=True):
        told.append(line.text)
        if line.text == "one":
            await world.state.transact(
                lambda: ended(world.state, made.id, RunStatus.SUCCEEDED, "", exit_code=0, now=NOW)
            )
            says("two", 2)
            says("exited", 3, LogSource.SYSTEM)
    assert told == ["one", "two"]


async def test_release_command_is_followed_with_its_version(world: World) -> None:
    await world.app()
    number = await world.push()
    backend = MemoryBackend()
    world.runtime.backend = backend
    made = run_of_version(version(number), RunKind.RELEASE, "migrate", ttl=9, now=NOW)
    await world.state.commit(put(made), events=[begun(made)])
    line = LogLine(time=NOW, source=LogSource.APP, instance=made.id, process="release.1", text="one table")
    backend.world.lines.append(line)
    await world.state.transact(
        lambda: ended(world.state, made.id, RunStatus.FAILED, "exited with status 3", now=NOW)
    )
    await world.failed(why="its release command exited with status 3")
    steps = [each.text async for each in world.operations.rollouts.follow(ADMIN, FOO, number)]
    assert steps[1:4] == [
        "Running the release command of v1: migrate",
        "  one table",
        "Release command of v1 failed: exited with status 3",
    ]


async def test_runs_go_with_their_service(world: World) -> None:
    await world.app()
    await world.push()
    await world.operations.runs.detach(ADMIN, FOO, ECHO)
    await world.operations.services.destroy(ADMIN, FOO)
    assert world.state.runs() == []
