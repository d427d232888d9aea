"""What is told of the difference of two versions."""

from typing import Any

import pytest

from controller.difference import HIDDEN, differences, masked, summary
from controller.types import Definition, HealthCheck, Version
from controller.views import Area
from tests.factories import slug, version


def made(number: int, *, env: dict[str, str] | None = None, **changes: Any) -> Version:
    definition = Definition(env=env or {}, **changes.pop("keys", {}))
    return version(number, definition=definition, **changes)


def told(before: Version | None, after: Version) -> list[tuple[str, str, Any, Any]]:
    return [
        (each.area.value, each.sign + each.name, each.before, each.after)
        for each in differences(before, after)
    ]


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ({}, {}, []),
        (
            {"env": {"A": "1", "B": "1", "C": "1"}},
            {"env": {"B": "2", "C": "1", "D": "1"}},
            [("env", "-A", "1", None), ("env", "~B", "1", "2"), ("env", "+D", None, "1")],
        ),
        (
            {"env": {"EMPTY": ""}},
            {"env": {"EMPTY": "x"}},
            [("env", "~EMPTY", "", "x")],
        ),
        (
            {"globals": {"Env": {"A": "1"}, "Domains": ["a"]}},
            {"globals": {"Env": {"A": "2"}}},
            [("shared-env", "~A", "1", "2"), ("globals", "-Domains", ["a"], None)],
        ),
        (
            {"commit": "1" * 40},
            {"commit": "2" * 40, "artifact": slug("b" * 64, size=2000, env={"PYTHONPATH": "."})},
            [
                ("code", "~artifact", "a" * 64, "b" * 64),
                ("code", "~commit", "1" * 40, "2" * 40),
                ("code", "~size", 1000, 2000),
                ("buildpack-env", "+PYTHONPATH", None, "."),
            ],
        ),
        (
            {},
            {"artifact": slug(process_types={"web": "gunicorn", "worker": "celery"})},
            [
                ("processes", "~web", "python app.py", "gunicorn"),
                ("processes", "+worker", None, "celery"),
            ],
        ),
        (
            {"keys": {"health": HealthCheck(path="/a"), "extra": {"Deploy": {"by": "x"}}}},
            {"keys": {"health": HealthCheck(path="/b", timeout=5.0), "command": "run"}},
            [
                ("definition", "-Deploy.by", "x", None),
                ("definition", "+command", None, "run"),
                ("definition", "~health.path", "/a", "/b"),
                ("definition", "+health.timeout", None, 5.0),
            ],
        ),
    ],
)
def test_every_difference_is_told_by_area_and_name(
    before: dict[str, Any], after: dict[str, Any], expected: list[Any]
) -> None:
    assert told(made(1, **before), made(2, **after)) == expected


def test_who_when_and_why_are_no_differences() -> None:
    assert told(made(1, actor="ann", reason="a"), made(2, actor="bob", reason="b", staged=("A",))) == []


def test_all_of_a_first_version_is_new() -> None:
    assert {sign[0] for _, sign, _, _ in told(None, made(1, env={"A": "1"}))} == {"+"}


def test_values_of_variables_and_globals_are_masked_and_others_are_not() -> None:
    before = made(1, env={"A": "secret"}, commit="1" * 40, globals={"Env": {"B": "secret"}, "X": "secret"})
    after = made(2, env={}, commit="2" * 40, globals={"Env": {"B": "new"}, "X": {"deep": "secret"}})
    shown = {each.area: (each.before, each.after) for each in map(masked, differences(before, after))}
    assert shown == {
        Area.CODE: ("1" * 40, "2" * 40),
        Area.ENV: (HIDDEN, None),
        Area.SHARED_ENV: (HIDDEN, HIDDEN),
        Area.GLOBALS: (HIDDEN, HIDDEN),
    }


@pytest.mark.parametrize(
    ("after", "expected"),
    [
        ({}, ""),
        ({"artifact": slug("b" * 64), "commit": "2" * 40}, "code"),
        ({"commit": "2" * 40}, ""),
        ({"env": {"B": "secret", "C": "1"}}, "-A ~B +C"),
        (
            {
                "env": {"A": "1", "B": "1"},
                "keys": {"health": HealthCheck(path="/", timeout=5.0), "command": "x"},
            },
            "command, health",
        ),
        (
            {"artifact": slug("b" * 64, process_types={"web": "x"}), "env": {"A": "1", "B": "1"}},
            "code, process types",
        ),
    ],
)
def test_summary_names_what_changed_and_no_value(after: dict[str, Any], expected: str) -> None:
    assert (
        summary(made(1, env={"A": "1", "B": "1"}), made(2, **{"env": {"A": "1", "B": "1"}, **after}))
        == expected
    )


def test_summary_of_a_first_version() -> None:
    assert summary(None, made(1, env={"A": "1"})) == "the first"
