import pytest

from controller.backends.base import BackendError, InstanceSpec
from controller.backends.labels import process_name, split_id, to_instance, to_labels
from controller.names import instance_id
from controller.types import Artifact, ArtifactKind, InstanceState

SPEC = InstanceSpec(
    id="foo-app-3-web-2",
    deployment="foo",
    service="app",
    version=3,
    process_type="web",
    number=2,
    generation=5,
    artifact=Artifact(kind=ArtifactKind.SLUG, reference="a"),
    command="true",
)


def test_labels_are_flat_text_and_come_back_as_the_instance() -> None:
    labels = to_labels(SPEC)
    assert all(isinstance(each, str) for each in labels.values())
    found = to_instance(SPEC.id, labels, state=InstanceState.RUNNING)
    for name in ("id", "deployment", "service", "version", "process_type", "number", "generation"):
        assert getattr(found, name) == getattr(SPEC, name)


def test_missing_label_is_an_error_that_names_it() -> None:
    labels = dict(to_labels(SPEC))
    del labels["generation"]
    with pytest.raises(BackendError, match="generation"):
        to_instance(SPEC.id, labels, state=InstanceState.RUNNING)


@pytest.mark.parametrize(
    ("deployment", "service", "process_type"),
    [("foo", "app", "web"), ("foo", "app", ""), ("a-1", "b-2-3", "x-4-y"), ("a.b", "c", "w_1")],
)
def test_id_tells_process_type_and_number(deployment: str, service: str, process_type: str) -> None:
    name = instance_id(deployment, service, 12, process_type, 3)
    assert split_id(name, deployment=deployment, service=service) == (process_type, "3")


@pytest.mark.parametrize(
    "name", ["foo-app", "foo-app-1", "foo-app-x-1", "bar-app-1-web-1", "foo-app-1-web-x"]
)
def test_other_names_are_no_instances_of_the_service(name: str) -> None:
    assert split_id(name, deployment="foo", service="app") is None


def test_unnamed_process_goes_by_its_service() -> None:
    assert (process_name("web", "app", 1), process_name("", "redis", 2)) == ("web.1", "redis.2")
