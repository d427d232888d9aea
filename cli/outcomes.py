"""What a service file, or a promotion, changes: told before and after, and followed to its end."""

from collections.abc import Sequence
from typing import Any

from cli.context import Context
from cli.output import SEED_MARK
from cli.rollout import follow
from controller.names import Address
from controller.types import VersionStatus
from controller.views import Area, Difference, FileChange, FileChangeKind, FileOutcome, GuardChange

SIGNS = {FileChangeKind.CREATE: "+", FileChangeKind.CHANGE: "~", FileChangeKind.REMOVE: "-"}
PREFIXES = {Area.ENV: "env.", Area.SHARED_ENV: "Env.", Area.SCALE: "scale.", Area.BACKUPS: "backup."}
SHOWN = (Area.DEFINITION, Area.SCALE, Area.CODE, Area.BACKUPS)
"""Areas whose values are shown."""
GUARDED = {
    GuardChange.SET: "asks for a password",
    GuardChange.CHANGED: "asks for another password, or other names",
    GuardChange.ENDED: "asks for no password any more",
}


async def follow_change(context: Context, address: Address, number: int) -> Sequence[str]:
    """How it failed, where it did."""
    last = await follow(context, address, number)
    status = last.version.status if last.version else None
    if last.failure or status in (VersionStatus.FAILED, VersionStatus.CANCELED):
        why = last.failure or (last.version.failure if last.version else "")
        return [f"{address} v{number} was given up: {why}"]
    if status is VersionStatus.PENDING:
        context.output.note(f"{last.text}.")
    await tell_instances(context, address, number)
    return ()


async def tell_instances(context: Context, address: Address, number: int) -> None:
    for each in await context.client.instances(address):
        if each.version == number:
            context.output.step(f"New instance id {each.id}", SEED_MARK)


def print_plan(context: Context, outcome: FileOutcome) -> None:
    """What would change, without what did not."""
    output = context.output
    output.title(f"Plan for {outcome.deployment}: nothing is changed by it")
    for each in outcome.globals:
        output.line(difference_text(each))
    for change in outcome.changes:
        output.line(f"{SIGNS[change.kind]} {change_text(change, outcome.deployment)}")
        for line in detail_lines(change):
            output.line(f"    {line}")


def say_change(context: Context, outcome: FileOutcome, change: FileChange) -> None:
    """What was done to one service."""
    context.output.step(change_text(change, outcome.deployment), SEED_MARK)
    for line in detail_lines(change):
        context.output.detail(line)
    if change.held is not None:
        context.output.step(f"Held: {change.held}", SEED_MARK)


def change_text(change: FileChange, deployment: str) -> str:
    """Services of the deployment by their name, others as the section Domains has them."""
    name = change.service if change.deployment == deployment else f"{change.deployment}:{change.service}"
    version = f" v{change.version}" if change.version is not None else ""
    match change.kind:
        case FileChangeKind.REMOVE:
            return f"{name}: destroyed, with all that belongs to it"
        case FileChangeKind.CREATE:
            return f"{name}{version}: a new service{', held' if change.held else ''}"
        case _:
            if change.makes_version:
                return f"{name}{version}: a new version"
            return f"{name}: {'kept for the first version' if change.held else 'no new version'}"


def detail_lines(change: FileChange) -> Sequence[str]:
    return [
        *map(difference_text, change.differences),
        *(f"+ domain {each}" for each in change.added_domains),
        *(f"- domain {each}" for each in change.removed_domains),
        *(f"~ domain {domain}: {GUARDED[each]}" for domain, each in change.guards.items()),
    ]


def difference_text(found: Difference) -> str:
    """`~ image: a -> b`; of variables, and of sections, the name alone."""
    name = f"{PREFIXES.get(found.area, '')}{found.name}"
    if found.area not in SHOWN:
        return f"{found.sign} {name}"
    before, after = _shown(found.before), _shown(found.after)
    match found.sign:
        case "+":
            return f"+ {name}: {after}"
        case "-":
            return f"- {name}: {before}"
        case _:
            return f"~ {name}: {before} -> {after}"


def _shown(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
