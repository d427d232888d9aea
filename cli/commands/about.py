"""The server as a whole, and this command itself."""

from contextlib import suppress

import click

from cli.context import Context
from cli.grammar import app_command, command
from cli.output import timestamp
from controller.errors import MooringError
from controller.names import Address


@command(example="moor status")
async def status(context: Context) -> None:
    found = await context.client.status()
    context.output.facts(
        (
            ("server", found.version),
            ("api", found.api),
            ("ssh", found.ssh),
            ("http", found.http),
            ("domain", found.domain),
            ("host key", found.host_key_fingerprint),
            ("problems", "\n".join(found.problems) or "none"),
        )
    )
    context.output.data(found)


@app_command(example="moor events\nmoor events foo -n 20", app_optional=True, from_folder=False)
@click.option(
    "-n", "--num", "limit", type=click.IntRange(1, 10_000), default=100, show_default=True, help="How many."
)
async def events(context: Context, *, address: Address | None, limit: int) -> None:
    """Of one deployment, or of all that you may view."""
    deployment = address.deployment if address else None
    found = sorted(
        await context.client.events(deployment=deployment, limit=limit), key=lambda each: each.revision
    )
    context.output.table(
        ("time", "what", "app", "by", "text"),
        [
            (
                timestamp(each.time),
                each.kind,
                str(Address(each.deployment, each.service)) if each.service else each.deployment,
                each.actor,
                each.text,
            )
            for each in found
        ],
    )
    context.output.data(found)


@command(example="moor version")
async def version(context: Context) -> None:
    """The server's is left out when none answers."""
    from importlib.metadata import version as installed

    own = installed("mooring")
    server = None
    with suppress(MooringError):
        server = (await context.client.status()).version
    context.output.line(f"mooring {own}")
    if server is not None and server != own:
        context.output.line(f"server  {server}")
    context.output.data({"version": own, "server": server})


@command(example="moor help\nmoor help ps:scale")
@click.argument("verb", required=False)
async def help_(context: Context, *, verb: str | None) -> None:
    from cli.main import help_text

    text = help_text(context, verb)
    context.output.line(text)
    context.output.data({"help": text})
