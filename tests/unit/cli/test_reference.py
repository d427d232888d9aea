"""The reference pages say what the program does now."""

from dataclasses import fields
from pathlib import Path

import pytest

from cli.reference import pages
from cli.verbs import ALIASES, VERBS
from controller.config import Settings

CONTRIB = Path(__file__).parents[3] / "contrib"


@pytest.mark.parametrize("name", ["commands.md", "settings.md"])
def test_the_page_is_current(name: str) -> None:
    assert (CONTRIB / name).read_text() == pages()[name], "run `make docs`"


def test_every_verb_and_alias_is_on_the_page() -> None:
    page = pages()["commands.md"]
    for name, verb in VERBS.items():
        assert (f"### {name}\n" in page) is not verb.hidden
    for alias in ALIASES:
        assert f"`{alias}`" in page


def test_every_setting_is_on_the_page() -> None:
    page = pages()["settings.md"]
    for each in fields(Settings):
        assert f"`MOOR_{each.name.upper()}`" in page
