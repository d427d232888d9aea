"""Logs: what the processes of an app print."""

from dataclasses import replace

import click

from cli.context import Context
from cli.grammar import app_command
from cli.output import timestamp
from controller.names import Address, check_process_type


@app_command(example="moor logs -a foo -t\nmoor logs -a foo -n 20 -p web.1")
@click.option("-t", "--tail", "-f", "--follow", "follow", is_flag=True, help="Go on printing as lines come.")
@click.option(
    "-n",
    "--num",
    "lines",
    type=click.IntRange(0, 100_000),
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
    address, instance = _selected(address, process)
    async for line in context.client.logs(address, lines=lines, follow=follow, instance=instance):
        output.line(f"{timestamp(line.time)} {line.source.value}[{line.process}]: {line.text}")
        output.record(line)
        await output.drain()


def _selected(address: Address, process: str | None) -> tuple[Address, str | None]:
    if process is None:
        return address, None
    process_type, dot, _ = process.partition(".")
    check_process_type(process_type)
    return (address, process) if dot else (replace(address, process_type=process_type), None)
