"""Taking over what runs in one deployment into another."""

import click

from cli.context import CommandFailed, Context
from cli.grammar import command
from cli.outcomes import follow_change, print_plan, say_change
from cli.rollout import detach_option
from controller.names import Address, check_name


@command(
    example="moor promote staging production\nmoor promote staging production web --plan",
)
@click.argument("source", metavar="FROM")
@click.argument("target", metavar="TO")
@click.argument("services", nargs=-1, metavar="[SERVICE]...")
@click.option("--plan", is_flag=True, help="Only show what would change.")
@detach_option
async def promote(
    context: Context, *, source: str, target: str, services: tuple[str, ...], plan: bool, detach: bool
) -> None:
    """What serves in FROM becomes a version in TO: the same slug or image, and the same commit, with the config of TO
    and without a build. Without a SERVICE it is all that are in both. It takes the right to deploy on both."""
    for name in (source, target):
        check_name(name, "app name")
    outcome = await context.client.promote(source, target, services, plan=plan)
    for note in outcome.notes:
        context.output.note(note)
    failed = list[str]()
    if not outcome.changes:
        context.output.line("No changes.")
    elif plan:
        print_plan(context, outcome)
    else:
        for change in outcome.changes:
            say_change(context, outcome, change)
            if change.version is not None and not detach:
                failed += await follow_change(context, Address(target, change.service), change.version)
    context.output.data({"outcome": outcome, "failures": failed})
    if failed:
        raise CommandFailed(" ".join(failed), hint="What served before serves on.")
