"""Rollouts: deciding on the one that is under way."""

import click

from cli.context import Context
from cli.grammar import app_command
from cli.rollout import detach_option, finish_settling, finish_version
from controller.names import Address
from controller.types import Version, VersionStatus

why_option = click.option("--reason", metavar="TEXT", default="", help="Why, for those who look later.")


@app_command(example="moor deploy:promote -a foo")
@detach_option
async def promote(context: Context, *, address: Address, detach: bool) -> None:
    """The rest of its instances start, and it takes the place of what serves beside it."""
    version = await context.client.promote_rollout(address)
    context.output.step(f"Promoting the canary of {address}, v{version.number}")
    await _followed(context, address, version, detach=detach)


@app_command(example='moor deploy:abort -a foo\nmoor deploy:abort -a foo --reason "errors went up"')
@why_option
async def abort(context: Context, *, address: Address, reason: str) -> None:
    """Its instances leave, and what serves beside it goes on."""
    version = await context.client.abort_rollout(address, reason=reason)
    context.output.step(f"The canary of {address}, v{version.number}, ends")
    await _stays(context, address)
    context.output.data(version)


@app_command(example="moor deploy:pause -a foo")
async def pause(context: Context, *, address: Address) -> None:
    """No further step of it is taken: what runs and takes requests stays so until `deploy:resume`. What
    serves is kept whole meanwhile. `deploy:cancel` ends a paused rollout too. One that stops first can't be
    held any more once what served is gone and the new version has begun."""
    version = await context.client.pause_rollout(address)
    context.output.step(f"The rollout of {address} v{version.number} is paused")
    context.output.data(version)


@app_command(example="moor deploy:resume -a foo")
@detach_option
async def resume(context: Context, *, address: Address, detach: bool) -> None:
    """The time that a canary has begins anew."""
    version = await context.client.resume_rollout(address)
    context.output.step(f"The rollout of {address} v{version.number} goes on")
    await _followed(context, address, version, detach=detach)


async def _followed(context: Context, address: Address, version: Version, *, detach: bool) -> None:
    if version.status is VersionStatus.PENDING:
        await finish_version(context, address, version, detach=detach)
        return
    await finish_settling(context, address, detach=detach)  # the rollout of a restart
    context.output.data(version)


async def _stays(context: Context, address: Address) -> None:
    current = (await context.client.service(address)).service.current
    if current is not None:
        context.output.detail(f"v{current} serves on.")
