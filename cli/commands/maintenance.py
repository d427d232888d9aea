"""Maintenance: the router answers for an app, while the app goes on running."""

import click

from cli.context import CommandFailed, Context
from cli.grammar import app_command
from cli.rollout import detach_option, finish_settling
from controller.names import Address
from controller.views import ServiceInfo


@app_command(example="moor maintenance -a foo")
async def show(context: Context, *, address: Address) -> None:
    info = await context.client.service(address)
    _tell(context, address, info)


@app_command(example="moor maintenance:on -a foo\nmoor maintenance:on -a foo --page soon-back.html")
@click.option("--page", metavar="FILE", help="HTML to answer with, at most 8 KiB; - is standard input.")
@detach_option
async def on(context: Context, *, address: Address, page: str | None, detach: bool) -> None:
    """Requests are answered with 503 and a page; those in work are finished, and what runs goes on running.
    Deploys stay possible. Line breaks of the page come out as spaces."""
    text = "" if page is None else await _page(context, page)
    context.output.step(f"Turning maintenance of {address} on")
    await context.client.set_maintenance(address, True, page=text)
    _tell(context, address, await finish_settling(context, address, detach=detach))


@app_command(example="moor maintenance:off -a foo")
@detach_option
async def off(context: Context, *, address: Address, detach: bool) -> None:
    """The page that was given with `maintenance:on` is forgotten."""
    context.output.step(f"Turning maintenance of {address} off")
    await context.client.set_maintenance(address, False)
    _tell(context, address, await finish_settling(context, address, detach=detach))


async def _page(context: Context, file: str) -> str:
    if file == "-":
        return await context.input.everything()
    if context.folder is None:
        raise CommandFailed(
            "Over SSH the page comes on standard input, as files of yours are not here.",
            hint=f"ssh … maintenance:on APP --page - < {file}",
        )
    return context.folder.read(file)


def _tell(context: Context, address: Address, info: ServiceInfo) -> None:
    service = info.service
    page = ", with a page of its own" if service.maintenance_page else ""
    context.output.line(f"Maintenance of {address} is {'on' + page if service.maintenance else 'off'}.")
    context.output.data({"maintenance": service.maintenance, "page": service.maintenance_page})
