"""Folders of services that outlive their versions."""

import click

from cli.backups import (
    days_option,
    keep_option,
    off_option,
    plan_detail,
    print_data,
    read_data,
    read_times,
    schedule_argument,
    show_backups,
    show_plan,
)
from cli.commands.git import follow_delivery
from cli.context import CommandFailed, Context
from cli.grammar import app_command
from cli.output import size_text
from controller.names import DEFAULT_SERVICE, Address


@app_command(example="moor volumes -a foo")
async def volumes(context: Context, *, address: Address) -> None:
    """Each service says by `volumes` in its definition which it has. Sizes are measured now."""
    found = await context.client.volumes(address.deployment)
    if address.service != DEFAULT_SERVICE:
        found = [each for each in found if each.service == address.service]
    context.output.title(f"{address} volumes")
    context.output.table(
        ("service", "volume", "size", "path", "backed up", "detail"),
        [
            (
                each.service,
                each.name,
                size_text(each.size),
                each.path or "(no longer in the definition)",
                f"{each.backup.schedule} (UTC)" if each.backup else "",
                plan_detail(each.backup),
            )
            for each in found
        ],
    )
    if not found:
        context.output.detail("None: set-service SERVICE '{volumes: {data: /srv/data}}' makes one.")
    context.output.data(found)


@app_command(example="moor volumes:backup -a foo/redis data")
@click.argument("name")
async def backup(context: Context, *, address: Address, name: str) -> None:
    """As a tar, where backups of resources go too. Files that change while it is read are of different moments: stop
    the app first where that matters (ps:stop)."""
    await follow_delivery(context, context.client.back_up_volume(address, name))


@app_command(example="moor volumes:backups -a foo/redis data")
@click.argument("name")
async def backups(context: Context, *, address: Address, name: str) -> None:
    found = await context.client.volume_backups(address, name)
    show_backups(context, f"{address} {name} backups", found, verb="volumes:backup")


@app_command(
    example='moor volumes:schedule -a foo/redis data "0 3 * * *" --keep 7\n'
    "moor volumes:schedule -a foo/redis data\n"
    "moor volumes:schedule -a foo/redis data --off"
)
@click.argument("name")
@schedule_argument
@keep_option
@days_option
@off_option
async def schedule(
    context: Context,
    *,
    address: Address,
    name: str,
    schedule: tuple[str, ...],
    keep: int | None,
    days: int | None,
    off: bool,
) -> None:
    """Minute, hour, day of the month, month and day of the week as in a crontab, in UTC. Without a SCHEDULE it is
    shown. Times that the server misses it makes up for once. Backups that people ask for are not removed. The app
    goes on running meanwhile: files that change are of different moments."""
    verb = f"volumes:schedule -a {address} {name}"
    times = read_times(schedule, keep, days, off=off, verb=verb)
    if times.off:
        found = await context.client.unschedule_volume_backups(address, name)
    elif times.schedule:
        found = await context.client.schedule_volume_backups(
            address, name, times.schedule, keep=times.keep, days=times.days
        )
    else:
        found = await context.client.volume_schedule(address, name)
    show_plan(context, f"{address} {name} backup schedule", found.backup, verb=verb)


@app_command(
    example="moor volumes:restore -a foo/redis data\nmoor volumes:restore -a foo/redis data 20260101T030000"
)
@click.argument("name")
@click.argument("backup", required=False)
async def restore(context: Context, *, address: Address, name: str, backup: str | None) -> None:
    """The newest one where none is named. The app must be stopped. Everything in the volume is replaced at once; where
    that fails it stays as it was."""
    await follow_delivery(context, context.client.restore_volume(address, name, backup))


@app_command(example="moor volumes:export -a foo/redis data > data.tar.zst")
@click.argument("name")
async def export(context: Context, *, address: Address, name: str) -> None:
    """In zstd, with times and modes. Owners don't count: what is imported is the app's."""
    await print_data(context, context.client.export_volume(address, name), verb=f"volumes:export {name}")


@app_command(example="moor volumes:import -a foo/redis data < data.tar.zst")
@click.argument("name")
async def import_(context: Context, *, address: Address, name: str) -> None:
    """Plain, or in gzip or zstd: files, folders and links. The app must be stopped. Everything in the volume is
    replaced at once; where that fails it stays as it was."""
    pieces = read_data(context, verb=f"volumes:import {name}")
    await context.client.import_volume(address, name, pieces)
    context.output.step(f"{name} of {address} has the data that were sent")
    context.output.data({"imported": name})


@app_command(
    example="moor volumes:destroy -a foo data\nmoor volumes:destroy -a foo/redis data --confirm data"
)
@click.argument("name")
@click.option("--confirm", metavar="NAME", help="The name once more, instead of being asked.")
async def destroy(context: Context, *, address: Address, name: str, confirm: str | None) -> None:
    """With all that is in it, and its schedule; its backups stay. One that the service's definition still has, or a
    version that runs, is refused."""
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
