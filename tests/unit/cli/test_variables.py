"""Config that goes out to a file and comes back."""

import subprocess

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cli.output import harmless
from cli.variables import FORMS, read, write
from controller.errors import InvalidInput

NAMES = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,8}", fullmatch=True)
VALUES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20) | st.text(
    "ab \n\r\t'\"\\$`#=%{\x1b\u2028\ufeff\ufffd", max_size=12
)
VARIABLES = st.dictionaries(NAMES, VALUES, min_size=1, max_size=4)
KEY = "-----BEGIN KEY-----\nabc/+=\n-----END KEY-----\n"


@pytest.mark.parametrize("form", FORMS)
@given(variables=VARIABLES)
@example(variables={"A": KEY, "B": '100% $HOME ${X} `id` "it\'s"', "C": "", "D": "a\r\nb\r", "E": "\\n\\"})
def test_what_is_written_is_read_back(form: str, variables: dict[str, str]) -> None:
    text = write(variables, form)
    assert read(text) == variables
    assert read(text.replace("\n", "\r\n")) == variables
    assert harmless(text) == text  # nothing is changed on its way through a terminal


@given(variables=st.dictionaries(NAMES.map("X_{}".format), VALUES, min_size=1, max_size=4))
def test_a_shell_reads_what_is_written_for_it(variables: dict[str, str]) -> None:
    script = write(variables, "shell") + "\nenv -0"
    told = subprocess.run(
        ["bash", "-c", script], env={"PATH": "/usr/bin:/bin"}, capture_output=True, check=True, timeout=10
    )
    pairs = (each.decode().partition("=") for each in told.stdout.split(b"\0") if each)
    assert {name: value for name, _, value in pairs if name.startswith("X_")} == variables


@pytest.mark.parametrize(
    ("text", "variables"),
    [
        ("A=1", {"A": "1"}),
        ("\ufeff# first\n\nexport A = one two # why\r\nB='x' # y\n", {"A": "one two", "B": "x"}),
        ("A=\nB= # nothing\nC=#1\nD=a#b", {"A": "", "B": "", "C": "#1", "D": "a#b"}),
        ("A=it's $HOME \\n", {"A": "it's $HOME \\n"}),
        ('A="a\nb\\nc \\" \\q"\nB=2', {"A": 'a\nb\nc " \\q', "B": "2"}),
        ("A='it'\"'\"'s'", {"A": "it's"}),
        ("A=$'\\xc3\\xa9\\n'", {"A": "é\n"}),
        ('{"A": "x", "B": 1.10, "C": true, "D": 12}', {"A": "x", "B": "1.10", "C": "true", "D": "12"}),
    ],
)
def test_what_people_write_is_read(text: str, variables: dict[str, str]) -> None:
    assert read(text) == variables


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "no variable in it"),
        ("# A=1", "no variable in it"),
        ("{}", "no variable in it"),
        ("A=1\n\nsecret", "Line 3: it is no NAME=VALUE"),
        ("A=1\n2B=secret", "Line 2: .* no valid variable name"),
        ("A=1\nB='x\ny'\nA=secret", "Line 4: A is set on line 1 already"),
        ("A=1\nB='secret\n\n", "Line 2: the quote that the value of B begins with is never closed"),
        ("A='x\ny' secret", "Line 2: something follows the closing quote of A"),
        ("A=1\nB=\ufffd", "Line 2: there are bytes that are no UTF-8"),
        ('{"A": "x",\n "B" "secret"}', "Line 2: it is no valid JSON"),
        ('{"A": ["secret"]}', "The value of A must be a text or a number"),
        ('{"A": null}', "The value of A must be a text or a number"),
        ('{"A": "1", "A": "secret"}', "A is in the JSON object twice"),
        ('{"A": ' + "[" * 100_000, "nested too deep"),
    ],
)
def test_what_can_not_be_read_says_where_and_never_shows_values(text: str, told: str) -> None:
    with pytest.raises(InvalidInput, match=told) as caught:
        read(text)
    assert "secret" not in str(caught.value)


def test_large_texts_take_no_time() -> None:
    assert read("A=" + " #" * 500_000) == {"A": ""}
    assert len(read("".join(f"A{n}=\n" for n in range(50_000)))) == 50_000
    with pytest.raises(InvalidInput):
        read("A" * 1_000_000)
