"""Folders of services that outlive their versions."""

import click

from cli.context import CommandFailed, Context
from cli.grammar import app_command, only_deployment
from cli.output import size_text
from controller.names import Address


@app_command(example="moor volumes -a foo")
async def volumes(context: Context, *, address: Address) -> None:
    """Each service says by `volumes` in its definition which it has. Sizes are measured now."""
    found = await context.client.volumes(only_deployment(address))
    context.output.title(f"{address} volumes")
    context.output.table(
        ("service", "volume", "size", "path"),
        [
            (each.service, each.name, size_text(each.size), each.path or "(no longer in the definition)")
            for each in found
        ],
    )
    if not found:
        context.output.detail("None: set-service SERVICE '{volumes: {data: /srv/data}}' makes one.")
    context.output.data(found)


@app_command(
    example="moor volumes:destroy -a foo data\nmoor volumes:destroy -a foo/redis data --confirm data"
)
@click.argument("name")
@click.option("--confirm", metavar="NAME", help="The name once more, instead of being asked.")
async def destroy(context: Context, *, address: Address, name: str, confirm: str | None) -> None:
    """With all that is in it. One that the service's definition still has, or a version that runs, is refused."""
    if confirm is None:
        if not context.input.terminal:
            raise CommandFailed(
                f"Destroying {name} needs your word for it, and there is no terminal to ask at.",
                hint=f"Add --confirm {name}.",
            )
        context.output.note(f"This destroys the volume {name} of {address} with all that is in it.")
        context.output.prompt(f" !     Type {name} to go on: ")
        confirm = (await context.input.line()).strip()
    if confirm != name:
        raise CommandFailed(f"That was not {name}: nothing was destroyed.")
    size = await context.client.destroy_volume(address, name)
    context.output.step(f"Destroyed {name} of {address}: {size_text(size)}")
    context.output.data({"destroyed": name, "bytes": size})
