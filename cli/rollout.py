"""Following what a change brings about, until it serves or was given up."""

from dataclasses import dataclass, replace

import click

from cli.context import CommandFailed, Context, opened
from cli.output import TITLE
from controller.errors import Unavailable
from controller.names import Address
from controller.types import Version, VersionStatus
from controller.views import Change, RolloutStep, ServiceInfo

detach_option = click.option("--detach", is_flag=True, help="Don't wait until the change is in effect.")

RELEASED_BY = "config:apply or the next push releases it, a rollback drops it"


@dataclass(frozen=True, kw_only=True)
class ChangeResult:
    """What a command that changes a service prints with --json."""

    changed: bool
    version: Version | None
    held: str | None = None
    staged: tuple[str, ...] = ()


async def finish_change(context: Context, address: Address, change: Change, *, detach: bool) -> None:
    """Say what became of a change of definition or config, and follow the version that it made."""
    output = context.output
    if change.version is not None and change.version.staged:
        output.detail(f"v{change.version.number} has what was staged: {', '.join(change.version.staged)}.")
    if change.held is not None:
        output.detail(f"Kept for the first start. It is held: {change.held}")
    elif change.staged:
        output.detail(f"Staged: {', '.join(change.staged)}. {RELEASED_BY}.")
    elif change.version is None:
        output.line("No changes.")
    result = ChangeResult(
        changed=change.version is not None or change.held is not None or bool(change.staged),
        version=change.version,
        held=change.held,
        staged=change.staged,
    )
    if change.version is None:
        output.data(result)
    else:
        await finish_version(context, address, change.version, detach=detach, result=result)


async def finish_version(
    context: Context, address: Address, version: Version, *, detach: bool, result: ChangeResult | None = None
) -> None:
    """Follow a new version; raises CommandFailed when it was given up."""
    result = result or ChangeResult(changed=True, version=version)
    if detach:
        context.output.detail(
            f"v{version.number} is being rolled out; `releases:info v{version.number}` tells."
        )
        context.output.data(result)
        return
    last = await follow(context, address, version.number)
    ended = last.version or version
    context.output.data(replace(result, version=ended))
    if ended.status is VersionStatus.CANCELED:
        raise CommandFailed(
            f"v{ended.number} does not come to serve: {ended.failure}.",
            hint="What served before serves on.",
        )
    if last.failure or ended.status is VersionStatus.FAILED:
        raise CommandFailed(
            f"v{ended.number} was given up: {last.failure or ended.failure}",
            log=ended.failure_log,
            hint="What served before serves on.",
        )
    if ended.status is VersionStatus.PENDING:
        context.output.note(f"{last.text}.")
    elif ended.status is VersionStatus.SUPERSEDED:
        context.output.note(f"v{ended.number} was overtaken by a newer version.")
    else:
        await _announce(context, address, ended)


async def finish_settling(context: Context, address: Address, *, detach: bool) -> ServiceInfo:
    """Follow scaling, a restart, a start or a stop; raises CommandFailed when it was given up."""
    if not detach:
        last = await follow(context, address, None)
        if last.failure:
            raise CommandFailed(
                f"It was given up: {last.failure}",
                log=last.version.failure_log if last.version else (),
                hint=f"`logs -a {address}` shows what the processes printed.",
            )
        if last.version is not None and last.text != "settled":
            context.output.note(f"{last.text}.")
    return await context.client.service(address)


async def follow(context: Context, address: Address, number: int | None) -> RolloutStep:
    """Print the steps as they happen, but for the last one: it tells how it ended, and is returned."""
    step = RolloutStep(text="")
    async with opened(context.client.follow(address, number)) as steps:
        async for step in steps:
            if not step.done:
                context.output.detail(step.text)
            await context.output.drain()
    if not step.done:
        raise Unavailable(
            "The server ended its answer in the middle: `releases` and `ps` show how it stands."
        )
    return step


async def _announce(context: Context, address: Address, version: Version) -> None:
    info = await context.client.service(address)
    context.output.step(f"{address} v{version.number} is live", TITLE)
    for url in info.urls:
        context.output.detail(url)
