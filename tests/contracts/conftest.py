"""Fixtures of the contract suites."""

import subprocess
import tempfile
from pathlib import Path

import pytest

from tests.contracts.building import Place, host_builder


@pytest.fixture
def folder():
    """Open to the build's user, which pytest's own folders are not."""
    path = Path(tempfile.mkdtemp(prefix="moor-"))
    path.chmod(0o711)
    yield path
    subprocess.run(["rm", "-rf", "--", str(path)], check=True)


@pytest.fixture
async def host(folder):
    place = Place(folder)
    place.builder = host_builder(place)
    yield place
    await place.builder.close()


@pytest.fixture
async def scripted(folder):
    """A host builder with one buildpack, which runs the app's own build.sh."""
    programs = folder / "packs/scripted/bin"
    programs.mkdir(parents=True)
    (programs / "detect").write_text('#!/bin/sh\n[ -f "$1/build.sh" ] && echo Scripted\n')
    (programs / "compile").write_text('#!/bin/sh\ncd "$1" && exec sh build.sh "$@"\n')
    place = Place(folder)
    place.builder = host_builder(place, buildpacks=folder / "packs", build_env={"FROM_SETTINGS": "yes"})
    yield place
    await place.builder.close()
