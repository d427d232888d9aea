"""What a caller says that a build made gets to paths and command lines, so it is checked."""

from dataclasses import replace

import pytest

from controller.errors import Forbidden, InvalidInput, NotFound
from controller.operations.artifacts import check_artifact
from controller.operations.text import one_line
from controller.types import Artifact, ArtifactKind, BuildStatus, Right
from tests.factories import slug
from tests.unit.controller.world import ADMIN, FOO, World


def image(reference: str) -> Artifact:
    return Artifact(kind=ArtifactKind.IMAGE, reference=reference)


@pytest.mark.parametrize(
    "artifact",
    [
        slug("../../etc/passwd"),
        slug("A" * 64),
        slug("a" * 63),
        slug("a" * 64 + "\n"),
        slug(process_types={"../web": "x"}),
        slug(process_types={"web": " "}),
        slug(process_types={"web": "a\0b"}),
        slug(env={"A B": "x"}),
        slug(env={"A": "\0"}),
        slug(process_types={"web": "\ud800"}),
        slug(env={"A": "\ud800"}),
        slug(env={"A": "x" * (64 * 1024 + 1)}),
        slug(env={f"A{number}": "x" * 60_000 for number in range(5)}),
        image("-v/etc:/etc"),
        image("redis:7 --privileged"),
        image(""),
        image("a/../b"),
    ],
)
async def test_off_artifacts_are_refused_by_every_door(world: World, artifact: Artifact):
    with pytest.raises(InvalidInput):
        check_artifact(artifact)
    await world.app()
    with pytest.raises(InvalidInput):
        await world.operations.versions.release(ADMIN, FOO, artifact, reason="push")
    build = await world.operations.builds.open(ADMIN, FOO, commit=None)
    with pytest.raises(InvalidInput):
        await world.operations.builds.close(ADMIN, build.id, BuildStatus.SUCCEEDED, artifact=artifact)


@pytest.mark.parametrize(
    "reference", ["redis", "redis:7", "registry.example.org:5000/a/b@sha256:" + "a" * 64]
)
def test_usual_images_are_taken(reference: str):
    assert check_artifact(image(reference)).reference == reference


async def test_off_images_are_refused_in_a_definition(world: World):
    await world.app()
    with pytest.raises(InvalidInput, match="no image"):
        await world.operations.services.define(ADMIN, FOO, {"image": "--privileged"})


@pytest.mark.parametrize("commit", ["", "HEAD", "../x", "c" * 65, "abc\0def0"])
async def test_what_is_no_commit_is_refused(world: World, commit: str):
    await world.app()
    with pytest.raises(InvalidInput):
        await world.operations.versions.release(ADMIN, FOO, slug(), commit=commit, reason="push")
    with pytest.raises(InvalidInput):
        await world.operations.builds.open(ADMIN, FOO, commit=commit)


async def test_a_build_must_be_the_services_own(world: World):
    await world.app()
    await world.app("bar")
    build = await world.operations.builds.open(ADMIN, replace(FOO, deployment="bar"), commit=None)
    with pytest.raises(NotFound):
        await world.operations.versions.release(ADMIN, FOO, slug(), build=build.id, reason="push")


async def test_reasons_fit_on_a_line(world: World):
    await world.app()
    change = await world.operations.versions.release(ADMIN, FOO, slug(), reason="a\r\n\x1b[2Jb" + "c" * 500)
    assert change.version is not None
    assert change.version.reason.startswith("a [2Jbcc")
    assert len(change.version.reason) == 200


def test_one_line():
    assert one_line(" a\n\tb\u202e ", 10) == "a b"
    assert one_line("x" * 20, 10) == "xxxxxxxxx…"


@pytest.mark.parametrize("domain", ["*.localhost"])
async def test_a_wildcard_over_the_servers_own_domain_is_for_admins(world: World, domain: str):
    await world.app()
    robin = await world.user("robin", foo=Right.MANAGE)
    with pytest.raises(Forbidden, match="Only an admin"):
        await world.operations.domains.change(robin, FOO, add=[domain])
    await world.operations.domains.change(robin, FOO, add=["*.foo.localhost", "*.example.org"])
    await world.operations.domains.change(ADMIN, FOO, add=[domain])
