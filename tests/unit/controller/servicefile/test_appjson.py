"""What an app.json says, and where it is wrong."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.servicefile.appjson import AppJson, read_app_json
from controller.servicefile.complaints import NotAServiceFile
from controller.servicefile.places import places_of
from controller.types import CronJob, HealthCheck, Manifest

GOLDEN = Path(__file__).parent / "golden"


def read(**content: Any) -> AppJson:
    return read_app_json(json.dumps(content))


def errors(text: str) -> list[str]:
    with pytest.raises(NotAServiceFile) as raised:
        read_app_json(text)
    return list(map(str, raised.value.errors))


def test_one_that_says_nothing_here() -> None:
    assert read_app_json("\ufeff{}") == AppJson()
    assert read(name="x", keywords=["a"], stack="y", buildpacks=[{"url": "nodejs"}]) == AppJson()


def test_variables() -> None:
    env = {"COLOR": "blue", "KEY": {"generator": "secret"}, "MAIL": {"description": "its\nhost"}, "NO": {}}
    env["OFF"] = {"required": False}
    env["N"] = {"value": 7}
    found = read(env=env).manifest.env
    assert (found["COLOR"].value, found["KEY"].secret, found["MAIL"].description) == (
        "blue",
        True,
        "its host",
    )
    assert [name for name, each in found.items() if each.required] == ["COLOR", "KEY", "MAIL", "NO", "N"]
    assert found["N"].value == "7"


def test_formation_scripts_and_cron() -> None:
    found = read(
        formation={"web": {"quantity": 2, "size": "s"}, "worker": {"max_parallel": 1}},
        scripts={"dokku": {"predeploy": "migrate", "postdeploy": "warm"}, "postdeploy": "seed", "test": "t"},
        cron=[{"command": "clean", "schedule": "0 3 * * *"}],
    )
    assert found.formation == {"web": 2}
    assert found.manifest == Manifest(
        predeploy="migrate",
        postdeploy="warm",
        first_postdeploy="seed",
        cron=(CronJob(command="clean", schedule="0 3 * * *"),),
    )
    assert found.notes == ()


def test_the_check_at_the_start() -> None:
    found = read(
        healthchecks={
            "web": [
                {"type": "liveness", "path": "/live"},
                {"type": "startup", "listening": True},
                {"type": "startup", "path": "/up", "attempts": 4, "timeout": 2, "wait": 1, "content": "ok"},
            ],
            "worker": [{"type": "startup", "command": ["test", "-e", "a b"], "initialDelay": 5}],
            "clock": [{"type": "startup", "uptime": 3}],
        }
    )
    assert found.manifest.checks == {
        "web": HealthCheck(path="/up", timeout=12.0),
        "worker": HealthCheck(command="test -e 'a b'", timeout=35.0),
        "clock": HealthCheck(uptime=3.0),
    }
    assert [each.text for each in found.notes] == [
        "The liveness check of web is not made: what ends is started again, and what hangs is not noticed. "
        "Only checks at the start (startup) are.",
        "There is one check at the start for web, of several: this one.",
        "Nothing here acts on content.",
    ]


def test_checks_of_other_types_are_told_one_by_one() -> None:
    found = read(
        healthchecks={
            "web": [
                {"type": "readiness", "path": "/ready"},
                {"type": "livenes", "path": "/live"},
                {"type": 3},
            ]
        }
    )
    assert found.manifest.checks == {}
    assert [each.text for each in found.notes] == [
        "The readiness check of web is not made: what serves takes requests for as long as it can be connected. "
        "Only checks at the start (startup) are.",
        "livenes is no type of check that is known here. Did you mean liveness?",
        "3 is no type of check that is known here.",
    ]


def test_all_that_is_wrong_is_told_with_its_place() -> None:
    """With MOOR_WRITE_GOLDEN=1 the kept text is written anew, to be read in the diff."""
    told = "\n".join(errors((GOLDEN / "app_mistakes.json").read_text())) + "\n"
    file = GOLDEN / "app_mistakes.txt"
    if os.environ.get("MOOR_WRITE_GOLDEN"):
        file.write_text(told)
    assert told == file.read_text()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('{\n  "env": {,}\n}', "app.json:2:11: This is no valid JSON: "),
        ("[]", "app.json:1:1: An app.json is an object"),
        ("[" * 5000, "app.json:1:1: This is no valid JSON"),
        ('{"a":' * 20 + "1" + "}" * 20, "app.json:1:1: It is nested more than"),
        ('{"env": []}', "app.json:1:2: env must be an object"),
        (" " * 70_000, "app.json:1:1: It is larger than 64 KiB."),
    ],
)
def test_what_is_no_app_json(text: str, told: str) -> None:
    assert errors(text)[0].startswith(told)


values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
known = st.sampled_from(
    ["value", "required", "generator", "quantity", "type", "path", "command", "uptime", "attempts", "wait"]
)
details = st.dictionaries(known, values | st.sampled_from(["startup", "secret", "/up"]), max_size=4) | values
sections = st.dictionaries(
    st.sampled_from(["web", "worker", "A", "dokku", "postdeploy"]), details, max_size=3
)
contents = st.dictionaries(
    st.sampled_from(["env", "formation", "scripts", "healthchecks", "cron", "addons"]),
    sections | st.lists(details, max_size=2) | values,
    max_size=4,
)


@settings(max_examples=200, deadline=None)
@given(contents, st.sampled_from([None, 2, "\t"]))
def test_any_json_is_read_or_refused_in_words(content: Any, indent: Any) -> None:
    text = json.dumps(content, indent=indent)
    try:
        read_app_json(text)
    except NotAServiceFile as error:
        assert all(each.text and each.place.line >= 1 for each in error.errors)


@settings(max_examples=200, deadline=None)
@given(values, st.sampled_from([None, 2, "\t"]))
def test_every_value_is_found_where_it_stands(content: Any, indent: Any) -> None:
    text = json.dumps(content, indent=indent)
    lines = text.split("\n")
    for path, place in places_of(text, "a").items():
        value = content
        for step in path:
            value = value[step]
        rest = lines[place.line - 1][place.column - 1 :]
        named = bool(path) and isinstance(path[-1], str)
        start = json.dumps(path[-1]) if named else json.dumps(value)[:1]
        assert rest.startswith(start)
