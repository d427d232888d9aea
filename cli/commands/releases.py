"""Releases: versions, and going back to one."""

import re

import click

from cli.commands.runs import status_text
from cli.context import Context, opened
from cli.grammar import app_command
from cli.output import timestamp
from cli.rollout import detach_option, finish_version
from controller.errors import InvalidInput
from controller.names import Address
from controller.runs import OF_VERSIONS, title
from controller.types import VersionStatus
from controller.views import Area, Difference, VersionDiff
from controller.wire import encode, to_json


@app_command(example="moor releases -a foo")
@click.option("-n", "--num", "limit", type=click.IntRange(1), default=20, show_default=True, help="How many.")
async def releases(context: Context, *, address: Address, limit: int) -> None:
    versions = await context.client.versions(address, limit=limit)
    context.output.title(f"{address} releases")
    context.output.table(
        ("version", "status", "commit", "by", "when", "what", "changes"),
        [
            (
                f"v{each.number}",
                each.status.value,
                (each.commit or "")[:7],
                each.actor,
                timestamp(each.created_at),
                each.reason,
                each.summary,
            )
            for each in versions
        ],
    )
    if any(each.status is VersionStatus.PENDING for each in versions):
        rollout = (await context.client.service(address)).rollout
        context.output.note(f"Under way: {rollout}." if rollout else "A version is on its way.")
    if not versions:
        context.output.detail("No version yet: push code, or set an image with set-service.")
    context.output.data(versions)


@app_command(
    example="moor releases:info -a foo v3\nmoor releases:info -a foo v3 --diff v1",
)
@click.argument("version")
@click.option(
    "--diff", "other", metavar="VERSION", help="Compare with this version, not the one it replaced."
)
@click.option("--reveal", is_flag=True, help="Show the values of variables that changed.")
async def info(context: Context, *, address: Address, version: str, other: str | None, reveal: bool) -> None:
    """With what it changed; values of variables are hidden unless you ask for them with --reveal."""
    number = read_version(version)
    found = await context.client.version(address, number)
    base = read_version(other) if other is not None else None
    diff = await context.client.version_diff(address, number, other=base, reveal=reveal)
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
    _show_diff(context, address, diff)
    context.output.data({**to_json(found), "diff": diff})


def _show_diff(context: Context, address: Address, diff: VersionDiff) -> None:
    if diff.compared_with is None:
        return  # all of it is new, and was told above
    context.output.title(f"{address} v{diff.number} compared with v{diff.compared_with}")
    context.output.table(
        ("what", "name", "before", "after"),
        [
            (each.area.value, each.sign + each.name, _shown(each, each.before), _shown(each, each.after))
            for each in diff.differences
        ],
    )
    if not diff.differences:
        context.output.detail("No difference.")


def _shown(difference: Difference, value: object) -> str:
    if value is None:
        return ""
    text = value if isinstance(value, str) else encode(value).decode()
    return text[:12] if difference.area is Area.CODE else text


@app_command(example="moor rollback -a foo\nmoor rollback -a foo v3")
@click.argument("version", required=False)
@detach_option
async def rollback(context: Context, *, address: Address, version: str | None, detach: bool) -> None:
    """Makes a new version of the older one's code and config; databases are not touched. Its release command
    runs as for any version, and when it fails, what serves now goes on. Without
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


@app_command(example="moor releases:output -a foo v3")
@click.argument("version", required=False)
async def output(context: Context, *, address: Address, version: str | None) -> None:
    """What the predeploy, release and postdeploy command of VERSION printed; without it: of the newest that
    had any."""
    runs = [each for each in await context.client.runs(address) if each.kind in OF_VERSIONS]
    number = read_version(version) if version is not None else max((each.version for each in runs), default=0)
    mine = [each for each in reversed(runs) if each.version == number]
    printed = []
    for run in mine:
        context.output.step(f"{title(run)}: {run.command}")
        async with opened(context.client.run_logs(address, run.id)) as stream:
            lines = [line async for line in stream]
        for line in lines:
            context.output.line(line.text)
        context.output.step(status_text(run))
        printed.append({"run": run, "lines": [line.text for line in lines]})
    if not mine:
        what = f"v{number}" if version else "No version"
        context.output.detail(f"{what} had no command to run, or what it printed is no longer kept.")
    context.output.data(printed)


def read_version(text: str) -> int:
    """`v3` or `3`; raises InvalidInput."""
    match = re.fullmatch(r"[vV]?([1-9]\d{0,8})", text)
    if not match:
        raise InvalidInput("version", f"{text!r} is no version: write v3, say. `releases` lists them.")
    return int(match[1])
