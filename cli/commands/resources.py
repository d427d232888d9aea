"""Databases of a deployment, and the like: making them, giving them to services, saving what they have."""

import click

from cli.backups import (
    days_option,
    keep_option,
    off_option,
    plan_detail,
    plan_facts,
    print_data,
    read_data,
    read_times,
    schedule_argument,
    show_backups,
    show_plan,
)
from cli.commands.git import follow_delivery
from cli.context import CommandFailed, Context
from cli.grammar import app_command, only_deployment
from cli.output import timestamp
from cli.rollout import detach_option, finish_change, follow
from controller.names import Address
from controller.views import ResourceInfo


@app_command(example="moor resources -a foo")
async def resources(context: Context, *, address: Address) -> None:
    found = await context.client.resources(only_deployment(address))
    context.output.title(f"{address} resources")
    context.output.table(
        ("resource", "kind", "status", "attached to", "detail"),
        [(each.name, each.kind, each.status.value, _attached_text(each), _detail(each)) for each in found],
    )
    if not found:
        context.output.detail("None: resources:create postgres makes one.")
    context.output.data(found)


@app_command(
    example="moor resources:create -a foo postgres\n"
    "moor resources:create -a foo redis cache\n"
    "moor resources:create -a foo postgres db --url postgres://user:secret@db.example.org/foo"
)
@click.argument("kind")
@click.argument("name", required=False)
@click.option("--url", metavar="URL", help="Of a server that is kept elsewhere: none is run here.")
@detach_option
async def create(
    context: Context, *, address: Address, kind: str, name: str | None, url: str | None, detach: bool
) -> None:
    """Without a NAME it is called by its kind. Its server is a service of the app under that name, with a volume, and
    uses what is installed on the machine (Debian's postgresql, redis-server)."""
    deployment = only_deployment(address)
    made = await context.client.create_resource(deployment, kind, name or kind, url=url)
    context.output.step(f"Creating {made.kind} {made.name} for {deployment}")
    if not made.external and not detach:
        last = await follow(context, Address(deployment, made.name), 1)
        if last.failure:
            raise CommandFailed(
                f"{made.name} does not come up: {last.failure}",
                log=last.version.failure_log if last.version else (),
                hint=f"`resources:destroy -a {deployment} {made.name}` takes it away again.",
            )
    context.output.detail(f"resources:attach -a {deployment} {made.name} gives it to the app.")
    context.output.data(await context.client.resource(deployment, made.name))


@app_command(example="moor resources:info -a foo db")
@click.argument("name")
async def info(context: Context, *, address: Address, name: str) -> None:
    """With what services find in their environment, for those who may read config."""
    deployment = only_deployment(address)
    found = await context.client.resource(deployment, name)
    backups = [] if found.external else await context.client.backups(deployment, name)
    context.output.title(f"{deployment} {name} information")
    context.output.facts(
        (
            ("kind", found.kind),
            ("status", found.status.value),
            ("failure", found.failure),
            ("kept", "elsewhere" if found.external else f"as the service {Address(deployment, name)}"),
            *found.plan.items(),
            ("attached to", _attached_text(found)),
            *plan_facts(found.backup),
            ("last backup", timestamp(backups[-1].created_at) if backups else ""),
            ("created", timestamp(found.created_at)),
            ("created by", found.created_by),
            *((f"values.{key}", each) for key, each in found.values.items()),
        )
    )
    context.output.data(found)


@app_command(example="moor resources:attach -a foo db\nmoor resources:attach -a foo/web db --as REPORTS")
@click.argument("name")
@click.option(
    "--as", "prefix", metavar="PREFIX", default="", help="Variables PREFIX_URL, PREFIX_HOST and so on."
)
@detach_option
async def attach(context: Context, *, address: Address, name: str, prefix: str, detach: bool) -> None:
    """Without --as the service finds it as its kind is known: DATABASE_URL, REDIS_URL."""
    change = await context.client.attach_resource(address, name, prefix=prefix)
    context.output.step(f"Attaching {name} to {address}")
    await finish_change(context, address, change, detach=detach)


@app_command(example="moor resources:detach -a foo db")
@click.argument("name")
@detach_option
async def detach(context: Context, *, address: Address, name: str, detach: bool) -> None:
    change = await context.client.detach_resource(address, name)
    context.output.step(f"Detaching {name} from {address}")
    await finish_change(context, address, change, detach=detach)


@app_command(example="moor resources:backup -a foo db")
@click.argument("name")
async def backup(context: Context, *, address: Address, name: str) -> None:
    await follow_delivery(context, context.client.back_up(only_deployment(address), name))


@app_command(example="moor resources:backups -a foo db")
@click.argument("name")
async def backups(context: Context, *, address: Address, name: str) -> None:
    deployment = only_deployment(address)
    found = await context.client.backups(deployment, name)
    show_backups(context, f"{deployment} {name} backups", found, verb="resources:backup")


@app_command(
    example='moor resources:schedule -a foo db "0 3 * * *" --keep 7\n'
    "moor resources:schedule -a foo db\n"
    "moor resources:schedule -a foo db --off"
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
    shown. Times that the server misses it makes up for once. Backups that people ask for are not removed."""
    deployment = only_deployment(address)
    verb = f"resources:schedule -a {deployment} {name}"
    times = read_times(schedule, keep, days, off=off, verb=verb)
    if times.off:
        found = await context.client.unschedule_backups(deployment, name)
    elif times.schedule:
        found = await context.client.schedule_backups(
            deployment, name, times.schedule, keep=times.keep, days=times.days
        )
    else:
        found = await context.client.resource(deployment, name)
    show_plan(context, f"{deployment} {name} backup schedule", found.backup, verb=verb)


@app_command(example="moor resources:restore -a foo db\nmoor resources:restore -a foo db 20260101T030000")
@click.argument("name")
@click.argument("backup", required=False)
async def restore(context: Context, *, address: Address, name: str, backup: str | None) -> None:
    """The newest one where none is named. Everything that the resource has is replaced; where that fails its data stay
    as they were."""
    await follow_delivery(context, context.client.restore(only_deployment(address), name, backup))


@app_command(example="moor resources:export -a foo db > foo.dump")
@click.argument("name")
async def export(context: Context, *, address: Address, name: str) -> None:
    """As its own tools write them: postgres for pg_restore, redis as RDB."""
    pieces = context.client.export_data(only_deployment(address), name)
    await print_data(context, pieces, verb=f"resources:export {name}")


@app_command(example="moor resources:import -a foo db < foo.dump")
@click.argument("name")
async def import_(context: Context, *, address: Address, name: str) -> None:
    """What resources:export gave. Everything that the resource has is replaced; where it fails its data stay."""
    pieces = read_data(context, verb=f"resources:import {name}")
    found = await context.client.import_data(only_deployment(address), name, pieces)
    context.output.step(f"{name} has the data that were sent")
    context.output.data(found)


@app_command(example="moor resources:destroy -a foo db\nmoor resources:destroy -a foo db --confirm db")
@click.argument("name")
@click.option("--confirm", metavar="NAME", help="The name once more, instead of being asked.")
async def destroy(context: Context, *, address: Address, name: str, confirm: str | None) -> None:
    """With all of its data. Its backups stay where they are kept, and its admin finds them there."""
    deployment = only_deployment(address)
    await context.client.resource(deployment, name)
    if confirm is None:
        if not context.input.terminal:
            raise CommandFailed(
                f"Destroying {name} needs your word for it, and there is no terminal to ask at.",
                hint=f"Add --confirm {name}.",
            )
        context.output.note(f"This destroys {name} of {deployment} with all of its data.")
        context.output.prompt(f" !     Type {name} to go on: ")
        confirm = (await context.input.line()).strip()
    if confirm != name:
        raise CommandFailed(f"That was not {name}: nothing was destroyed.")
    await context.client.destroy_resource(deployment, name)
    context.output.step(f"Destroyed {name}")
    context.output.data({"destroyed": name})


def _detail(found: ResourceInfo) -> str:
    return found.failure or plan_detail(found.backup)


def _attached_text(found: ResourceInfo) -> str:
    return ", ".join(
        f"{service} as {prefix}" if prefix else service for service, prefix in sorted(found.attached.items())
    )
