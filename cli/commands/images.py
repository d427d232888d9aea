"""Images that were built elsewhere, deployed as if they had been pushed."""

import click

from cli.commands.git import STANDARD_INPUT, content_of, follow_delivery
from cli.context import Context
from cli.grammar import app_command
from controller.names import Address


@app_command(example="moor git:from-image -a foo registry.example.org/team/foo:1.2")
@click.argument("image")
async def from_image(context: Context, *, address: Address, image: str) -> None:
    """The server's container engine pulls it where it does not have it, and keeps it for as long as a version has it.
    It runs its own command, with config and PORT in its environment; health check, rollout and rollback are as with a
    push."""
    await follow_delivery(context, context.client.deploy_image(address, image))


@app_command(
    example="docker save foo:1.2 | moor git:load-image -a foo foo:1.2\n"
    "moor git:load-image -a foo foo:1.2 saved.tar"
)
@click.argument("image")
@click.argument("source", metavar="[FILE|-]", required=False, default=STANDARD_INPUT)
async def load_image(context: Context, *, address: Address, image: str, source: str) -> None:
    """IMAGE is its name in what `docker save` wrote; other images of the archive are left out, and no name of it
    reaches the engine. Without FILE it comes on standard input, over SSH the only way."""
    await follow_delivery(
        context, context.client.deploy_saved_image(address, image, content_of(context, source))
    )
