"""Shell completion: what may come next, and the scripts that ask for it.

The shells hand over the words typed so far and get one candidate a line, `word<TAB>description`.
Names of apps come from the server, if it answers at once.
"""

import asyncio
from collections.abc import Mapping, Sequence

import click

from cli.context import Context
from cli.grammar import AppCommand
from cli.verbs import VERBS
from controller.errors import MooringError

PATIENCE = 0.5
"""Seconds that somebody who pressed Tab waits for names of apps."""

APP_FLAGS = ("-a", "--app", "-D", "--deployment")

SCRIPTS: Mapping[str, str] = {
    "bash": r"""_moor() {
    local line="${COMP_LINE:0:$COMP_POINT}" current prefix
    local -a words
    read -ra words <<< "$line"
    [[ "$line" == *[[:space:]] ]] && words+=("")
    current="${words[-1]}"
    mapfile -t COMPREPLY < <(moor completion:words -- "${words[@]:1}" 2>/dev/null | cut -f1)
    if [[ "$current" == *:* && "$COMP_WORDBREAKS" == *:* ]]; then
        prefix="${current%"${current##*:}"}"
        COMPREPLY=("${COMPREPLY[@]#"$prefix"}")
    fi
}
complete -F _moor moor""",
    "zsh": r"""#compdef moor
_moor() {
    local -a found
    local line
    for line in "${(@f)$(moor completion:words -- "${(@)words[2,CURRENT]}" 2>/dev/null)}"; do
        [[ -n "$line" ]] && found+=("${${line%%$'\t'*}//:/\\:}:${line#*$'\t'}")
    done
    _describe 'moor' found
}
compdef _moor moor""",
    "fish": r"""function __moor_words
    moor completion:words -- (commandline -opc)[2..-1] (commandline -ct) 2>/dev/null
end
complete -c moor -f -a '(__moor_words)'""",
}


async def candidates(context: Context, words: Sequence[str]) -> Sequence[tuple[str, str]]:
    """What may stand in place of the last of `words`, with a description."""
    from cli.main import load

    *before, current = words or ("",)
    plain = [each for at, each in enumerate(before) if not _is_option(before, at)]
    loaded = load(plain[0]) if plain else None
    if before and before[-1] in APP_FLAGS:
        found = await _apps(context)
    elif not plain:
        found = [(each.name, each.summary) for each in VERBS.values() if not each.hidden]
    elif loaded is None:
        found = []
    elif current.startswith("-"):
        found = _options(loaded)
    elif loaded.name == "help" and len(plain) == 1:
        found = [(name, verb.summary) for name, verb in VERBS.items() if not verb.hidden]
    elif isinstance(loaded, AppCommand) and len(plain) == 1:
        found = await _apps(context)
    else:
        found = _choices(loaded, len(plain) - 1)
    return [each for each in found if each[0].startswith(current)]


def _is_option(words: Sequence[str], at: int) -> bool:
    return words[at].startswith("-") or (at > 0 and words[at - 1] in APP_FLAGS)


def _options(command: click.Command) -> list[tuple[str, str]]:
    return [
        (name, each.help or "")
        for each in command.params
        if isinstance(each, click.Option)
        for name in each.opts
        if name.startswith("--")
    ]


def _choices(command: click.Command, position: int) -> list[tuple[str, str]]:
    arguments = [each for each in command.params if isinstance(each, click.Argument)]
    kind = arguments[position].type if position < len(arguments) else None
    return [(str(each), "") for each in kind.choices] if isinstance(kind, click.Choice) else []


async def _apps(context: Context) -> list[tuple[str, str]]:
    from cli.commands.apps import address_of, state_of

    try:
        async with asyncio.timeout(PATIENCE):
            return [(address_of(each), state_of(each)) for each in await context.client.services()]
    except (MooringError, TimeoutError):
        return []
