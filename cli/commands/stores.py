"""Moving a server's state from one store to another."""

from dataclasses import replace

import click

from cli.commands.server import read_settings
from cli.context import CommandFailed, Context
from cli.grammar import command
from controller.config import ENV_PREFIX
from controller.store.base import StoreError

DRIVERS = ("sqlite", "etcd")


@command(
    example=(
        "moor store:copy --data ~/mooring --from sqlite --to etcd --etcd 10.0.0.1:2379\n"
        "moor store:copy --config server.yaml --from etcd --to sqlite --force"
    ),
    local_only=True,
)
@click.option("--from", "origin", type=click.Choice(DRIVERS), required=True, help="The store to read.")
@click.option("--to", "target", type=click.Choice(DRIVERS), required=True, help="The store to fill.")
@click.option("--config", "file", metavar="FILE", help="YAML file of the server's settings.")
@click.option("--data", metavar="VALUE", help=f"The server's data folder. [{ENV_PREFIX}DATA]")
@click.option("--etcd", metavar="VALUE", help=f"Where etcd is, as for `moor server`. [{ENV_PREFIX}ETCD]")
@click.option("--force", is_flag=True, help="Replace what the target holds already.")
async def copy(
    context: Context,
    *,
    origin: str,
    target: str,
    file: str | None,
    data: str | None,
    etcd: str | None,
    force: bool,
) -> None:
    """Stop the server first: none may run on the data folder meanwhile. What was copied is compared with
    its origin, which stays as it is; a copy that is broken off is never served. Apps go on serving."""
    from cli.drivers import make_store
    from cli.ownership import owned
    from controller.store.copy import copy_store

    if origin == target:
        raise CommandFailed(f"--from and --to are both {origin}.", hint="Name two different stores.")
    settings = read_settings(context, file, {"data": data, "etcd": etcd})
    folders = settings.folders
    if not folders.root.is_dir():
        raise CommandFailed(f"There is no data folder {folders.root}.", hint="--data names it.")
    if origin == "sqlite" and not folders.database.exists():
        raise CommandFailed(f"There is no {folders.database} to copy.", hint="--data names its folder.")

    with owned(folders):
        reading = make_store(replace(settings, store=origin))
        writing = make_store(replace(settings, store=target))
        context.output.step(f"Copying the state from {origin} to {target}")

        def progress(done: int, total: int) -> None:
            if done == total or done % 5000 < 100:
                context.output.detail(f"{done} of {total} entries")

        try:
            copied = await copy_store(reading, writing, force=force, progress=progress)
        except StoreError as error:
            raise CommandFailed(str(error)) from error
        finally:
            await reading.close()
            await writing.close()
    context.output.step(
        f"{copied.entries} entries copied and compared; start the server with --store {target}"
    )
    context.output.data({"from": origin, "to": target, "entries": copied.entries, "removed": copied.removed})
