"""Processes: how many run, and starting, stopping, replacing them."""

import re
from dataclasses import replace

import click

from cli.commands.apps import UNNAMED_SHOWN, next_start_text, scale_text, stopped_text
from cli.context import Context
from cli.grammar import app_command
from cli.output import timestamp
from cli.rollout import detach_option, finish_settling
from controller.errors import InvalidInput
from controller.names import Address
from controller.types import Instance
from controller.views import ServiceInfo

_CHANGE = re.compile(r"(?P<type>[A-Za-z0-9][A-Za-z0-9_-]*?)(?:=(?P<set>[+-]?\d{1,6})|(?P<by>[+-]\d{1,6}))")


@app_command(example="moor ps -a foo")
async def ps(context: Context, *, address: Address) -> None:
    instances = await context.client.instances(address)
    info = await context.client.service(address)
    context.output.title(f"{address} processes")
    rows = [
        (
            process_name(each),
            each.state.value,
            f"v{each.version}",
            each.host,
            f"{each.address}:{each.port}" if each.port else "",
            timestamp(each.started_at),
            each.restarts or "",
            each.detail + next_start_text(each),
        )
        for each in instances
    ]
    context.output.table(
        ("process", "state", "version", "host", "address", "since", "restarts", "detail"), rows
    )
    if not rows:
        context.output.detail(_nothing_runs(info))
    elif stopped := stopped_text(info.service):
        context.output.detail(f"Stopped: {stopped}. `ps:start` starts what was stopped.")
    if info.rollout:
        context.output.note(f"Under way: {info.rollout}.")
    context.output.data(instances)


def _nothing_runs(info: ServiceInfo) -> str:
    if info.held is not None:
        return f"Nothing runs. It is held: {info.held}"
    if info.service.stopped or (stopped_text(info.service) and not info.due):
        return "Nothing runs: it was stopped. `ps:start` starts it again."
    return f"Nothing runs. Wanted: {scale_text(info.process_types) or 'nothing'}."


def process_name(instance: Instance) -> str:
    """`web.1`, as log lines call it too."""
    return f"{instance.process_type or UNNAMED_SHOWN}.{instance.number}"


@app_command(example="moor ps:scale -a foo web=2 worker+1\nmoor ps:scale -a foo")
@click.argument("changes", nargs=-1, metavar="[TYPE=N]...")
@detach_option
async def scale(context: Context, *, address: Address, changes: tuple[str, ...], detach: bool) -> None:
    """TYPE=N sets the number; TYPE+N and TYPE-N change it (TYPE=+N and TYPE=-N too: web=-1 is one fewer).
    Without any it prints the scale in the form that it takes. A service without named process types has
    one, which is called web here."""
    if not changes:
        info = await context.client.service(address)
    else:
        wanted = dict(read_change(each) for each in changes)
        context.output.step(f"Scaling {address}")
        await context.client.scale(address, wanted)
        info = await finish_settling(context, address, detach=detach)
    if changes:
        context.output.detail(f"Now: {scale_text(info.process_types)}")
    else:
        context.output.line(scale_text(info.process_types))
    context.output.data(
        [
            {"process_type": name or UNNAMED_SHOWN, "quantity": number}
            for name, number in sorted(info.process_types.items())
        ]
    )


def read_change(text: str) -> tuple[str, str]:
    """`web=2`, `web+1`, `web=-1`: process type and what the client takes; raises InvalidInput."""
    match = _CHANGE.fullmatch(text)
    if not match:
        raise InvalidInput(
            "scale", f"{text!r} says no scale: write TYPE=N, TYPE+N or TYPE-N, such as web=2 or worker+1."
        )
    return match["type"], match["set"] or match["by"]


process_argument = click.argument("process", required=False, metavar="[TYPE|INSTANCE]")


@app_command(example="moor ps:restart -a foo\nmoor ps:restart -a foo web\nmoor ps:restart -a foo web.1")
@process_argument
@detach_option
async def restart(context: Context, *, address: Address, process: str | None, detach: bool) -> None:
    """New instances take over before the old ones stop: of the whole app, of one process type, or one
    instance, named as `ps` and logs name it. Where no healthy one comes up, the old one stays. An app
    of which no version ever came up tries its newest one again."""
    process = _meant(address, process)
    context.output.step(f"Restarting {_shown(address, process)}")
    await context.client.restart(address, process)
    await _settled(context, address, "Restarted", detach=detach)


@app_command(example="moor ps:stop -a foo\nmoor ps:stop -a foo worker\nmoor ps:stop -a foo web.2")
@process_argument
@detach_option
async def stop(context: Context, *, address: Address, process: str | None, detach: bool) -> None:
    """A process type stays stopped until it is started; a single instance until it is started, its type is
    scaled, or a new version comes."""
    process = _meant(address, process)
    context.output.step(f"Stopping {_shown(address, process)}")
    await context.client.stop(address, process)
    await _settled(context, address, "Stopped", detach=detach)


@app_command(example="moor ps:start -a foo\nmoor ps:start -a foo worker\nmoor ps:start -a foo web.2")
@process_argument
@detach_option
async def start(context: Context, *, address: Address, process: str | None, detach: bool) -> None:
    """Without a type or an instance it starts all that was stopped."""
    process = _meant(address, process)
    context.output.step(f"Starting {_shown(address, process)}")
    await context.client.start(address, process)
    await _settled(context, address, "Started", detach=detach)


def _meant(address: Address, process: str | None) -> str | None:
    """`foo:web` says it too."""
    if process is not None and address.process_type is not None:
        raise InvalidInput("process", f"{address} names a process type already: leave {process!r} out.")
    return process if process is not None else address.process_type


def _shown(address: Address, process: str | None) -> str:
    app = replace(address, process_type=None)
    return f"{app} {process}" if process else str(app)


async def _settled(context: Context, address: Address, done: str, *, detach: bool) -> None:
    info = await finish_settling(context, address, detach=detach)
    if not detach:
        context.output.detail(f"{done}; {info.running} running.")
    context.output.data(info)
