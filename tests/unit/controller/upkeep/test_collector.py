"""What is collected, and what never is, with real files."""

import asyncio
import os
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import cast

import pytest

from builder.images import ImageStore
from builder.storage import DiskStorage
from controller.engine import EngineUnreachable
from controller.names import Address
from controller.state import put
from controller.types import Artifact, ArtifactKind, Build, BuildStatus, Run, RunKind
from controller.upkeep.collector import Collector, Policy
from controller.upkeep.storage import Removed
from tests.factories import instance, slug
from tests.unit.controller.world import ADMIN, FOO, World

BAR = Address("bar")


def collector(world: World, *, keep: int = 2, cache_limit: int = 1024**3) -> Collector:
    policy = Policy(keep_versions=keep, cache_limit=cache_limit)
    return Collector(world.state, world.runtime, world.storage, world.operations.builds, policy)


async def make_slug(world: World, word: str, service: str = "app") -> Artifact:
    """As a build leaves it: an archive, and an unpacked tree."""
    tree = world.settings.data / "tree"
    tree.mkdir()
    (tree / "file").write_text(word * 5000)
    made = await world.slugs.keep(tree, deployment="foo", service=service, uid=None)
    return slug(made.reference, size=made.size)


async def serve(world: World, artifact: Artifact, address: Address = FOO) -> int:
    change = await world.operations.versions.release(ADMIN, address, artifact, reason="push")
    assert change.version is not None
    await world.live(address)
    return change.version.number


async def history(world: World, count: int) -> list[Artifact]:
    await world.app()
    made = [await make_slug(world, str(number)) for number in range(count)]
    for each in made:
        await serve(world, each)
    world.slugs.forget_fresh([each.reference for each in made])
    return made


def archives(world: World) -> set[str]:
    return {each.name.split(".")[0] for each in world.settings.folders.slugs.iterdir()}


def unpacked(world: World) -> set[str]:
    return {each.name for each in (world.settings.folders.apps / "foo/app").iterdir()}


def numbers(world: World) -> list[int]:
    return [each.number for each in world.state.versions("foo", "app")]


async def test_what_a_change_leaves_behind_goes_with_its_files_and_is_told(world: World):
    made = await history(world, 5)
    done = await collector(world, keep=2).collect_changed({("foo", "app"), ("foo", ""), ("gone", "app")})
    assert numbers(world) == [5, 4]
    kept = {made[3].reference, made[4].reference}
    assert archives(world) == kept
    assert unpacked(world) == kept
    assert (done.versions, done.slugs, done.apps) == (3, 3, 3)
    assert done.size > 0
    (event,) = [each for each in world.state.events("foo") if each.kind == "versions.collected"]
    assert event.data == {"versions": [1, 2, 3], "slugs": 3, "bytes": sum(each.size for each in made[:3])}
    assert "3 versions, v1 to v3, and 3 slugs" in event.text


async def test_nothing_is_looked_at_twice_for_the_same_change(world: World):
    await history(world, 3)
    collecting = collector(world, keep=2)
    await collecting.collect_changed({("foo", "app")})
    (world.settings.folders.apps / "foo/app" / ("e" * 64)).mkdir()
    assert (await collecting.collect_changed({("foo", "app")})).apps == 0


async def test_a_rollback_stays_possible_and_what_runs_stays_whole(world: World):
    made = await history(world, 4)
    world.runtime.running = [instance(version=1)]
    await collector(world, keep=1).collect()
    assert numbers(world) == [4, 3, 1]
    assert unpacked(world) == {made[0].reference, made[2].reference, made[3].reference}
    back = await world.operations.versions.rollback(ADMIN, FOO)
    assert back.artifact is not None
    assert back.artifact.reference == made[2].reference


async def test_a_run_keeps_its_version(world: World):
    await history(world, 4)
    run = Run(id="r", deployment="foo", service="app", version=1, kind=RunKind.RUN, number=1, command="sh")
    await world.state.commit(put(run))
    await collector(world, keep=1).collect()
    assert numbers(world) == [4, 3, 1]


async def test_while_it_is_not_known_what_runs_no_version_goes(world: World):
    await history(world, 4)
    world.runtime.troubles = ["no answer from web-2"]
    before = unpacked(world)
    await collector(world, keep=1).collect()
    assert numbers(world) == [4, 3, 2, 1]
    assert unpacked(world) == before


async def test_a_slug_that_another_service_holds_stays(world: World):
    made = await history(world, 3)
    await world.app("bar")
    await serve(world, made[0], BAR)
    await collector(world, keep=1).collect_changed({("foo", "app")})
    assert numbers(world) == [3, 2]
    assert archives(world) == {each.reference for each in made}


async def test_a_build_keeps_its_slug_until_its_version_does(world: World):
    await history(world, 2)
    builds = world.operations.builds
    build = await builds.open(ADMIN, FOO, commit=None)
    made = await make_slug(world, "new")
    # Right after it was written nobody knows of it but its build.
    await collector(world, keep=1).collect()
    assert made.reference in archives(world)
    world.slugs.forget_fresh([made.reference])
    await builds.close(ADMIN, build.id, BuildStatus.SUCCEEDED, artifact=made)
    await collector(world, keep=1).collect()
    assert made.reference in archives(world)
    assert made.reference in unpacked(world)
    change = await world.operations.versions.release(ADMIN, FOO, made, build=build.id, reason="push")
    assert change.version is not None
    assert builds.get(ADMIN, build.id).version == change.version.number
    # Once it was released the build holds nothing any more.
    released = builds.get(ADMIN, build.id)
    assert released.finished_at is not None
    for content in "def":
        await world.live()
        await world.push(content=content)
    await world.live()
    await collector(world, keep=1).collect()
    assert made.reference not in archives(world)


async def test_a_build_of_which_no_version_was_made_holds_its_slug_for_a_while_only(world: World):
    await world.app()
    made = await make_slug(world, "new")
    world.slugs.forget_fresh([made.reference])
    long_ago = datetime.now(UTC) - timedelta(hours=1)
    build = Build(
        id="b1",
        deployment="foo",
        service="app",
        status=BuildStatus.SUCCEEDED,
        artifact=made,
        finished_at=long_ago,
    )
    await world.state.commit(put(build))
    await collector(world).collect()
    assert archives(world) == set()


async def test_files_that_a_crash_left_without_a_record_go_with_the_next_full_turn(world: World):
    await world.app()
    left = await make_slug(world, "left")
    world.slugs.forget_fresh([left.reference])
    done = await collector(world).collect()
    assert (done.slugs, done.apps) == (1, 1)
    assert archives(world) == set()


async def test_a_version_that_is_wanted_meanwhile_keeps_its_tree(
    world: World, monkeypatch: pytest.MonkeyPatch
):
    made = await history(world, 3)
    collecting = collector(world, keep=10)
    listed = world.slugs.unpacked

    async def then_rolled_back(*words):
        found = await listed(*words)
        await world.operations.versions.rollback(ADMIN, FOO, 1)
        return found

    monkeypatch.setattr(world.slugs, "unpacked", then_rolled_back)
    await collecting.collect()
    assert made[0].reference in unpacked(world)


# Caches


def cache(world: World, name: str, *, used: float, size: int = 100_000) -> Path:
    folder = world.settings.folders.caches / "foo" / name
    folder.mkdir(parents=True)
    (folder / "data").write_bytes(os.urandom(size))
    os.utime(folder, (used, used))
    return folder


async def test_caches_beyond_their_limit_go_those_first_that_were_not_used_for_longest(world: World):
    old, middle, new = (cache(world, name, used=used) for name, used in (("a", 1), ("b", 2), ("c", 3)))
    done = await collector(world, cache_limit=250_000).collect()
    assert done.caches == 1
    assert [each.exists() for each in (old, middle, new)] == [False, True, True]
    assert not any(world.settings.folders.trash.iterdir())


async def test_the_cache_of_a_running_build_stays(world: World):
    await world.app()
    busy, idle = cache(world, "app", used=1), cache(world, "other", used=2)
    await world.operations.builds.open(ADMIN, FOO, commit=None)
    await collector(world, cache_limit=0).collect()
    assert [busy.exists(), idle.exists()] == [True, False]


async def test_where_room_is_needed_caches_within_the_limit_go_too(world: World):
    old, new = cache(world, "a", used=1), cache(world, "b", used=2)
    await collector(world).collect(room=50_000)
    assert [old.exists(), new.exists()] == [False, True]


async def test_surplus_builds_go_with_their_logs(world: World, monkeypatch: pytest.MonkeyPatch):
    await world.app()
    builds = world.operations.builds
    for _ in range(4):
        build = await builds.open(ADMIN, FOO, commit=None)
        await builds.append_log(ADMIN, build.id, ["x"])
        await builds.close(ADMIN, build.id, BuildStatus.FAILED)
    running = await builds.open(ADMIN, FOO, commit=None)
    monkeypatch.setattr(builds, "_keep", 2)
    done = await collector(world).collect()
    assert done.builds == 2
    left = builds.list(ADMIN, FOO)
    assert len(left) == 3
    assert left[0].id == running.id
    assert len(list(world.settings.folders.builds.glob("*.log"))) == 2


async def test_it_follows_changes_by_itself(world: World):
    collecting = collector(world, keep=1)
    following = asyncio.create_task(collecting.follow())
    try:
        await history(world, 3)
        async with asyncio.timeout(10):
            while numbers(world) != [3, 2]:
                await asyncio.sleep(0.01)
    finally:
        following.cancel()
        await asyncio.wait({following})


async def test_a_forced_turn_is_told_with_who_asked_even_when_nothing_went(world: World):
    done = await world.operations.disk.collect(ADMIN)
    assert done.size == 0
    (event,) = [each for each in world.state.events() if each.kind == "disk.collected"]
    assert event.actor == "ann"


async def test_usage_is_told_by_kind_and_service(world: World):
    await history(world, 2)
    cache(world, "app", used=1)
    report = await world.operations.disk.report(ADMIN)
    (foo,) = report.services
    assert foo.usage["caches"] >= 100_000
    assert foo.usage["slugs"] > 0
    assert foo.usage["apps"] > 0
    assert report.usage["caches"] >= foo.usage["caches"]
    assert report.space is not None
    assert report.space.total > report.space.free > 0


async def test_a_purged_cache_is_told(world: World):
    await world.app()
    folder = cache(world, "app", used=1)
    assert await world.operations.disk.purge_cache(ADMIN, FOO) >= 100_000
    assert not folder.exists()
    assert await world.operations.disk.purge_cache(ADMIN, FOO) == 0
    assert [each.kind for each in world.state.events("foo")].count("cache.purged") == 1


async def test_records_of_an_older_release_are_read(world: World):
    build = Build(
        id="b1", deployment="foo", service="app", status=BuildStatus.RUNNING, started_at=datetime.now(UTC)
    )
    await world.state.commit(put(build))
    assert world.state.builds_under_way() == [build]
    await world.state.commit(put(replace(build, status=BuildStatus.FAILED)))
    assert world.state.builds_under_way() == []


async def test_very_many_versions_go_in_turns_of_bounded_size(world: World, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("controller.upkeep.collector.AT_ONCE", 2)
    await history(world, 6)
    collecting = collector(world, keep=1)
    assert (await collecting.collect_changed({("foo", "app")})).versions == 2
    assert (await collecting.collect_changed({("foo", "app")})).versions == 2
    assert (await collecting.collect_changed({("foo", "app")})).versions == 0
    assert numbers(world) == [6, 5]


class Images:
    """An engine with images, by what it was asked."""

    def __init__(self, *references: str) -> None:
        self.kept = set(references)
        self.away = False

    async def collect(self, is_held: Callable[[str], bool]) -> Removed:
        if self.away:
            raise EngineUnreachable("The container engine is away.")
        gone = {each for each in self.kept if not is_held(each)}
        self.kept -= gone
        return Removed(len(gone), len(gone))


def with_images(world: World, images: Images) -> Collector:
    storage = DiskStorage(world.settings.folders, world.slugs, cast(ImageStore, images))
    policy = Policy(keep_versions=1)
    return Collector(world.state, world.runtime, storage, world.operations.builds, policy)


def image(digit: str) -> Artifact:
    return Artifact(kind=ArtifactKind.IMAGE, reference=f"sha256:{digit * 64}")


async def test_image_stays_as_long_as_a_version_has_it(world: World):
    await world.app()
    for digit in "abc":
        await serve(world, image(digit))
    images = Images(*(image(digit).reference for digit in "abcd"))
    collected = await with_images(world, images).collect()
    assert images.kept == {image("b").reference, image("c").reference}, "a rollback goes back to b"
    assert collected.images == 2


async def test_engine_that_is_away_keeps_nothing_else_from_being_collected(world: World):
    await history(world, 3)
    images = Images()
    images.away = True
    collected = await with_images(world, images).collect()
    assert (collected.slugs, collected.images) == (1, 0)
