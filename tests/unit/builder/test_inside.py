"""What runs in a build container: that it needs nothing but the standard library and PyYAML, and what is said."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from builder.buildpack import BUNDLED
from builder.inside import parts
from builder.inside.order import Order, Outcome
from builder.inside.processes import Processes
from controller.types import BuilderChoice


def test_what_goes_into_the_image_runs_with_no_more_than_that(tmp_path):
    for name, (content, _) in parts.files(BUNDLED, None).items():
        if name.startswith("python/"):
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
    (tmp_path / "yaml").symlink_to(Path(yaml.__file__).parent)
    program = (
        f"import sys; sys.path[:0] = [{str(tmp_path / 'python')!r}, {str(tmp_path)!r}]; "
        "import builder.inside.__main__"
    )
    done = subprocess.run([sys.executable, "-IS", "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_image_has_the_buildpacks_as_programs_and_the_certificates():
    found = parts.files(BUNDLED, b"certificates")
    assert found["buildpacks/python/bin/detect"][1] and not found["buildpacks/python/compile.py"][1]
    assert found["ca-certificates.crt"] == (b"certificates", False)
    assert parts.digest("base", found) != parts.digest("base", parts.files(BUNDLED, None))
    assert parts.digest("base", found) == parts.digest("base", dict(reversed(found.items())))


def test_an_order_comes_as_it_went():
    order = Order(
        id="b1",
        commit="c" * 40,
        env={"A": "1\n2"},
        buildpacks=("python", "nodejs"),
        builder=BuilderChoice.BUILDPACKS,
        folders={"/srv/pack": "dGFy"},
    )
    assert Order.parse(order.encoded()) == order


SAID = {
    "built": "",
    "failed": "",
    "unavailable": "",
    "limit": "",
    "process_types": {},
    "env": {},
    "verdicts": [],
}


def test_an_outcome_is_read():
    assert Outcome.parse(json.dumps({**SAID, "built": "Python", "env": {"A": "1"}}).encode()) == Outcome(
        built="Python", env={"A": "1"}
    )


@pytest.mark.parametrize(
    "said",
    ["", "no json", "[]", "null", "{}"]
    + [
        json.dumps({**SAID, **each})
        for each in (
            {"built": 1},
            {"process_types": []},
            {"env": {"A": None}},
            {"verdicts": [{}]},
            {"verdicts": 3},
        )
    ],
)
def test_what_no_honest_container_says_is_no_outcome(said):
    with pytest.raises(ValueError):
        Outcome.parse(said.encode() + b"\n")


def test_steps_of_containers_never_run_anywhere_else(monkeypatch):
    monkeypatch.setattr("builder.inside.processes._MARKS", ())
    with pytest.raises(Exception, match="in a container only"):
        Processes()
