"""The reference pages, made from what the program itself knows: `make docs` writes them."""

import json
from collections.abc import Mapping
from dataclasses import fields

import click

from cli.commands.server import default_text, flag_of
from cli.context import Context
from cli.folder import Folder
from cli.main import ROOT, load
from cli.output import Output, Sink
from cli.verbs import SECTIONS, Verb
from controller.config import ENV_PREFIX, Settings, documentation
from controller.servicefile.schema import schema

MADE = "<!-- Made by `make docs` from the program itself: change it there. -->"

COMMANDS_INTRO = """# Commands

Every verb works as `moor VERB` on your own machine and, but for those marked *local*, as
`ssh -p 2222 deploy@HOST VERB` for whoever has a key on the server.

**Which app?** The one named with `-a APP` (also `--app`, `-D`, `--deployment`), before or after the
verb. Else the one that the folder's git remote `deploy` points at (`--remote NAME` names another).
Else the first word. Over SSH there is no folder: there the app is the first word, `ps:scale foo web=2`.
A verb that takes no words beside the app takes a word as the app in every case: `moor releases foo`.
An app is a DEPLOYMENT, which means its service `app`, or a DEPLOYMENT/SERVICE.

**Everywhere**: `--json` prints one JSON document (streams: one a line), `--quiet` answers only. Tables
have headers on a terminal only. Errors go to standard error and begin with ` !     `.

**Exit status**: 0 done; 1 failed; 2 the words were not understood; 130 ended with Ctrl-C; 141 nobody
read the output any more.
"""

SETTINGS_INTRO = """# Settings of the server

Each can be given as a flag of `moor server`, as an environment variable, or as `name: value` in the YAML
file that `--config` names; the first of these that is there counts. `moor server --check-config` prints
what counts in the end. Sizes are bytes, and take K, M and G; times are seconds.
"""


class _Nowhere:
    def write(self, text: str) -> None:
        """Nothing is printed while pages are made."""

    async def drain(self) -> None:
        """Nothing to wait for."""


def pages() -> Mapping[str, str]:
    """File name, below contrib/, to its text."""
    return {
        "commands.md": render(),
        "settings.md": render_settings(),
        "servicefile.schema.json": json.dumps(schema(), indent=2) + "\n",
    }


def render() -> str:
    """The page of all verbs."""
    nowhere: Sink = _Nowhere()

    def connect(_: Context) -> object:
        raise AssertionError("no server is asked while pages are made")

    output = Output(nowhere, nowhere, terminal=False)
    context = Context(output=output, input=None, connect=connect, folder=Folder())  # type: ignore[arg-type]
    with click.Context(ROOT, info_name="moor", obj=context) as root:
        parts = [MADE, COMMANDS_INTRO]
        for section, verbs in SECTIONS.items():
            parts.append(f"## {section}\n")
            parts += [_verb_part(root, verb) for verb in verbs if not verb.hidden]
    return "\n".join(parts)


def _verb_part(root: click.Context, verb: Verb) -> str:
    command = load(verb.name)
    assert command is not None
    ctx = click.Context(command, info_name=verb.name, parent=root)
    lines = [
        f"### {verb.name}\n",
        verb.summary + (f" {' '.join(command.help.split())}" if command.help else ""),
    ]
    if verb.aliases:
        lines.append(f"Also: {', '.join(f'`{each}`' for each in verb.aliases)}.")
    if command.local_only:
        lines.append("*Local.*")
    usage = " ".join(command.collect_usage_pieces(ctx))
    examples = [f"moor {verb.name} {usage}".rstrip(), "", *command.example_lines(ssh=False)]
    if not command.local_only:
        examples += command.example_lines(ssh=True)
    lines.append("\n```\n" + "\n".join(examples) + "\n```")
    return "\n".join(lines) + "\n"


def render_settings() -> str:
    """The page of all settings."""
    rows = ["| name | flag | environment | default | |", "|---|---|---|---|---|"]
    for each in fields(Settings):
        name, default = each.name, default_text(each)
        shown = f"`{default}`" if default else ""
        text = " ".join(documentation()[name].split())
        rows.append(f"| `{name}` | `{flag_of(name)}` | `{ENV_PREFIX}{name.upper()}` | {shown} | {text} |")
    return "\n".join([MADE, SETTINGS_INTRO, *rows]) + "\n"
