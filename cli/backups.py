"""What commands about saved data have in common."""

from collections.abc import AsyncGenerator, AsyncIterator, Sequence

from cli.console import Console
from cli.context import CommandFailed, Context, opened
from cli.output import size_text, timestamp
from controller.views import BackupInfo


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
