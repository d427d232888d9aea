"""What images are called, and what is refused as a name."""

import pytest

from controller.dockerfile import changed_args, check_dockerfile, check_secrets, check_target
from controller.errors import InvalidInput
from controller.image_names import split_reference, whole_reference
from controller.operations.artifacts import check_image

ID = "sha256:" + "a" * 64


@pytest.mark.parametrize(
    ("reference", "name", "tag"),
    [
        ("redis", "redis", "latest"),
        ("redis:7", "redis", "7"),
        ("host:5000/redis", "host:5000/redis", "latest"),
        ("host:5000/redis:7", "host:5000/redis", "7"),
        (f"redis@{ID}", "redis", ID),
        (ID, ID, ""),
    ],
)
def test_name_and_tag(reference, name, tag):
    assert split_reference(reference) == (name, tag)


def test_digits_of_an_id_are_a_name_with_a_tag():
    assert whole_reference("93cb867d96a0") == "93cb867d96a0:latest"
    assert whole_reference(ID) == ID
    assert whole_reference(f"redis@{ID}") == f"redis@{ID}"


@pytest.mark.parametrize("reference", ["mooring-abc123/foo/app:0123456789ab", "sha256:93cb", "a b", "../a"])
def test_names_of_what_is_others_are_refused(reference):
    with pytest.raises(InvalidInput):
        check_image(reference)


@pytest.mark.parametrize("path", ["/etc/passwd", "../Dockerfile", "a/../../b", ".git/x", "-f", "a,b", "a\nb"])
def test_dockerfile_is_a_file_of_the_source(path):
    with pytest.raises(InvalidInput):
        check_dockerfile(path)


def test_dockerfile_is_written_in_one_way():
    assert check_dockerfile("./deploy//Dockerfile") == "deploy/Dockerfile"
    assert check_dockerfile("") == ""


def test_arguments_are_changed_one_by_one():
    assert changed_args({"A": "1", "B": "2"}, {"B": None, "C": "3", "D": None}) == {"A": "1", "C": "3"}
    with pytest.raises(InvalidInput):
        changed_args({}, {"no name": "1"})


def test_targets_and_secrets():
    assert check_target("web-1") == "web-1"
    assert check_secrets(["A", "B", "A"]) == ("A", "B")
    for refuse in (lambda: check_target("--x"), lambda: check_secrets(["a b"])):
        with pytest.raises(InvalidInput):
            refuse()
