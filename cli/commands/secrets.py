"""The key that config values are sealed with."""

from cli.context import Context
from cli.grammar import command


@command(example="moor secrets:rotate")
async def rotate(context: Context) -> None:
    """The server may be killed in the middle: then call it again. Back the key file up afterwards."""
    await context.client.rotate_secrets()
    context.output.step("Config values are sealed with a new key; the old ones are forgotten")
    context.output.data({"rotated": True})
