"""The switches by which the backend in memory misbehaves; what it does well is in the contract suite."""

from datetime import UTC, datetime, timedelta

import pytest

from controller.backends.base import BackendError, InstanceSpec
from controller.backends.memory import BACKOFF, Behaviour, MemoryBackend
from controller.types import Artifact, ArtifactKind, Instance, InstanceState


class Clock:
    def __init__(self) -> None:
        self.now = datetime(2026, 1, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now


def spec() -> InstanceSpec:
    artifact = Artifact(kind=ArtifactKind.SLUG, reference="a")
    return InstanceSpec(
        id="foo-app-1-web-1",
        deployment="foo",
        service="app",
        version=1,
        process_type="web",
        number=1,
        generation=1,
        artifact=artifact,
        command="true",
    )


async def only(backend: MemoryBackend) -> Instance:
    (found,) = (await backend.observe()).instances
    return found


async def test_slow_one_is_starting_until_its_time() -> None:
    clock = Clock()
    backend = MemoryBackend(behaviour=lambda _: Behaviour(starts_after=5), now=clock)
    started = await backend.start(spec())
    assert started.state is InstanceState.STARTING
    assert not backend.answers(started)
    clock.now += timedelta(seconds=5)
    assert (await only(backend)).state is InstanceState.RUNNING
    assert backend.answers(started)


async def test_unhealthy_one_runs_and_does_not_answer() -> None:
    backend = MemoryBackend(behaviour=lambda _: Behaviour(healthy=False))
    started = await backend.start(spec())
    assert started.state is InstanceState.RUNNING
    assert not backend.answers(started)


async def test_one_that_dies_at_its_start_does_so_again_and_again() -> None:
    clock = Clock()
    backend = MemoryBackend(behaviour=lambda _: Behaviour(dies="exited with status 3"), now=clock)
    await backend.start(spec())
    for restarts in range(3):
        found = await only(backend)
        assert (found.state, found.detail, found.restarts) == (
            InstanceState.CRASHED,
            "exited with status 3",
            restarts,
        )
        clock.now += BACKOFF


async def test_refused_start_is_an_error() -> None:
    backend = MemoryBackend(behaviour=lambda _: Behaviour(refused="No room."))
    with pytest.raises(BackendError, match="No room"):
        await backend.start(spec())
    assert (await backend.observe()).instances == ()


async def test_history_tells_what_was_changed() -> None:
    backend = MemoryBackend()
    await backend.start(spec())
    await backend.start(spec())
    await backend.stop(spec().id, grace=1)
    await backend.stop(spec().id, grace=1)
    assert backend.world.history == [("start", spec().id), ("stop", spec().id)]
