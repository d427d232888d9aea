"""Domains, process counts and environment of a service."""

import pytest

from controller.domains import default_domain, domains_of
from controller.environment import environment
from controller.formation import process_commands, wanted_processes
from controller.types import Artifact, ArtifactKind, Definition
from tests.factories import service, slug, version

IMAGE = Artifact(kind=ArtifactKind.IMAGE, reference="redis:7")


@pytest.mark.parametrize(
    ("deployment", "name", "domain"),
    [
        ("foo", "app", "foo.example.org"),
        ("foo", "web", "web-foo.example.org"),
        ("a.b", "app", "a.b.example.org"),
        ("a.-b", "app", None),
        ("d" * 40, "s" * 40, None),
    ],
)
def test_default_domains_come_from_the_names(deployment: str, name: str, domain: str | None):
    assert default_domain(deployment, name, "example.org") == domain


def test_the_default_domain_comes_first_and_once():
    made = service(domains=("www.example.org", "foo.localhost"))
    assert domains_of(made, "localhost") == ("foo.localhost", "www.example.org")


def test_web_and_the_unnamed_type_have_one_instance_and_others_none():
    types = {"web": "a", "worker": "b"}
    assert wanted_processes(service(), version(artifact=slug(process_types=types))) == {"web": 1, "worker": 0}
    assert wanted_processes(service(), version(artifact=slug(process_types={"": "a"}))) == {"": 1}


def test_scale_says_how_many_of_the_types_that_there_are():
    assert wanted_processes(service(scale={"web": 3, "gone": 2}), version()) == {"web": 3}


def test_a_command_is_that_of_the_unnamed_type():
    defined = Definition(command="run")
    assert process_commands(version(artifact=IMAGE)) == {"": ""}
    assert process_commands(version(artifact=IMAGE, definition=defined)) == {"": "run"}
    assert process_commands(version(artifact=slug(process_types={}), definition=defined)) == {"": "run"}
    assert process_commands(version(definition=defined)) == {"web": "python app.py"}
    assert process_commands(version(artifact=None, definition=defined)) == {}


def test_a_services_own_config_wins_over_the_buildpack_and_that_over_the_globals():
    made = version(
        number=3,
        commit="c" * 40,
        globals={"Env": {"A": 1, "B": 1, "C": 1}},
        artifact=slug(env={"B": "2", "C": "2"}),
        definition=Definition(env={"C": "3", "MOORING_APP": "no"}),
    )
    assert environment(made) == {
        "A": "1",
        "B": "2",
        "C": "3",
        "SOURCE_VERSION": "c" * 40,
        "MOORING_APP": "foo",
        "MOORING_SERVICE": "app",
        "MOORING_VERSION": "3",
    }
