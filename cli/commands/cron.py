"""Commands that an app's own app.json has run again and again."""

from cli.context import Context
from cli.grammar import app_command
from cli.output import timestamp
from controller.names import Address
from controller.types import RunStatus


@app_command(example="moor cron -a foo")
async def cron(context: Context, *, address: Address) -> None:
    """They come with the code: `"cron": [{"command": "./clean", "schedule": "0 3 * * *"}]` in its app.json. Times are
    of UTC. What each prints is found by the name of its run (run:logs)."""
    found = await context.client.cron(address)
    context.output.title(f"{address} scheduled commands")
    context.output.table(
        ("schedule", "next", "last", "run", "outcome", "command"),
        [
            (
                each.schedule,
                timestamp(each.next_at),
                timestamp(each.last_at),
                each.run or "",
                _outcome(each.status, each.detail),
                each.command,
            )
            for each in found
        ],
    )
    if not found:
        context.output.detail("None: the app.json of what serves has no cron.")
    context.output.data(found)


def _outcome(status: RunStatus | None, detail: str) -> str:
    if status is None:
        return ""
    failed = status.over and status is not RunStatus.SUCCEEDED
    return f"{status.value}: {detail}" if failed and detail else status.value
