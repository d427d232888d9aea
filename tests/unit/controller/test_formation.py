"""How many processes a version has, when images come in the place of buildpacks and back."""

from dataclasses import replace

from controller.formation import wanted_processes
from controller.types import Artifact, ArtifactKind
from tests.factories import service, version

IMAGE = Artifact(kind=ArtifactKind.IMAGE, reference="sha256:" + "a" * 64)


def test_image_without_a_procfile_has_one_unnamed_process():
    assert wanted_processes(service(), version(artifact=IMAGE)) == {"": 1}


def test_unnamed_process_in_the_place_of_web_is_as_many():
    scaled = replace(service(), scale={"web": 3, "worker": 2})
    assert wanted_processes(scaled, version(artifact=IMAGE)) == {"": 3}


def test_web_in_the_place_of_the_unnamed_process_is_as_many():
    types = {"web": "serve", "worker": "work"}
    scaled = replace(service(), scale={"": 0})
    assert wanted_processes(scaled, version(artifact=replace(IMAGE, process_types=types))) == {
        "web": 0,
        "worker": 0,
    }
