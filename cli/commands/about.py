"""The server as a whole, and this command itself."""

from collections.abc import AsyncIterator, Sequence
from contextlib import suppress

import click

from cli.commands.limits import kept_text
from cli.context import Context, opened
from cli.grammar import app_command, command
from cli.output import size_text, timestamp
from controller.errors import MooringError
from controller.names import Address
from controller.types import Event


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
            ("limits by", kept_text(found)),
            (
                "disk",
                f"{size_text(found.disk.free)} of {size_text(found.disk.total)} are free"
                if found.disk
                else None,
            ),
            ("problems", "\n".join(found.problems) or "none"),
        )
    )
    context.output.data(found)


@app_command(
    example="moor events\nmoor events foo -n 20\nmoor events foo -f --kind version --kind build",
    app_optional=True,
    from_folder=False,
)
@click.option(
    "-n", "--num", "limit", type=click.IntRange(1, 10_000), help="How many. [default: 100; 10 with --follow]"
)
@click.option("-f", "-t", "--follow", "--tail", "follow", is_flag=True, help="Go on as things happen.")
@click.option(
    "--after",
    type=click.IntRange(0),
    metavar="NUMBER",
    help="Only those behind this event; their numbers are shown with --json.",
)
@click.option(
    "--kind", "kinds", multiple=True, help="Only of this kind, or all that begin so (version); repeatable."
)
async def events(
    context: Context,
    *,
    address: Address | None,
    limit: int | None,
    follow: bool,
    after: int | None,
    kinds: Sequence[str],
) -> None:
    """Of one deployment, of one service (APP/SERVICE), or of all that you may view."""
    deployment = address.deployment if address else None
    service = address.service if address and str(address) != address.deployment else None
    if follow:
        await _follow_events(
            context,
            context.client.follow_events(
                deployment=deployment,
                service=service,
                kinds=kinds,
                after=after,
                past=0 if after is not None else min(limit or 10, 1000),
            ),
        )
        return
    found = await context.client.events(
        deployment=deployment, service=service, kinds=kinds, after=after, limit=limit or 100
    )
    context.output.table(("time", "what", "app", "by", "text"), [_event_cells(each) for each in found])
    context.output.data(found)


async def _follow_events(context: Context, stream: AsyncIterator[Event]) -> None:
    async with opened(stream) as found:
        async for event in found:
            time, kind, app, actor, text = (each or "-" for each in _event_cells(event))
            context.output.line(f"{time}  {kind:18}  {app:16}  {actor:8}  {text}")
            context.output.record(event)
            await context.output.drain()


def _event_cells(event: Event) -> Sequence[str]:
    app = str(Address(event.deployment, event.service)) if event.service else event.deployment
    return (timestamp(event.time), event.kind, app, event.actor, event.text)


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
