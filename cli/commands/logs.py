"""Logs: what an app prints, is built with, is asked, and what the server does with it."""

import click

from cli.context import Context, opened
from cli.grammar import app_command
from cli.output import timestamp
from controller.errors import InvalidInput
from controller.names import Address, check_process_type
from controller.types import LogSource

SOURCES = ", ".join(LogSource)


def _sources(
    _ctx: click.Context, _parameter: click.Parameter, given: tuple[str, ...]
) -> tuple[LogSource, ...]:
    words = [word.strip() for each in given for word in each.split(",") if word.strip()]
    try:
        return tuple(LogSource(word) for word in words)
    except ValueError as error:
        raise click.BadParameter(f"choose of {SOURCES}, several with commas.") from error


@app_command(
    example="moor logs -a foo -t\n"
    "moor logs -a foo -n 20 -p web.1\n"
    "moor logs -a foo --source app,router --since 10m --grep timeout\n"
    "moor logs -a foo --instance foo-app-12-web-1"
)
@click.option("-t", "--tail", "-f", "--follow", "follow", is_flag=True, help="Go on printing as lines come.")
@click.option(
    "-n",
    "--num",
    "lines",
    type=click.IntRange(0, 10_000),
    help="How many lines of the past.  [default: 100, or all with --since]",
)
@click.option(
    "-s",
    "--source",
    "sources",
    metavar="SOURCE",
    multiple=True,
    callback=_sources,
    help=f"Only of these sources, several with commas: {SOURCES}.",
)
@click.option(
    "-p", "--ps", "process", metavar="PROCESS", help="Only this process type (web) or process (web.1)."
)
@click.option(
    "-i", "--instance", metavar="ID", help="Only this instance, running or gone (foo-app-12-web-1), or build."
)
@click.option("--since", metavar="TIME", help="From then on: 10m or 2d ago, or 2026-11-22T08:00 (UTC).")
@click.option("--until", metavar="TIME", help="Up to then.")
@click.option(
    "-g",
    "--grep",
    "text",
    metavar="TEXT",
    default="",
    help="Only lines with this text; * stands for anything.",
)
async def logs(
    context: Context,
    *,
    address: Address,
    follow: bool,
    lines: int | None,
    sources: tuple[LogSource, ...],
    process: str | None,
    instance: str | None,
    since: str | None,
    until: str | None,
    text: str,
) -> None:
    """Over SSH `logs foo -t` ends when the terminal closes."""
    output = context.output
    if process is not None:
        _check_process(process)
    found = context.client.logs(
        address,
        sources=sources,
        process=process,
        instance=instance,
        since=since,
        until=until,
        text=text,
        lines=lines,
        follow=follow,
    )
    async with opened(found) as stream:
        async for line in stream:
            output.line(f"{timestamp(line.time)} {line.source.value}[{line.process}]: {line.text}")
            output.record(line)
            await output.drain()


def _check_process(process: str) -> None:
    process_type, dot, number = process.partition(".")
    check_process_type(process_type)
    if dot and not number.isdecimal():
        raise InvalidInput(
            "process", f"{process!a} is no process: write a type (web) or one process (web.1)."
        )
