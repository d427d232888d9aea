"""A disk that fills up."""

from collections.abc import Mapping

import pytest

from controller.state import State
from controller.store.base import StoreUnavailable
from controller.upkeep.collector import Collector, Policy
from controller.upkeep.storage import Kind, Space
from controller.upkeep.watermark import DiskWatch, is_low
from tests.unit.controller.world import ADMIN, World

MIB = 1024**2


@pytest.mark.parametrize(
    ("free", "was_low", "expected"),
    [(100, False, False), (99, False, True), (100, True, True), (109, True, True), (111, True, False)],
)
def test_a_warning_does_not_flicker(free: int, was_low: bool, expected: bool) -> None:
    assert is_low(free, warning=100, was_low=was_low) is expected


class Disk:
    """The world's storage on a disk of which a test says how full it is."""

    def __init__(self, world: World) -> None:
        self._storage = world.storage
        self.free = 1000 * MIB

    def __getattr__(self, name: str) -> object:
        return getattr(self._storage, name)

    async def space(self) -> Space:
        return Space(total=1000 * MIB, free=self.free)

    async def usage(self) -> Mapping[Kind, int]:
        return {Kind.SLUGS: 30 * MIB, Kind.CACHES: 50 * MIB}


class Watched(Collector):
    def __init__(self, *words: object) -> None:
        super().__init__(*words)  # type: ignore[arg-type]
        self.rooms: list[int] = []

    async def collect(self, *, room: int = 0, actor: str = ""):
        self.rooms.append(room)
        return await super().collect(room=room, actor=actor)


def watch(world: World, disk: Disk) -> tuple[DiskWatch, Watched]:
    collector = Watched(world.state, world.runtime, disk, world.operations.builds, Policy())
    made = DiskWatch(world.state, disk, collector, warning=100 * MIB, reserve=10 * MIB)  # type: ignore[arg-type]
    return made, collector


def told(state: State) -> list[str]:
    return [each.kind for each in state.events() if each.kind.startswith("disk.")]


async def test_it_is_told_once_and_room_is_made_at_once(world: World):
    disk = Disk(world)
    watching, collector = watch(world, disk)
    await watching.look()
    assert watching.problems() == ()
    disk.free = 50 * MIB
    for _ in range(3):
        await watching.look()
    (problem,) = watching.problems()
    assert problem.startswith(
        "The disk has 50 MiB left, less than 100 MiB (disk_warning); pushes are refused below 10"
    )
    assert "caches 50 MiB, slugs 30 MiB" in problem
    assert collector.rooms == [60 * MIB]
    assert told(world.state) == ["disk.low"]
    space = watching.space()
    assert space is not None
    assert space.usage == {"slugs": 30 * MIB, "caches": 50 * MIB}

    disk.free = 105 * MIB
    await watching.look()
    assert watching.problems()
    disk.free = 200 * MIB
    await watching.look()
    assert watching.problems() == ()
    assert told(world.state) == ["disk.low", "disk.recovered"]


async def test_what_a_full_store_could_not_take_is_told_once_it_can(
    world: World, monkeypatch: pytest.MonkeyPatch
):
    disk = Disk(world)
    watching, _ = watch(world, disk)
    disk.free = 0

    def full(*_: object, **__: object) -> None:
        raise StoreUnavailable("database or disk is full")

    with monkeypatch.context() as broken:
        broken.setattr(world.state, "commit", full)
        await watching.look()
    assert watching.problems()
    assert told(world.state) == []
    await watching.look()
    assert told(world.state) == ["disk.low"]


async def test_a_warning_level_below_the_reserve_warns_at_the_reserve(world: World):
    disk = Disk(world)
    watching = DiskWatch(world.state, disk, watch(world, disk)[1], warning=0, reserve=10 * MIB)  # type: ignore[arg-type]
    disk.free = 5 * MIB
    await watching.look()
    assert watching.problems()


async def test_status_tells_how_full_the_disk_is(world: World):
    assert world.operations.server.status(ADMIN).disk is None
    await world.operations.upkeep.disk.look()
    disk = world.operations.server.status(ADMIN).disk
    assert disk is not None
    assert disk.reserve == world.settings.disk_reserve
