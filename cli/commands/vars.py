"""Values that a deployment has for the variables of its service file."""

import click

from cli.context import Context
from cli.grammar import app_command, only_deployment
from controller.errors import InvalidInput
from controller.names import Address
from controller.servicefile.values import check_variable

NEXT = "They are put into the next service file that is deployed here."


@app_command(example="moor -D staging vars")
async def show(context: Context, *, address: Address) -> None:
    """What {NAME} stands for in service files that are deployed here, in place of the file's own Vars."""
    found = await context.client.vars(only_deployment(address))
    context.output.title(f"{address} variables of its service file")
    context.output.facts(sorted(found.items()), empty=True)
    context.output.data(dict(sorted(found.items())))


@app_command(example="moor -D staging vars:set SITE=staging.example.org TAG=v2")
@click.argument("pairs", nargs=-1, required=True, metavar="NAME=VALUE")
async def set_(context: Context, *, address: Address, pairs: tuple[str, ...]) -> None:
    """They go before the file's own Vars, and behind --values and --var of a deploy. Nothing that runs changes."""
    put = dict(map(pair_of, pairs))
    deployment = only_deployment(address)
    found = await context.client.change_vars(deployment, put=put)
    context.output.step(f"Keeping {', '.join(put)} for {deployment}")
    context.output.detail(NEXT)
    context.output.data(dict(sorted(found.items())))


@app_command(example="moor -D staging vars:unset TAG")
@click.argument("names", nargs=-1, required=True, metavar="NAME")
async def unset(context: Context, *, address: Address, names: tuple[str, ...]) -> None:
    """The next service file is read without them."""
    deployment = only_deployment(address)
    found = await context.client.change_vars(deployment, put={}, drop=names)
    context.output.step(f"Forgetting {', '.join(names)} of {deployment}")
    context.output.data(dict(sorted(found.items())))


def pair_of(text: str) -> tuple[str, str]:
    """NAME=VALUE; raises InvalidInput."""
    name, equals, value = text.partition("=")
    if not equals:
        raise InvalidInput("vars", f"{text} has no '=': write NAME=VALUE.")
    return check_variable(name, value), value
