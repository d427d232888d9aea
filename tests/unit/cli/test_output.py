"""Text of others is harmless on a terminal, and JSON stays JSON."""

import json

import pytest

from cli.output import Output, harmless
from tests.unit.cli.doors import Text

EVIL = "\x1b]0;owned\x07\x9b31m\u202ered\rback\x7f"


def output(*, terminal: bool = True, raw: bool = False) -> tuple[Output, Text, Text]:
    out, err = Text(), Text()
    return Output(out, err, terminal=terminal, raw=raw), out, err


def test_control_characters_are_shown_instead_of_obeyed() -> None:
    told, out, err = output()
    told.line(EVIL)
    told.table(("a", "b"), [(EVIL, "x")])
    told.note(EVIL)
    told.step(EVIL)
    told.facts([("k", EVIL)])
    for text in (out.text, err.text):
        assert not set(text) & set("\x1b\x07\x9b\u202e\r\x7f")
    assert "\\x1b]0;owned\\x07\\x9b31m\\u202ered\\rback\\x7f" in out.text


def test_plain_text_of_any_language_stays_as_it_is() -> None:
    assert harmless("Grüße\t世界\n") == "Grüße\t世界\n"


def test_a_local_file_gets_the_text_as_it_is() -> None:
    told, out, _ = output(terminal=False, raw=True)
    told.line(EVIL)
    assert out.text == EVIL + "\n"


@pytest.mark.parametrize("raw", [True, False])
def test_json_gives_the_value_back_and_holds_no_control_characters(raw: bool) -> None:
    told, out, _ = output(raw=raw)
    told.json = True
    told.data({"text": EVIL})
    told.line("not printed")
    assert json.loads(out.text) == {"text": EVIL}
    assert not set(out.text) & set("\x1b\x9b\u202e\x7f")


def test_records_are_one_line_each() -> None:
    told, out, _ = output()
    told.json = True
    told.record({"a": [1, {"b": "x\ny"}]})
    told.record({})
    assert [json.loads(line) for line in out.text.splitlines()] == [{"a": [1, {"b": "x\ny"}]}, {}]


def test_headers_are_for_people() -> None:
    for terminal, quiet, expected in ((True, False, True), (True, True, False), (False, False, False)):
        told, out, _ = output(terminal=terminal)
        told.quiet = quiet
        told.table(("name", "x"), [("longer name", 1)])
        assert out.text.startswith("NAME") is expected


def test_an_empty_table_is_empty() -> None:
    told, out, _ = output()
    told.table(("name",), [])
    assert out.text == ""


def test_a_value_of_several_lines_is_indented_below_its_name() -> None:
    told, out, _ = output()
    told.facts([("key", "one\ntwo"), ("longer", "x"), ("none", None)])
    assert out.text == "key:     one\n         two\nlonger:  x\n"
