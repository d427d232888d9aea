"""Releases: versions, and going back to one."""

import re

import click

from cli.context import Context
from cli.grammar import app_command
from cli.output import timestamp
from cli.rollout import detach_option, finish_version
from controller.errors import InvalidInput
from controller.names import Address


@app_command(example="moor releases -a foo")
@click.option("-n", "--num", "limit", type=click.IntRange(1), default=20, show_default=True, help="How many.")
async def releases(context: Context, *, address: Address, limit: int) -> None:
    versions = (await context.client.versions(address))[:limit]
    context.output.title(f"{address} releases")
    context.output.table(
        ("version", "status", "commit", "by", "when", "what"),
        [
            (
                f"v{each.number}",
                each.status.value,
                (each.commit or "")[:7],
                each.actor,
                timestamp(each.created_at),
                each.reason,
            )
            for each in versions
        ],
    )
    if not versions:
        context.output.detail("No version yet: push code, or set an image with set-service.")
    context.output.data(versions)


@app_command(example="moor releases:info -a foo v3")
@click.argument("version")
async def info(context: Context, *, address: Address, version: str) -> None:
    found = await context.client.version(address, read_version(version))
    artifact = found.artifact
    context.output.title(f"{address} v{found.number}")
    context.output.facts(
        (
            ("version", f"v{found.number}"),
            ("status", found.status.value),
            ("failure", found.failure),
            ("last lines", "\n".join(found.failure_log)),
            ("what", found.reason),
            ("by", found.actor),
            ("when", timestamp(found.created_at)),
            ("commit", found.commit),
            ("build", found.build),
            ("artifact", f"{artifact.kind.value} {artifact.reference}" if artifact else None),
            ("processes", " ".join(artifact.process_types) if artifact else None),
            ("config", " ".join(sorted(found.definition.env))),
        )
    )
    context.output.data(found)


@app_command(example="moor rollback -a foo\nmoor rollback -a foo v3")
@click.argument("version", required=False)
@detach_option
async def rollback(context: Context, *, address: Address, version: str | None, detach: bool) -> None:
    """Makes a new version of the older one's code and config; databases are not touched. Without
    VERSION: the last one that was live before the current one."""
    number = read_version(version) if version is not None else None
    known = await context.client.service(address)
    before = known.service.current
    made = await context.client.rollback(address, number)
    context.output.step(f"{address}: {made.reason}, as v{made.number}")
    if known.staged:
        context.output.note(f"Staged config was dropped: {', '.join(known.staged)}.")
    if before is not None:
        context.output.detail(f"Undo it with: rollback v{before}")
    await finish_version(context, address, made, detach=detach)


def read_version(text: str) -> int:
    """`v3` or `3`; raises InvalidInput."""
    match = re.fullmatch(r"[vV]?([1-9]\d{0,8})", text)
    if not match:
        raise InvalidInput("version", f"{text!r} is no version: write v3, say. `releases` lists them.")
    return int(match[1])
