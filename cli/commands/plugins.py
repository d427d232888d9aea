"""Plugins of the server: which there are, how they do, and their verbs."""

import click

from cli.context import Context
from cli.grammar import command
from controller.errors import MooringError


@command(example="moor plugins\nmoor plugins --json")
async def plugins(context: Context) -> None:
    """For admins. What is on, what is off and why, how often each was called, and how long that took."""
    report = await context.client.plugins()
    context.output.table(
        ("plugin", "state", "from", "hooks", "acts on", "calls", "errors", "seconds", "detail"),
        [
            (
                each.name,
                each.standing,
                each.source,
                " ".join(each.hooks),
                " ".join(each.keys),
                each.calls or "",
                each.errors or "",
                f"{each.seconds:.3f}" if each.calls else "",
                each.why or each.last_error,
            )
            for each in report.plugins
        ],
    )
    for deployment, keys in sorted(report.unclaimed.items()):
        context.output.detail(f"{deployment}: no plugin acts on {', '.join(keys)}; what was written is kept.")
    if report.trace:
        context.output.detail("Each call is in the server's log (plugins:trace off).")
    context.output.data(report)


@command(example="moor plugins:resume notify")
@click.argument("name")
async def resume(context: Context, *, name: str) -> None:
    """One that was suspended, as it did not answer in time. What it missed it is told then."""
    info = await context.client.resume_plugin(name)
    context.output.step(f"{info.name} goes on")
    context.output.data(info)


@command(example="moor plugins:trace on\nmoor plugins:trace off")
@click.argument("switch", type=click.Choice(["on", "off"]))
async def trace(context: Context, *, switch: str) -> None:
    """Each call with its time, in the server's log, until the server starts anew."""
    on = await context.client.trace_plugins(on=switch == "on")
    context.output.step(f"Calls of plugins are {'' if on else 'no longer '}in the server's log")
    context.output.data({"trace": on})


@command(example="moor plugins:verbs")
async def verbs(context: Context) -> None:
    """They run on the server, and are typed like any other: `moor NAME:VERB`, and over SSH."""
    found = await context.client.plugin_verbs()
    context.output.table(("verb", "plugin", ""), [(each.verb, each.plugin, each.summary) for each in found])
    if not found:
        context.output.detail("No plugin has any.")
    context.output.data(found)


async def call_verb(context: Context, verb: str, words: tuple[str, ...], unknown: str) -> None:
    """A verb that is none of ours: the server may have it from a plugin. Raises UsageError where it has not, or can't
    be asked."""
    deployment = context.app.partition("/")[0] if context.app else None
    try:
        known = await context.client.plugin_verbs()
    except MooringError as error:
        raise click.UsageError(unknown) from error
    if verb not in [each.verb for each in known]:
        raise click.UsageError(unknown)
    lines = await context.client.call_verb(verb, words, deployment=deployment)
    for line in lines:
        context.output.line(line)
    context.output.data({"lines": lines})
