"""Limits: what one instance of a process type may take."""

from collections.abc import Sequence

import click

from cli.commands.apps import UNNAMED_SHOWN
from cli.context import Context
from cli.grammar import Action, app_command
from cli.rollout import detach_option, finish_change
from controller.limits import RESOURCES
from controller.names import Address
from controller.sizes import size_text
from controller.types import Limits
from controller.views import LimitSource, ProcessLimits, Status

type_argument = click.argument("process", required=False, default="", metavar="[TYPE]")
SHOWN_SOURCE = {LimitSource.TYPE: "", LimitSource.SERVICE: " (all types)", LimitSource.SERVER: " (default)"}


@app_command(example="moor limits -a foo")
async def show(context: Context, *, address: Address) -> None:
    """As the next version has them. Behind a limit: where it was set, if not for the process type itself."""
    found = await context.client.limits(address)
    kept = kept_text(await context.client.status())
    context.output.title(f"{address} limits of each instance")
    rows = [
        (each.process_type or UNNAMED_SHOWN, *(_shown(each, resource) for resource in RESOURCES))
        for each in found
    ]
    context.output.table(("process", *RESOURCES), rows)
    if kept:
        context.output.detail(f"Kept by: {kept}")
    context.output.data(found)


def _shown(found: ProcessLimits, resource: str) -> str:
    source = SHOWN_SOURCE.get(found.sources.get(resource, LimitSource.SERVER), "")
    return amount_text(found.limits, resource) + source


def amount_text(limits: Limits, resource: str) -> str:
    amount: float | None = getattr(limits, resource)
    if amount is None:
        return "none"
    return (
        size_text(int(amount))
        if resource == "memory"
        else f"{amount:g}"
        if resource == "cpu"
        else f"{amount:d}"
    )


def kept_text(status: Status) -> str:
    """How this server's machine keeps each limit."""
    return ", ".join(f"{each} {status.limits[each]}" for each in RESOURCES if each in status.limits)


def limits_text(found: Sequence[ProcessLimits]) -> str:
    """A line for each process type, for `apps:info`."""
    return "\n".join(
        f"{each.process_type or UNNAMED_SHOWN}: "
        + ", ".join(f"{resource} {amount_text(each.limits, resource)}" for resource in RESOURCES)
        for each in found
    )


def _amounts(function: Action) -> Action:
    for option in (
        click.option("--nofile", metavar="N", help="Open files of each process."),
        click.option("--pids", metavar="N", help="Processes and threads at a time."),
        click.option("--memory", metavar="SIZE", help="Memory of all its processes: 512M, 2G."),
        click.option("--cpu", metavar="CORES", help="Processors that it may keep busy: 0.5 is half of one."),
    ):
        function = option(function)
    return function


@app_command(
    example="moor limits:set -a foo --memory 512M\nmoor limits:set -a foo worker --memory 2G --cpu 0.5"
)
@type_argument
@_amounts
@detach_option
async def set_(
    context: Context, *, address: Address, process: str, detach: bool, **amounts: str | None
) -> None:
    """Of one process type, or without TYPE of all that have none of their own. 0 is no limit. An instance that
    takes more memory is killed and started again; it can't get more of the others. Makes a version."""
    given = {name: amount for name, amount in amounts.items() if amount is not None}
    if not given:
        raise click.UsageError("Name at least one limit: --cpu, --memory, --pids or --nofile.")
    context.output.step(f"Setting {', '.join(sorted(given))} of {_whose(address, process)}")
    change = await context.client.change_limits(address, process, put=given)
    await finish_change(context, address, change, detach=detach)


@app_command(example="moor limits:unset -a foo\nmoor limits:unset -a foo worker --cpu")
@type_argument
@click.option("--cpu", is_flag=True)
@click.option("--memory", is_flag=True)
@click.option("--pids", is_flag=True)
@click.option("--nofile", is_flag=True)
@detach_option
async def unset(context: Context, *, address: Address, process: str, detach: bool, **chosen: bool) -> None:
    """Those named, or all. What holds for all types holds again, or the server's default. Makes a version."""
    drop = [name for name in RESOURCES if chosen[name]] or list(RESOURCES)
    context.output.step(f"Removing {', '.join(drop)} of {_whose(address, process)}")
    change = await context.client.change_limits(address, process, put={}, drop=drop)
    await finish_change(context, address, change, detach=detach)


def _whose(address: Address, process: str) -> str:
    return f"{address} {process}" if process else f"{address}, all process types"
