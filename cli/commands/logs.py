"""Logs: what the processes of an app print."""

from dataclasses import replace

import click

from cli.commands.apps import UNNAMED_SHOWN
from cli.commands.ps import process_name
from cli.context import Context, opened
from cli.grammar import app_command
from cli.output import timestamp
from controller.errors import NotFound
from controller.names import Address, check_process_type


@app_command(example="moor logs -a foo -t\nmoor logs -a foo -n 20 -p web.1")
@click.option("-t", "--tail", "-f", "--follow", "follow", is_flag=True, help="Go on printing as lines come.")
@click.option(
    "-n",
    "--num",
    "lines",
    type=click.IntRange(0, 10_000),
    default=100,
    show_default=True,
    help="How many lines of the past.",
)
@click.option(
    "-p", "--ps", "process", metavar="PROCESS", help="Only this process type (web) or process (web.1)."
)
async def logs(context: Context, *, address: Address, follow: bool, lines: int, process: str | None) -> None:
    """Over SSH `logs foo -t` ends when the terminal closes."""
    output = context.output
    instance = None
    if process is not None:
        address, instance = await _selected(context, address, process)
    async with opened(context.client.logs(address, lines=lines, follow=follow, instance=instance)) as stream:
        async for line in stream:
            output.line(f"{timestamp(line.time)} {line.source.value}[{line.process}]: {line.text}")
            output.record(line)
            await output.drain()


async def _selected(context: Context, address: Address, process: str) -> tuple[Address, str | None]:
    """Where `web` or `web.1` is to be asked for: the address with its process type, and an instance's id."""
    process_type, dot, _ = process.partition(".")
    check_process_type(process_type)
    instances = await context.client.instances(address)
    if dot:
        matching = [each for each in instances if process_name(each) == process]
        if not matching:
            known = ", ".join(sorted({process_name(each) for each in instances})) or "nothing"
            raise NotFound(f"{address} has no process {process} now; what runs: {known}.")
        return address, max(matching, key=lambda each: (each.version, each.generation)).id
    if process_type == UNNAMED_SHOWN and any(not each.process_type for each in instances):
        return address, None  # it has no other process type
    return replace(address, process_type=process_type), None
