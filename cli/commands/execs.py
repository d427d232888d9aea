"""Commands of the section Exec in a service file, each of which runs once."""

import click

from cli.context import Context
from cli.grammar import app_command, only_deployment
from cli.held import failed_text
from controller.names import Address


@app_command(example="moor exec -a foo")
async def execs(context: Context, *, address: Address) -> None:
    """Others wait for them by their names (`require: NAME`)."""
    deployment = only_deployment(address)
    found = await context.client.execs(deployment)
    context.output.title(f"{address} commands that run once")
    context.output.table(
        ("name", "status", "service", "run", "command", "detail"),
        [
            (
                each.name,
                each.status.value,
                each.service,
                each.run or "",
                each.command,
                each.failure or each.waits or "",
            )
            for each in found
        ],
    )
    if not found:
        context.output.detail("None: a service file has them in its section Exec.")
    context.output.data(found)
    for each in found:
        if each.failure:
            context.output.detail(failed_text(each))


@app_command(example="moor exec:retry -a foo Init")
@click.argument("name")
async def retry(context: Context, *, address: Address, name: str) -> None:
    """As soon as what it requires is there."""
    found = await context.client.retry_exec(only_deployment(address), name)
    context.output.step(f"{name} is to be run again{f': {found.waits}' if found.waits else ''}")
    context.output.data(found)
