"""Folders of services that outlive their versions."""

from cli.context import Context
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
