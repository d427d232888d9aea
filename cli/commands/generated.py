"""Secrets that the server makes for a deployment, as its service file asks."""

import click

from cli.commands.config import finish_shared
from cli.context import Context
from cli.grammar import app_command, only_deployment
from cli.rollout import detach_option
from controller.names import Address


@app_command(example="moor generate -a foo")
async def generate(context: Context, *, address: Address) -> None:
    """Of the section Generate in the service file. `{NAME}` stands for the value in `cmd` and `env`."""
    found = await context.client.generated(only_deployment(address))
    context.output.title(f"{address} generated secrets")
    context.output.facts(sorted(found.items()), empty=True)
    context.output.data(dict(sorted(found.items())))


@app_command(example="moor generate:renew -a foo Secret")
@click.argument("name")
@detach_option
async def renew(context: Context, *, address: Address, name: str, detach: bool) -> None:
    """Each service that has it gets a new version. What was made with the old one (sessions, say) is void then."""
    deployment = only_deployment(address)
    change = await context.client.renew_generated(deployment, name)
    context.output.step(f"Renewing {name} of {deployment}")
    await finish_shared(context, deployment, change, detach=detach)
    context.output.detail("Where it is a password of Domains, the next deploy of the file takes it over.")
