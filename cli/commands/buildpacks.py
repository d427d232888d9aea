"""Buildpacks: which build an app, and what each of them says of it."""

from collections.abc import Sequence

import click

from cli.context import Context
from cli.grammar import app_command
from controller.names import Address

NONE = "None is set: the source says which (.buildpacks, app.json), else they are detected."


@app_command(example="moor buildpacks -a foo")
async def buildpacks(context: Context, *, address: Address) -> None:
    found = (await context.client.service(address)).service
    context.output.title(f"{address} buildpacks")
    _print(context, address, found.buildpacks)


@app_command(example="moor buildpacks:set -a foo nodejs python")
@click.argument("names", nargs=-1, required=True, metavar="BUILDPACK...")
async def set_(context: Context, *, address: Address, names: tuple[str, ...]) -> None:
    """In place of all that were set, in this order. Each is the name of a bundled one, the https URL of a git
    repository (with #BRANCH, #TAG or #COMMIT), or a folder of the server."""
    service = await context.client.change_buildpacks(address, only=names)
    _changed(context, address, service.buildpacks)


@app_command(example="moor buildpacks:add -a foo --index 1 nodejs")
@click.argument("names", nargs=-1, required=True, metavar="BUILDPACK...")
@click.option("--index", type=int, help="The place of the first of them, from 1; else they come last.")
async def add(context: Context, *, address: Address, names: tuple[str, ...], index: int | None) -> None:
    service = await context.client.change_buildpacks(address, add=names, at=index)
    _changed(context, address, service.buildpacks)


@app_command(example="moor buildpacks:remove -a foo nodejs")
@click.argument("names", nargs=-1, required=True, metavar="BUILDPACK...")
async def remove(context: Context, *, address: Address, names: tuple[str, ...]) -> None:
    service = await context.client.change_buildpacks(address, remove=names)
    _changed(context, address, service.buildpacks)


@app_command(example="moor buildpacks:clear -a foo")
async def clear(context: Context, *, address: Address) -> None:
    service = await context.client.change_buildpacks(address, only=())
    _changed(context, address, service.buildpacks)


@app_command(example="moor buildpacks:detect -a foo\nmoor buildpacks:detect -a foo --branch next")
@click.option("--branch", help="A branch that was pushed; else the one that deploys.")
async def detect(context: Context, *, address: Address, branch: str | None) -> None:
    """Of what was pushed last. Nothing is built."""
    verdicts = await context.client.detect_buildpacks(address, branch=branch)
    by = next((each.by for each in verdicts if each.by), "")
    context.output.title(f"{address} buildpacks" + (f", named by {by}" if by else ", detected"))
    rows = [
        (each.buildpack, "builds" if each.builds else "yes" if each.matched else "no", each.words)
        for each in verdicts
    ]
    context.output.table(("buildpack", "matches", "says"), rows)
    context.output.data(verdicts)


def _changed(context: Context, address: Address, names: Sequence[str]) -> None:
    context.output.step(f"The next push builds {address} with:")
    _print(context, address, names)


def _print(context: Context, address: Address, names: Sequence[str]) -> None:
    if not names:
        context.output.line(f"       {NONE}")
    for number, name in enumerate(names, 1):
        context.output.line(f"       {number}. {name}")
    context.output.data({"app": str(address), "buildpacks": list(names)})
