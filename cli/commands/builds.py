"""Builds: what became of pushed source."""

from collections.abc import Callable

import click

from cli.context import CommandFailed, Context
from cli.grammar import app_command
from cli.output import timestamp
from controller.errors import NotFound
from controller.names import Address
from controller.types import Build


@app_command(example="moor builds -a foo")
@click.option("-n", "--num", "limit", type=click.IntRange(1), default=20, show_default=True, help="How many.")
async def builds(context: Context, *, address: Address, limit: int) -> None:
    found = await context.client.builds(address, limit=limit)
    context.output.title(f"{address} builds")
    context.output.table(
        ("build", "status", "commit", "by", "opened", "seconds", "what"),
        [
            (
                each.id,
                each.status.value,
                (each.commit or "")[:7],
                each.actor,
                timestamp(each.queued_at or each.started_at),
                _seconds(each),
                each.error or each.doing,
            )
            for each in found
        ],
    )
    if not found:
        context.output.detail("No builds yet: push code.")
    context.output.data(found)


@app_command(example="moor builds:info -a foo")
@click.argument("build", required=False)
async def info(context: Context, *, address: Address, build: str | None) -> None:
    """Without BUILD: the latest one."""
    found = await _find(context, address, build)
    artifact = found.artifact
    context.output.title(f"{address} build {found.id}")
    context.output.facts(
        (
            ("build", found.id),
            ("status", found.status.value),
            ("error", found.error),
            ("why", found.reason),
            ("doing", found.doing),
            ("version", f"v{found.version}" if found.version else None),
            ("commit", found.commit),
            ("by", found.actor),
            ("queued", timestamp(found.queued_at)),
            ("started", timestamp(found.started_at)),
            ("finished", timestamp(found.finished_at)),
            ("seconds", _seconds(found)),
            ("buildpack", artifact.buildpack if artifact else None),
            ("artifact", f"{artifact.kind.value} {artifact.reference}" if artifact else None),
            ("size", artifact.size if artifact else None),
        )
    )
    context.output.data(found)


@app_command(example="moor builds:output -a foo")
@click.argument("build", required=False)
async def output(context: Context, *, address: Address, build: str | None) -> None:
    """Without BUILD: of the latest one."""
    found = await _find(context, address, build)
    log = await context.client.build_log(found.id)
    context.output.line(log.removesuffix("\n"))
    context.output.data({"build": found.id, "log": log})


@app_command(example="moor builds:cancel -a foo")
@click.argument("build", required=False)
async def cancel(context: Context, *, address: Address, build: str | None) -> None:
    """Without BUILD: the one that runs. Its push is refused, what serves goes on serving."""
    found = await _find(context, address, build, lambda each: each.status.under_way)
    if not found.status.under_way:
        raise CommandFailed(f"Build {found.id} does not run any more: it has {found.status.value}.")
    asked = await context.client.cancel_build(found.id)
    context.output.step(f"Asked build {asked.id} of {address} to end")
    context.output.data(asked)


async def _find(
    context: Context, address: Address, build: str | None, wanted: Callable[[Build], bool] = lambda _: True
) -> Build:
    """The build of that id, which must be the app's own, or its latest that is wanted."""
    if build is not None:
        found = await context.client.build(build)
        if (found.deployment, found.service) != (address.deployment, address.service):
            raise NotFound(f"{address} has no build {build}: `builds` lists those it has.")
        return found
    for each in await context.client.builds(address):
        if wanted(each):
            return each
    raise NotFound(f"{address} has no such build.")


def _seconds(build: Build) -> str:
    if build.started_at is None or build.finished_at is None:
        return ""
    return f"{(build.finished_at - build.started_at).total_seconds():.1f}"
