"""Config variables: what an app finds in its environment."""

import click

from cli.context import CommandFailed, Context
from cli.grammar import app_command
from cli.rollout import detach_option, finish_change
from controller.errors import InvalidInput
from controller.names import Address, check_env_name


@app_command(example="moor config -a foo")
async def config(context: Context, *, address: Address) -> None:
    variables = await context.client.config(address)
    context.output.title(f"{address} config variables")
    context.output.facts(sorted(variables.items()), empty=True)
    context.output.data(dict(sorted(variables.items())))


@app_command(example="moor config:get -a foo GREETING")
@click.argument("name")
async def get(context: Context, *, address: Address, name: str) -> None:
    variables = await context.client.config(address)
    if name not in variables:
        raise CommandFailed(f"{address} has no config variable {name}.", hint="`config` lists those it has.")
    context.output.line(variables[name])
    context.output.data({name: variables[name]})


@app_command(example="moor config:set -a foo GREETING=hello COLOR=blue")
@click.argument("pairs", nargs=-1, required=True, metavar="NAME=VALUE...")
@detach_option
async def set_(context: Context, *, address: Address, pairs: tuple[str, ...], detach: bool) -> None:
    """The app is restarted with them, without a pause in serving. Values already set are no change."""
    put = dict(_pair(each) for each in pairs)
    context.output.step(f"Setting {', '.join(put)} and restarting {address}")
    change = await context.client.change_config(address, put=put)
    await finish_change(context, address, change, detach=detach)


@app_command(example="moor config:unset -a foo GREETING")
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@detach_option
async def unset(context: Context, *, address: Address, names: tuple[str, ...], detach: bool) -> None:
    drop = [check_env_name(each) for each in names]
    context.output.step(f"Unsetting {', '.join(drop)} and restarting {address}")
    change = await context.client.change_config(address, put={}, drop=drop)
    await finish_change(context, address, change, detach=detach)


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise InvalidInput("env", f"{text} has no '=': write NAME=VALUE.")
    return check_env_name(name), value
