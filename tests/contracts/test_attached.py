"""Commands that somebody is attached to: one suite for every backend that runs any, then what only real
processes can get wrong."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path

import pytest

from controller.backends.base import Attached, BackendError, InstanceSpec, SupportsRun, Terminal
from tests.contracts.test_backend import (
    REAL_RIGS,
    UID,
    DockerRig,
    MemoryRig,
    Rig,
    SupervisorRig,
    eventually,
    rig_name,
    running,
    spec,
)

SCREEN = Terminal(columns=100, rows=30, kind="vt100")
ECHO = "cat; exit 5"


RealRig = SupervisorRig | DockerRig


@pytest.fixture(params=[MemoryRig, *REAL_RIGS], ids=rig_name)
async def rig(request: pytest.FixtureRequest) -> AsyncIterator[Rig]:
    rig: Rig = request.param()
    yield rig
    for each in (await rig.backend().observe()).instances:
        await rig.backend().stop(each.id, grace=0)
    await rig.close()


@pytest.fixture(params=REAL_RIGS, ids=rig_name)
async def real(request: pytest.FixtureRequest) -> AsyncIterator[RealRig]:
    rig: RealRig = request.param()
    yield rig
    for each in (await rig.backend().observe()).instances:
        await rig.backend().stop(each.id, grace=0)
    await rig.close()


@pytest.fixture
async def kept() -> AsyncIterator[SupervisorRig]:
    """What only holds where the server's own child keeps the command."""
    rig = SupervisorRig()
    yield rig
    await rig.close()


def oneoff(command: str = ECHO, **changes: object) -> InstanceSpec:
    return spec(process_type="run", command=command, once=True, **changes)


async def attach(rig: Rig, wanted: InstanceSpec, terminal: Terminal | None = None) -> Attached:
    backend = rig.backend()
    assert isinstance(backend, SupportsRun)
    return await backend.run(wanted, terminal=terminal)


async def printed(attached: Attached) -> dict[int, bytes]:
    """All of it, by stream."""
    found = {1: b"", 2: b""}
    async with asyncio.timeout(30), aclosing(attached.output()) as output:
        async for stream, data in output:
            found[stream] += data
    return found


async def told(rig: Rig, command: str, terminal: Terminal | None = None, **changes: object) -> str:
    """What it prints on its output, once it has ended by itself."""
    attached = await attach(rig, oneoff(command, **changes), terminal)
    if terminal is None:
        await attached.close_input()
    text = (await printed(attached))[1].decode()
    await attached.wait()
    await attached.end()
    return text


# The contract


async def test_what_is_written_to_it_comes_back_and_its_end_ends_it(rig: Rig) -> None:
    attached = await attach(rig, oneoff())
    await attached.write(b"one\n\x00\xff\x03\x04two")
    reading = asyncio.create_task(printed(attached))
    await attached.close_input()
    assert (await reading)[1] == b"one\n\x00\xff\x03\x04two"
    assert (await attached.wait())[0] == 5
    await attached.end()


async def test_it_is_no_instance(rig: Rig) -> None:
    attached = await attach(rig, oneoff())
    assert (await rig.backend().observe()).instances == ()
    await attached.end(grace=0)


async def test_ending_is_the_end_however_often(rig: Rig) -> None:
    attached = await attach(rig, oneoff())
    await attached.end(grace=0)
    await attached.end(grace=0)
    await attached.write(b"late")
    assert (await printed(attached))[2] == b""


async def test_signal_ends_it_and_is_told_as_a_shell_does(rig: Rig) -> None:
    attached = await attach(rig, oneoff("exec cat"))
    await attached.signal(signal.SIGTERM)
    assert (await attached.wait())[0] == 143
    await attached.end()


async def test_interrupt_and_end_are_typed_in_a_terminal(rig: Rig) -> None:
    attached = await attach(rig, oneoff("exec cat"), SCREEN)
    await attached.write(b"\x03")
    assert (await attached.wait())[0] == 130
    await attached.end()
    attached = await attach(rig, oneoff("cat; exit 5"), SCREEN)
    await attached.close_input()
    assert (await attached.wait())[0] == 5
    await attached.end()


async def test_entering_what_does_not_run_is_refused(rig: Rig) -> None:
    backend = rig.backend()
    assert isinstance(backend, SupportsRun)
    with pytest.raises(BackendError):
        await backend.enter("foo-app-3-web-9", "cat", env={}, terminal=None)


# Real processes


@pytest.mark.real
async def test_output_and_errors_are_apart_without_a_terminal(real: RealRig) -> None:
    attached = await attach(real, oneoff("echo out; echo err >&2"))
    assert await printed(attached) == {1: b"out\n", 2: b"err\n"}
    assert await attached.wait() == (0, "exited with status 0")
    await attached.end()


@pytest.mark.real
async def test_megabytes_of_anything_pass_unchanged_however_slowly_they_are_taken(
    real: RealRig,
) -> None:
    attached = await attach(real, oneoff("exec cat"))
    data = os.urandom(3 * 1024**2)

    async def send() -> None:
        for start in range(0, len(data), 50_000):
            await attached.write(data[start : start + 50_000])
        await attached.close_input()

    sending = asyncio.create_task(send())
    await asyncio.sleep(0.3)
    assert not sending.done(), "nobody takes anything, so that the writer waits"
    assert (await printed(attached))[1] == data
    await sending
    await attached.end()


@pytest.mark.real
async def test_terminal_is_one_with_its_size_and_kind(real: RealRig) -> None:
    text = await told(real, "test -t 0 && test -t 1 && test -t 2 && stty size && echo $TERM", SCREEN)
    assert text == "30 100\r\nvt100\r\n"


@pytest.mark.real
async def test_command_is_told_when_the_window_changes(real: RealRig) -> None:
    attached = await attach(
        real, oneoff("trap 'stty size; exit 0' WINCH; echo ready; while :; do sleep 0.05; done"), SCREEN
    )
    text = b""
    async with asyncio.timeout(20), aclosing(attached.output()) as output:
        async for _, data in output:
            text += data
            if text == b"ready\r\n":
                attached.resize(121, 41)
    assert text == b"ready\r\n41 121\r\n"
    await attached.end()


@pytest.mark.real
async def test_it_finds_what_an_instance_finds_but_no_port(real: RealRig) -> None:
    real.file(".profile.d/a.sh", "export FROM_PROFILE=yes\n")
    text = await told(
        real,
        'echo "$FROM_PROFILE $A ${PORT-none} $HOME $(pwd) $(test -w "$TMPDIR" && echo tmp)"',
        env={"A": "1"},
    )
    assert text.split() == ["yes", "1", "none", str(real.home), str(real.home), "tmp"]


@pytest.mark.real
@pytest.mark.skipif(os.geteuid() != 0, reason="only root may change users")
@pytest.mark.parametrize("terminal", [None, SCREEN])
async def test_it_runs_as_the_services_user_who_owns_the_terminal(
    real: RealRig, terminal: Terminal | None
) -> None:
    command = "id -u; id -g; id -G" + ("; stat -c %u $(tty)" if terminal else "")
    text = await told(real, command, terminal, uid=UID)
    assert set(text.split()) == {str(UID)}


@pytest.mark.real
async def test_nothing_of_ours_is_open_in_it(real: RealRig) -> None:
    text = await told(real, "ls /proc/self/fd")
    assert text.split() == ["0", "1", "2", "3"]  # the last is that of ls


@pytest.mark.real
async def test_all_that_it_began_ends_with_it(real: RealRig) -> None:
    attached = await attach(real, oneoff("(setsid sleep 1357 >/dev/null 2>&1 & echo $!); sleep 0.2; exit 3"))
    await printed(attached)
    assert (await attached.wait())[0] == 3
    assert real.left("sleep 1357") == set()
    await attached.end()


@pytest.mark.real
@pytest.mark.parametrize("terminal", [None, SCREEN])
async def test_ending_it_kills_what_ignores_every_signal(real: RealRig, terminal: Terminal | None) -> None:
    attached = await attach(
        real, oneoff("trap '' HUP TERM INT; setsid sleep 1357 & echo $!; while :; do sleep 1; done"), terminal
    )
    async with aclosing(attached.output()) as output:
        await anext(output)
    await attached.end(grace=0.2)
    assert real.left("sleep 1357") == set()


@pytest.mark.real
async def test_it_ends_when_the_server_is_killed(kept: SupervisorRig) -> None:
    attached = await attach(kept, oneoff("echo $$; trap '' HUP TERM; while :; do sleep 1; done"))
    async with aclosing(attached.output()) as output:
        _, first = await anext(output)
    attached._child.stdin.close()  # type: ignore[attr-defined]

    async def gone() -> bool:
        return not Path(f"/proc/{int(first)}").exists()

    await eventually(gone)
    await attached.end()


@pytest.mark.real
async def test_it_ends_when_its_own_keeper_is_killed(kept: SupervisorRig) -> None:
    attached = await attach(kept, oneoff("echo $$; exec sleep 1357"))
    async with aclosing(attached.output()) as output:
        _, first = await anext(output)
    os.kill(attached._child.pid, signal.SIGKILL)  # type: ignore[attr-defined]

    async def gone() -> bool:
        return not Path(f"/proc/{int(first)}").exists()

    await eventually(gone)
    assert (await attached.wait())[0] is None
    await attached.end()


@pytest.mark.real
async def test_what_can_not_be_started_says_why(kept: SupervisorRig) -> None:
    kept.slug.rmdir()
    with pytest.raises(BackendError, match="No such file"):
        await attach(kept, oneoff())
    kept.slug.mkdir()


@pytest.mark.real
async def test_entering_gives_the_environment_and_place_of_the_instance(real: RealRig) -> None:
    backend = real.backend()
    inside = await backend.start(spec(wants_port=True, env={"A": "1", "B": "2"}))
    await running(backend, inside.id)
    attached = await backend.enter(inside.id, 'echo "$A $B $PORT $(pwd)"', env={"B": "3"}, terminal=None)
    text = (await printed(attached))[1].decode()
    assert text.split() == ["1", "3", str(inside.port), str(real.home)]
    await attached.end()
    assert await running(backend, inside.id), "leaving it does the instance no harm"


@pytest.mark.real
async def test_shell_in_an_instance_ends_with_it(real: RealRig) -> None:
    backend = real.backend()
    inside = await backend.start(spec())
    await running(backend, inside.id)
    attached = await backend.enter(
        inside.id, "trap '' HUP TERM; sleep 1357; sleep 1357", env={}, terminal=SCREEN
    )
    await backend.stop(inside.id, grace=10)
    async with asyncio.timeout(10):
        await attached.wait()
    await attached.end()


@pytest.mark.real
async def test_limits_hold_for_it_too(real: RealRig) -> None:
    wanted = oneoff("ulimit -n")
    wanted = replace(wanted, limits=replace(wanted.limits, nofile=77))
    attached = await attach(real, wanted)
    assert (await printed(attached))[1] == b"77\n"
    await attached.end()
