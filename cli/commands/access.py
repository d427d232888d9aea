"""Access: who may do what with an app."""

import click

from cli.context import Context
from cli.grammar import app_command, only_deployment
from controller.names import Address
from controller.types import Right

RIGHTS = tuple(each.value for each in Right)


@app_command(example="moor access -a foo")
async def access(context: Context, *, address: Address) -> None:
    """Each right includes those before it: view, deploy, operate, manage."""
    deployment = only_deployment(address)
    await context.client.services(deployment)  # raises NotFound for a name that was mistyped
    found = [
        (each.name, "admin" if each.admin else each.rights[deployment].value)
        for each in await context.client.users()
        if each.admin or deployment in each.rights
    ]
    context.output.title(f"{deployment} access")
    context.output.table(("user", "right"), found)
    context.output.data([{"user": user, "right": right} for user, right in found])


@app_command(example="moor access:add -a foo robin --right deploy")
@click.argument("user")
@click.option("--right", type=click.Choice(RIGHTS), default=Right.DEPLOY.value, show_default=True)
async def add(context: Context, *, address: Address, user: str, right: str) -> None:
    """view: see; deploy: push too; operate: config, scale, restart too; manage: all of it."""
    deployment = only_deployment(address)
    changed = await context.client.grant(user, deployment, Right(right))
    context.output.step(f"{changed.name} may {right} {deployment}")
    context.output.data(changed)


@app_command(example="moor access:remove -a foo robin")
@click.argument("user")
async def remove(context: Context, *, address: Address, user: str) -> None:
    deployment = only_deployment(address)
    changed = await context.client.grant(user, deployment, None)
    context.output.step(f"{changed.name} has no right on {deployment} any more")
    context.output.data(changed)
