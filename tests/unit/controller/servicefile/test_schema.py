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


@pytest.mark.parametrize(
    ("backup", "fits"),
    [
        ("0 3 * * *", True),
        ({"schedule": "0 3 * * *"}, True),
        ({"schedule": "0 3 * * *", "keep": 7, "days": "30"}, True),
        ({"schedule": "0 3 * * *", "keep": 0}, False),
        ({"schedule": "0 3 * * *", "days": "ever"}, False),
        ({"keep": 7}, False),
        ({"schedule": "0 3 * * *", "often": 1}, False),
        (7, False),
    ],
)
def test_schedules_of_backups(backup: object, fits: bool) -> None:
    fitting = jsonschema_rs.validator_for(schema()).is_valid
    assert fitting({"Resources": {"db": {"kind": "postgres", "backup": backup}}}) is fits
    assert fitting({"web": {"volumes": {"data": {"path": "/srv", "backup": backup}}}}) is fits
