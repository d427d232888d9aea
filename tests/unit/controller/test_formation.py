"""How many processes a version has, when images come in the place of buildpacks and back."""

from dataclasses import replace

from controller.environment import environment
from controller.formation import process_commands, wanted_processes
from controller.types import Artifact, ArtifactKind, Definition
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


def test_a_service_may_run_one_process_type_of_its_code():
    code = replace(IMAGE, process_types={"web": "serve", "worker": "work", "release": "migrate"})
    only = version(artifact=code, definition=Definition(extra={"process": "worker"}))
    assert process_commands(only) == {"worker": "work"}
    assert wanted_processes(service(), only) == {"worker": 1}
    assert wanted_processes(service(scale={"worker": 3, "web": 2}), only) == {"worker": 3}


def of_image(**extra):
    return version(
        artifact=IMAGE, definition=Definition(image="x", command=extra.pop("command", None), extra=extra)
    )


def test_an_entrypoint_gets_the_words_of_the_command():
    assert process_commands(of_image(entrypoint=["/entry", "a b"])) == {"": "exec /entry 'a b'"}
    both = of_image(entrypoint=["/entry"], command='serve --port="${PORT}"')
    assert process_commands(both) == {"": 'exec /entry serve --port="${PORT}"'}


def test_entrypoint_and_process_mean_nothing_with_what_does_not_have_them():
    code = version(definition=Definition(extra={"entrypoint": ["/entry"]}))
    assert process_commands(code) == {"web": "python app.py"}
    assert process_commands(of_image(process="worker")) == {"": ""}


def test_an_image_finds_its_named_ports():
    ports = {"": 8000, "http": "assign", "rpc-2": 20000, "admin": "assign"}
    found = environment(of_image(ports=ports))
    assert {name: value for name, value in found.items() if name.startswith("PORT")} == {
        "PORT": "8000",
        "PORT_RPC_2": "20000",
        "PORT_ADMIN": "20001",
        "PORT_HTTP": "20002",
    }
    assert "PORT_RPC_2" not in environment(version(definition=Definition(extra={"ports": ports})))
