"""What commands about saved data have in common."""

from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from dataclasses import dataclass

import click

from cli.console import Console
from cli.context import CommandFailed, Context, opened
from cli.output import size_text, timestamp
from controller.operations.backupplans import KEEP
from controller.views import BackupInfo, BackupPlanInfo

schedule_argument = click.argument("schedule", nargs=-1)
keep_option = click.option(
    "--keep", type=int, metavar="N", help=f"How many of these backups are kept: {KEEP} where it is not given."
)
days_option = click.option(
    "--days", type=int, metavar="N", help="How many days they are kept; the newest stays in any case."
)
off_option = click.option("--off", is_flag=True, help="Not any longer. The backups that there are stay.")


@dataclass(frozen=True, kw_only=True)
class Times:
    """When something is to be backed up by itself, as people say it."""

    schedule: str
    """Empty: it is only shown, or taken away."""
    keep: int
    days: int
    off: bool


def read_times(
    schedule: tuple[str, ...], keep: int | None, days: int | None, *, off: bool, verb: str
) -> Times:
    """`verb`: the command, with what it is about. Raises CommandFailed for what does not go together."""
    if off and (schedule or keep is not None or days is not None):
        raise CommandFailed("--off goes with nothing else.", hint=f"{verb} --off")
    if not schedule and (keep is not None or days is not None):
        raise CommandFailed("--keep and --days go with a schedule.", hint=f'{verb} "0 3 * * *" --keep 7')
    # An ssh client takes the quotation marks away.
    return Times(schedule=" ".join(schedule), keep=KEEP if keep is None else keep, days=days or 0, off=off)


def show_plan(context: Context, title: str, plan: BackupPlanInfo | None, *, verb: str) -> None:
    """`verb`: as in `read_times`."""
    context.output.title(title)
    if plan is None:
        context.output.detail(f'None: {verb} "0 3 * * *" makes one.')
    context.output.facts(tuple(plan_facts(plan)))
    context.output.data(plan)


def plan_facts(plan: BackupPlanInfo | None) -> Iterator[tuple[str, str]]:
    if plan is not None:
        days = f", for {plan.days} days at most" if plan.days else ""
        yield "backed up", f"{plan.schedule} (UTC)"
        yield "backups kept", f"{plan.keep}{days}"
        yield "next backup", timestamp(plan.next_at) or "none while nothing that serves, or will, has it"
        yield "backup failure", plan.failure


def plan_detail(plan: BackupPlanInfo | None) -> str:
    """What stands in a list where the last turn failed."""
    return f"backup failed: {plan.failure}" if plan is not None and plan.failure else ""


def show_backups(context: Context, title: str, found: Sequence[BackupInfo], *, verb: str) -> None:
    """Newest first. `verb`: what makes one."""
    newest = list(reversed(found))
    context.output.title(title)
    context.output.table(
        ("backup", "made", "size", "by"),
        [(each.id, timestamp(each.created_at), size_text(each.size), _maker(each)) for each in newest],
    )
    if not newest:
        context.output.detail(f"None: {verb} makes one.")
    context.output.data(newest)


async def print_data(context: Context, pieces: AsyncIterator[bytes], *, verb: str) -> None:
    """To standard output, which must be no terminal."""
    console = _console(context)
    if context.output.terminal:
        raise CommandFailed("The data would go to a terminal.", hint=f"Send them to a file: {verb} > FILE.")
    async with opened(pieces) as given:
        async for piece in given:
            await console.write(1, piece)


def read_data(context: Context, *, verb: str) -> AsyncGenerator[bytes, None]:
    """From standard input, which must be no terminal."""
    if context.input.terminal:
        raise CommandFailed(
            "Standard input is a terminal, and data are expected there.",
            hint=f"Send them from a file: {verb} < FILE.",
        )
    return _pieces(_console(context))


def _maker(backup: BackupInfo) -> str:
    return "its schedule" if backup.scheduled else backup.actor


def _console(context: Context) -> Console:
    assert context.open_console is not None
    return context.open_console()


async def _pieces(console: Console) -> AsyncGenerator[bytes, None]:
    while piece := await console.read():
        yield piece
