"""The JSON Schema takes what the reader takes."""

import json
from pathlib import Path

import jsonschema_rs
import pytest
import yaml

from controller.servicefile.document import SECTIONS
from controller.servicefile.keys import KNOWN
from controller.servicefile.schema import schema

GOLDEN = Path(__file__).parent / "golden"


def test_it_knows_every_key_and_every_section() -> None:
    service = schema()["$defs"]["service"]["anyOf"][1]
    assert set(service["properties"]) == set(KNOWN)
    assert set(schema()["properties"]) == set(SECTIONS)
    assert all(each.get("description") for each in service["properties"].values())


@pytest.mark.parametrize("name", ["seed", "everything"])
def test_good_files_fit(name: str) -> None:
    as_json = json.loads(json.dumps(yaml.safe_load((GOLDEN / f"{name}.yml").read_text())))
    jsonschema_rs.validator_for(schema()).validate(as_json)


def test_bad_ones_do_not() -> None:
    assert not jsonschema_rs.validator_for(schema()).is_valid({"web": {"privileged": "maybe"}})
    assert not jsonschema_rs.validator_for(schema()).is_valid({"web": "redis"})
