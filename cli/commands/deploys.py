"""Deploys: what is on its way to serve, and ending it."""

from datetime import UTC, datetime

from cli.context import Context
from cli.grammar import app_command
from controller.names import Address
from controller.views import Deploy, DeployState


@app_command(example="moor deploys\nmoor deploys -a foo", app_optional=True, from_folder=False)
async def deploys(context: Context, *, address: Address | None) -> None:
    """Of one app, or of all that you may view: rollouts, builds that run, and builds that wait, in their order."""
    found = await context.client.deploys(address)
    now = datetime.now(UTC)
    context.output.table(
        ("app", "state", "what", "by", "for", "why", "doing"),
        [
            (
                str(_address(each)),
                each.state.value,
                each.build or f"v{each.version}",
                each.actor,
                _duration((now - each.since).total_seconds()) if each.since else "",
                each.reason,
                each.doing,
            )
            for each in found
        ],
    )
    if not found:
        context.output.detail("Nothing is on its way.")
    context.output.data(found)


@app_command(example="moor deploy:cancel -a foo")
async def cancel(context: Context, *, address: Address) -> None:
    """The build that runs, else the rollout under way, else the build that waits first. What serves goes on
    serving; the push that it belongs to is refused."""
    ended = await context.client.cancel_deploy(address)
    if ended.state is DeployState.ROLLING_OUT:
        context.output.step(f"The rollout of {address} v{ended.version} ends")
    else:
        context.output.step(f"Asked build {ended.build} of {address} ({ended.state.value}) to end")
    context.output.data(ended)


def _address(deploy: Deploy) -> Address:
    return Address(deploy.deployment, deploy.service)


def _duration(seconds: float) -> str:
    whole = max(int(seconds), 0)
    if whole < 60:
        return f"{whole}s"
    return f"{whole // 60}m{whole % 60:02}s" if whole < 3600 else f"{whole // 3600}h{whole // 60 % 60:02}m"
