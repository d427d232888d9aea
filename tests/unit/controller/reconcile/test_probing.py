"""Asking instances whether they can do their work."""

import asyncio
from collections.abc import AsyncGenerator
from datetime import UTC, datetime, timedelta

import pytest

from controller.backends.base import BackendError
from controller.reconcile import probing
from controller.reconcile.health import HealthWatch
from controller.reconcile.probing import Probe
from controller.types import HealthCheck, InstanceState
from tests.factories import instance

WORKER = instance(1, 1, "worker")
CHECK = HealthCheck(command="pg_isready -q")


class Command:
    """Implements Attached: prints, ends with a code, or never."""

    def __init__(self, code: int | None, printed: bytes = b"") -> None:
        self.code, self.printed = code, printed
        self.ended = False

    async def output(self) -> AsyncGenerator[tuple[int, bytes], None]:
        yield 1, self.printed

    async def write(self, data: bytes) -> None:
        raise AssertionError("nobody types")

    async def close_input(self) -> None:
        pass

    def resize(self, columns: int, rows: int) -> None:
        pass

    async def signal(self, number: int) -> None:
        pass

    async def wait(self) -> tuple[int | None, str]:
        if self.code is None:
            await asyncio.sleep(3600)
        return self.code, f"exited with status {self.code}"

    async def end(self, *, grace: float = 3.0) -> None:
        self.ended = True


class Machine:
    """Runs one prepared command beside whatever it is asked for."""

    def __init__(self, command: Command | BackendError) -> None:
        self.command = command
        self.asked: list[tuple[str, str]] = []

    async def enter(self, name, command, *, env, terminal):
        self.asked.append((name, command))
        if isinstance(self.command, BackendError):
            raise self.command
        return self.command

    async def run(self, spec, *, terminal):
        raise AssertionError("a check runs beside an instance")


async def test_command_that_exits_with_0_is_healthy():
    machine = Machine(Command(0, b"anything"))
    assert await Probe(machine)(WORKER, CHECK) is None
    assert machine.asked == [(WORKER.id, "pg_isready -q")]
    assert machine.command.ended


@pytest.mark.parametrize(
    ("printed", "said"),
    [
        (b"", "its check exited with status 2"),
        (b"one\nno response\n\n", "its check exited with status 2: no response"),
        (b"\xff\x1b[31mred\x07\n", "its check exited with status 2: \ufffd[31mred"),
        (b"x" * 10_000, f"its check exited with status 2: {'x' * 200}"),
    ],
)
async def test_command_that_fails_is_told_with_the_last_line_it_printed(printed, said):
    assert await Probe(Machine(Command(2, printed)))(WORKER, CHECK) == said


async def test_command_that_hangs_is_ended(monkeypatch):
    monkeypatch.setattr(probing, "COMMAND_TIMEOUT", 0.01)
    machine = Machine(Command(None))
    assert await Probe(machine)(WORKER, CHECK) == "its check did not end within 0.01 s"
    assert machine.command.ended


async def test_command_is_ended_when_nobody_wants_to_know_any_more():
    machine = Machine(Command(None))
    asking = asyncio.create_task(Probe(machine)(WORKER, CHECK))
    await asyncio.sleep(0.01)
    asking.cancel()
    await asyncio.wait({asking})
    assert machine.command.ended


async def test_command_that_can_not_be_run_is_no_sign_of_health():
    said = await Probe(Machine(BackendError("it does not run now")))(WORKER, CHECK)
    assert said == "its check could not be run: it does not run now"
    assert "can't run any" in await Probe(object())(WORKER, CHECK)


async def test_uptime_counts_from_the_start_of_the_instance_and_for_one_with_a_port_too():
    long_ago = datetime.now(UTC) - timedelta(seconds=60)
    async with asyncio.timeout(1):
        assert await Probe(object())(instance(started_at=long_ago), HealthCheck(uptime=30)) is None
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await Probe(object())(instance(started_at=datetime.now(UTC)), HealthCheck(uptime=30))


async def test_crash_begins_the_time_of_staying_up_anew():
    woken = []
    watch = HealthWatch(Probe(object()), woken.append)
    key, checks = ("foo", "app"), {WORKER.id: HealthCheck(uptime=0.01)}
    first = instance(
        1, 1, "worker", started_at=datetime.now(UTC) + timedelta(hours=-1), state=InstanceState.RUNNING
    )
    down = instance(1, 1, "worker", state=InstanceState.CRASHED)
    again = instance(1, 1, "worker", started_at=datetime.now(UTC), restarts=1)
    watch.update(key, [first], checks, frozenset())
    watch.update(key, [down], checks, frozenset())
    assert not watch.ready(WORKER.id)
    watch.update(key, [again], checks, frozenset())
    assert not watch.ready(WORKER.id)
    async with asyncio.timeout(5):
        while not watch.ready(WORKER.id):
            await asyncio.sleep(0.005)
    assert woken == [key]
    await watch.close()
