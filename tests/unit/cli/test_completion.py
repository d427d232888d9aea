"""What the shells offer after Tab."""

import subprocess

import pytest

from cli.completion import SCRIPTS
from controller.errors import Unavailable
from tests.unit.cli.doors import local
from tests.unit.cli.fake_client import FakeClient


async def offered(*words: str, client: FakeClient | None = None) -> list[str]:
    result = await local(client)("completion:words", "--", *words)
    assert (result.status, result.err) == (0, "")
    return [line.partition("\t")[0] for line in result.out.splitlines()]


async def test_verbs() -> None:
    assert await offered("ps:s") == ["ps:scale", "ps:stop", "ps:start"]
    assert "completion:words" not in await offered("")
    assert "apps" in await offered()


async def test_apps_after_a_verb_about_one_and_after_the_flag() -> None:
    assert await offered("ps", "") == ["foo"]
    assert await offered("ps", "-a", "f") == ["foo"]
    assert await offered("-D", "") == ["foo"]
    assert await offered("-a", "foo", "roll") == ["rollback"]


async def test_options_choices_and_verbs_for_help() -> None:
    assert await offered("logs", "--ta") == ["--tail"]
    assert await offered("completion", "") == ["bash", "fish", "zsh"]
    assert await offered("help", "roll") == ["rollback"]
    assert await offered("nonsense", "") == []


async def test_a_server_that_does_not_answer_offers_nothing() -> None:
    client = FakeClient()

    async def fail(*_: object) -> list[object]:
        raise Unavailable("no")

    client.services = fail  # type: ignore[method-assign, assignment]
    assert await offered("ps", "", client=client) == []


async def test_each_shell_has_a_script() -> None:
    for shell, script in SCRIPTS.items():
        assert (await local()("completion", shell)).out == script + "\n"


@pytest.mark.parametrize(
    ("line", "expected"), [("moor ps:sc", "scale"), ("moor roll", "rollback"), ("moor ", "apps")]
)
def test_the_bash_script_completes_words_with_colons(line: str, expected: str) -> None:
    """With COMP_WORDBREAKS as bash has it, what follows the colon is what is put in."""
    program = f"""
        moor() {{ printf 'ps:scale\\tx\\n'; }}
        case "$1" in
            "moor roll") moor() {{ printf 'rollback\\tx\\n'; }};;
            "moor ") moor() {{ printf 'apps\\n'; }};;
        esac
        COMP_WORDBREAKS=$' \\t\\n"\\'><=;|&(:'
        {SCRIPTS["bash"]}
        COMP_LINE="$1" COMP_POINT=${{#1}}
        _moor
        echo "${{COMPREPLY[@]}}"
    """
    done = subprocess.run(["bash", "-c", program, "bash", line], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == expected
