import json
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.types import Event, HealthCheck, Right, Service, User
from controller.wire import WireError, decode, encode, from_json, to_json
from tests import factories
from tests.factories import NOW
from tests.unit.controller.strategies import MODEL, values


@given(st.sampled_from(MODEL).flatmap(values))
def test_every_value_of_every_type_comes_back_as_it_was(value):
    assert from_json(type(value), json.loads(json.dumps(to_json(value)))) == value
    assert decode(type(value), encode(value)) == value


def test_times_are_written_in_utc_with_a_z():
    noon = datetime(2026, 1, 1, 12, tzinfo=UTC)
    assert to_json(Event(revision=1, time=noon, kind="x"))["time"] == "2026-01-01T12:00:00Z"


def test_times_inside_free_data_are_written_the_same_way():
    event = Event(revision=1, time=NOW, kind="x", data={"at": [NOW]})
    assert to_json(event)["data"] == {"at": [to_json(event)["time"]]}


def test_unknown_fields_are_ignored_and_missing_ones_take_their_defaults():
    old = {"deployment": "foo", "name": "app", "colour": "blue", "definition": {"shape": "round"}}
    assert from_json(Service, old) == Service(deployment="foo", name="app")


def test_keys_that_are_no_text_are_written_as_text():
    assert to_json(factories.deployment(globals={"Ports": {80: "web"}}))["globals"] == {
        "Ports": {"80": "web"}
    }


def test_sequences_can_be_written_and_read_at_once():
    users = [User(name="ann", rights={"foo": Right.DEPLOY}), User(name="bob", admin=True)]
    assert from_json(list[User], to_json(users)) == users


@pytest.mark.parametrize(
    ("data", "named"),
    [
        ({"deployment": "foo"}, "name"),
        ({"deployment": "foo", "name": 3}, r"\$\.name"),
        ({"deployment": "foo", "name": "app", "scale": {"web": "two"}}, r"\$\.scale"),
        ("nonsense", "object"),
    ],
)
def test_what_does_not_fit_is_refused_naming_the_field(data, named):
    with pytest.raises(WireError, match=named):
        from_json(Service, data)
    with pytest.raises(WireError, match=named):
        decode(Service, json.dumps(data))


def test_text_that_is_no_json_is_refused():
    with pytest.raises(WireError):
        decode(Service, b'{"deployment": ')


def test_infinity_is_written_as_null_and_so_refused_on_reading():
    endless = replace(HealthCheck(), settle=float("inf"))
    with pytest.raises(WireError, match="settle"):
        decode(HealthCheck, encode(endless))
