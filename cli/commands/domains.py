"""Domains: under which names an app is reached."""

from collections.abc import Sequence
from urllib.parse import urlsplit

import click

from cli.context import Context
from cli.grammar import app_command
from controller.names import Address, check_domain


@app_command(example="moor domains -a foo")
async def domains(context: Context, *, address: Address) -> None:
    """Where a password is asked for, the last column says how: it comes from the section Domains of a service file."""
    info = await context.client.service(address)
    found = [
        {
            "domain": domain,
            "url": next((url for url in info.urls if urlsplit(url).hostname == domain), ""),
            "password": info.service.guards[domain].mode.value if domain in info.service.guards else "",
        }
        for domain in info.domains
    ]
    context.output.title(f"{address} domains")
    context.output.table(("domain", "url", "password"), [list(each.values()) for each in found])
    context.output.data(found)


@app_command(example="moor domains:add -a foo www.example.org")
@click.argument("names", nargs=-1, required=True, metavar="DOMAIN...")
async def add(context: Context, *, address: Address, names: tuple[str, ...]) -> None:
    """Point their DNS records at this server first. `*.example.org` takes every name below it."""
    wanted = [check_domain(each) for each in names]
    left = await context.client.add_domains(address, wanted)
    _print(context, address, f"{', '.join(wanted)} leads to {address} now", left)


@app_command(example="moor domains:remove -a foo www.example.org")
@click.argument("names", nargs=-1, required=True, metavar="DOMAIN...")
async def remove(context: Context, *, address: Address, names: tuple[str, ...]) -> None:
    unwanted = [check_domain(each) for each in names]
    left = await context.client.remove_domains(address, unwanted)
    _print(context, address, f"{', '.join(unwanted)} leads to {address} no more", left)


def _print(context: Context, address: Address, what: str, left: Sequence[str]) -> None:
    context.output.step(what)
    context.output.data({"app": str(address), "domains": list(left)})
