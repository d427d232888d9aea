"""When a volume is given over, and while what it is not."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from controller.backends.base import BackendError, InstanceSpec
from controller.backends.docker.image import Image
from controller.backends.docker.volumes import Volumes, may_run
from controller.backends.owners import Owner
from controller.types import Artifact, ArtifactKind
from tests.unit.controller.backends.test_docker_container import IMAGE, spec

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
OLD, NEW, ROOTS = (Image(reference=f"{name}:1", id=name, user=user)
                   for name, user in (("old", "1001"), ("new", "1002"), ("roots", "")))  # fmt: skip


class Engine:
    """One that has these images, and runs what is put into `listed`."""

    def __init__(self) -> None:
        self.listed: list[dict[str, Any]] = []

    def containers(self, **_: Any) -> Sequence[Mapping[str, Any]]:
        return self.listed

    def inspect_image(self, name: str) -> Mapping[str, Any]:
        found = {each.id: each for each in (OLD, NEW, ROOTS)}[name]
        return {"Id": found.id, "Config": {"User": found.user}}

    async def call(self, work: Callable[["Engine"], Any]) -> Any:
        return work(self)


class Users:
    async def owner(self, image: Image) -> Owner | None:
        return Owner(int(image.user), 7) if image.user else None


@pytest.fixture
def engine() -> Engine:
    return Engine()


@pytest.fixture
def volumes(engine: Engine, tmp_path: Path) -> Volumes:
    return Volumes(tmp_path / "volumes", engine, "ab", Users())  # type: ignore[arg-type]


WANTED = spec(artifact=IMAGE, volumes={"data": "/srv/data"})


def container(volumes: Volumes, image: Image, **changes: Any) -> dict[str, Any]:
    """As an engine lists it, with the volume of WANTED."""
    labels = {"mooring.instance": "foo-app-2-web-1", "mooring.kind": "instance", "mooring.artifact": "image"}
    mounts = [{"Type": "bind", "Source": str(folder)} for folder in volumes.folders(WANTED).values()]
    listed = {"Labels": labels, "State": "running", "ImageID": image.id, "Mounts": mounts}
    return {**listed, **changes}


async def started(volumes: Volumes, image: Image, wanted: InstanceSpec = WANTED) -> Owner:
    """Whose the folder is while it starts."""
    async with volumes.held(wanted, image):
        info = volumes.folders(wanted)["data"].stat()
        return Owner(info.st_uid, info.st_gid)


@needs_root
async def test_folder_is_the_users_and_those_above_are_closed(volumes: Volumes) -> None:
    assert await started(volumes, OLD) == Owner(1001, 7)
    folder = volumes.folders(WANTED)["data"]
    above = (folder.parent, folder.parent.parent, folder.parent.parent.parent)
    assert {(each.stat().st_uid, each.stat().st_mode & 0o777) for each in (*above,)} == {(0, 0o700)}


@needs_root
async def test_an_image_that_runs_as_root_leaves_it_to_the_service_and_then_as_it_is(
    volumes: Volumes,
) -> None:
    assert await started(volumes, ROOTS) == Owner(42001, 42001)
    folder = volumes.folders(WANTED)["data"]
    (folder / "of root").touch()
    assert await started(volumes, OLD) == Owner(1001, 7)
    assert (folder / "of root").stat().st_uid == 1001, (
        "it was root that ran there, whoever the folder was given"
    )
    assert await started(volumes, ROOTS) == Owner(1001, 7)


@needs_root
async def test_code_gets_back_what_an_image_had(volumes: Volumes) -> None:
    await started(volumes, OLD)
    slug = Artifact(kind=ArtifactKind.SLUG, reference="0" * 64)
    assert await started(volumes, OLD, replace(WANTED, artifact=slug)) == Owner(42001, 42001)


@needs_root
async def test_it_is_given_over_once_the_other_user_has_gone(volumes: Volumes, engine: Engine) -> None:
    await started(volumes, OLD)
    engine.listed = [container(volumes, OLD)]
    assert await started(volumes, OLD) == Owner(1001, 7)
    with pytest.raises(BackendError, match="foo-app-2-web-1 as another one: the volume data") as caught:
        await started(volumes, NEW)
    assert caught.value.retryable
    engine.listed = [container(volumes, OLD, State="exited"), container(volumes, NEW)]
    with pytest.raises(BackendError):
        await started(volumes, NEW)
    engine.listed = [container(volumes, OLD, Mounts=[]), container(volumes, NEW)]
    assert await started(volumes, NEW) == Owner(1002, 7)


@needs_root
async def test_nobody_else_gets_it_while_something_is_being_started(volumes: Volumes) -> None:
    async with volumes.held(WANTED, OLD):
        assert await started(volumes, OLD) == Owner(1001, 7)
        with pytest.raises(BackendError, match="just being started"):
            await started(volumes, NEW)
    assert await started(volumes, NEW) == Owner(1002, 7)


@needs_root
async def test_image_that_nobody_knows_any_more_runs_as_somebody_else(
    volumes: Volumes, engine: Engine
) -> None:
    await started(volumes, OLD)
    engine.listed = [container(volumes, ROOTS)]
    with pytest.raises(BackendError):
        await started(volumes, NEW)


async def test_server_that_is_not_root_gives_nothing(
    volumes: Volumes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert await started(volumes, OLD) == Owner(os.getuid(), os.getgid())


@pytest.mark.parametrize(
    ("state", "labels", "may"),
    [
        ("running", {}, True),
        ("paused", {}, True),
        ("restarting", {}, True),
        ("exited", {}, True),  # the engine starts it again
        ("exited", {"mooring.once": "yes"}, False),
        ("exited", {"mooring.kind": "attached"}, False),
        ("running", {"mooring.kind": "attached"}, True),
        ("created", {}, False),
        ("dead", {}, False),
    ],
)
def test_what_may_run(state: str, labels: dict[str, str], may: bool) -> None:
    said = {"mooring.instance": "x", "mooring.kind": "instance", **labels}
    assert may_run({"State": state, "Labels": said}) == may
