"""The server's disk: what uses it, and making room."""

from cli.context import Context
from cli.grammar import app_command, command
from cli.output import size_text
from controller.names import Address
from controller.views import DiskReport, ServiceUsage

KINDS = ("slugs", "images", "apps", "caches", "builds", "logs", "repositories", "volumes")


@app_command(example="moor disk\nmoor disk -a foo", app_optional=True, from_folder=False)
async def disk(context: Context, *, address: Address | None) -> None:
    """Of the whole server, for admins, or of one app. Sizes are measured now."""
    if address is not None:
        usage = await context.client.disk_usage(address)
        context.output.title(f"{address} on the server's disk")
        context.output.facts([(kind, size_text(usage.usage.get(kind, 0))) for kind in KINDS])
        context.output.data(usage)
        return
    report = await context.client.disk()
    _show(context, report)
    context.output.data(report)


@command(example="moor disk:collect")
async def collect(context: Context) -> None:
    """Old versions and builds beyond what is kept, slugs that nothing holds, unpacked slugs that nothing runs,
    build caches beyond their limit. The server does so by itself, too; this is for admins."""
    done = await context.client.collect_disk()
    context.output.step(f"{size_text(done.size)} are free again")
    context.output.facts(
        [(name, getattr(done, name)) for name in ("versions", "builds", "slugs", "images", "apps", "caches")]
    )
    context.output.data(done)


@app_command(example="moor repo:purge-cache -a foo")
async def purge_cache(context: Context, *, address: Address) -> None:
    """The next build begins without a cache: for one that was spoilt."""
    size = await context.client.purge_cache(address)
    context.output.step(f"The build cache of {address} is gone: {size_text(size)}")
    context.output.data({"bytes": size})


def _show(context: Context, report: DiskReport) -> None:
    if report.space is not None:
        space = report.space
        context.output.facts(
            (
                ("disk", f"{size_text(space.free)} of {size_text(space.total)} are free"),
                ("warning", f"below {size_text(space.warning)} room is made, and status warns"),
                ("reserve", f"below {size_text(space.reserve)} pushes are refused"),
            )
        )
    context.output.facts([(kind, size_text(size)) for kind, size in report.usage.items()])
    context.output.table(
        ("app", "total", *KINDS),
        [
            (
                str(Address(each.deployment, each.service)),
                size_text(_total(each)),
                *(size_text(each.usage.get(kind, 0)) for kind in KINDS),
            )
            for each in report.services
        ],
    )


def _total(usage: ServiceUsage) -> int:
    return sum(usage.usage.values())
