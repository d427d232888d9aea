"""The entry point of `moor`, and of the same commands behind the SSH endpoint.

Parsing is click's. A command's function is a coroutine function: parsing yields its coroutine,
which `main` runs in a loop of its own, while the SSH endpoint awaits it in the server's loop and
cancels it when the terminal closes.
"""

import errno
import re
import sys
from collections.abc import Coroutine, Sequence
from importlib import import_module
from typing import Any

import click
from click.exceptions import Exit

from cli.context import CommandFailed, Context, Ended
from cli.grammar import Command, app_option, command, help_option, shared_options
from cli.verbs import ALIASES, SECTIONS, VERBS
from controller.errors import InternalFault, InvalidInput, MooringError, Unauthenticated

USAGE_STATUS = 2
INTERRUPTED_STATUS = 130
BROKEN_PIPE_STATUS = 141
_VERB = re.compile(r"[a-z0-9][a-z0-9-]*(:[a-z0-9-]+)*")
GRAMMAR = """\
The app is the one named with -a APP (before or after the verb), else the one that the folder's git
remote `deploy` points at, else the first word. Over SSH it is the first word: ps:scale APP web=2."""


class Root(click.Group):
    """All verbs, each loaded when it is called."""

    def __init__(self) -> None:
        super().__init__(
            "moor",
            params=[app_option(), *shared_options()],
            invoke_without_command=True,
            context_settings={"help_option_names": ["-h", "--help"]},
        )

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [name for name, verb in VERBS.items() if not verb.hidden]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        return load(cmd_name)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        known = load(args[0])
        if known is None and _VERB.fullmatch(args[0]):
            known = of_a_plugin(args[0])
        if known is None:
            raise click.UsageError(unknown_verb(args[0]), ctx)
        return args[0], known, args[1:]

    def get_help_option(self, ctx: click.Context) -> click.Option | None:
        return help_option(self, super().get_help_option(ctx))

    def format_usage(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        program = "moor" if ctx.ensure_object(Context).local else "ssh -p 2222 deploy@HOST"
        formatter.write_usage(program, "[OPTIONS] VERB [APP] [WORD]...")

    def format_help(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        self.format_usage(ctx, formatter)
        local = ctx.ensure_object(Context).local
        for section, verbs in SECTIONS.items():
            rows = [(each.name, each.summary) for each in verbs if not each.hidden]
            if local or section != "This machine":
                with formatter.section(section):
                    formatter.write_dl(rows)
        self.format_options(ctx, formatter)
        formatter.write_paragraph()
        formatter.write_text(GRAMMAR)
        formatter.write_paragraph()
        formatter.write_text(f"`{'moor ' if local else ''}help VERB` shows a verb's options and an example.")

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        click.Command.format_options(self, ctx, formatter)

    def invoke(self, ctx: click.Context) -> Any:
        context = ctx.ensure_object(Context)
        context.app = ctx.params.pop("app", None)
        if not ctx._protected_args:
            context.output.line(ctx.get_help())
            raise Exit(0)
        return super().invoke(ctx)


def load(name: str) -> Command | None:
    """The command of that verb, imported now; None when there is none."""
    verb = VERBS.get(ALIASES.get(name, name))
    if verb is None:
        return None
    module, attribute = verb.target.split(":")
    loaded = getattr(import_module(f"cli.commands.{module}"), attribute)
    assert isinstance(loaded, Command)
    loaded.name, loaded.summary = verb.name, verb.summary
    return loaded


def of_a_plugin(verb: str) -> Command:
    """The command for a word that is no verb of ours: whether the server has it is seen when it runs."""

    @command(example=f"moor {verb}")
    @click.argument("words", nargs=-1, type=click.UNPROCESSED)
    async def call(context: Context, *, words: tuple[str, ...]) -> None:
        from cli.commands.plugins import call_verb

        await call_verb(context, verb, words, unknown_verb(verb))

    call.name, call.context_settings = verb, {"ignore_unknown_options": True}
    return call


def help_text(context: Context, verb: str | None) -> str:
    """The help of a verb, or of everything; raises UsageError for a word that is no verb."""
    program = "moor" if context.local else ""
    with click.Context(ROOT, info_name=program, obj=context, terminal_width=context.output.width) as root:
        if verb is None:
            return root.get_help()
        known = load(verb)
        if known is None:
            raise click.UsageError(unknown_verb(verb))
        return click.Context(known, info_name=known.name, parent=root).get_help()


def unknown_verb(word: str) -> str:
    """The sentence for a word that is no verb, with the one that was meant."""
    import difflib

    close = difflib.get_close_matches(word, [*VERBS, *ALIASES], n=1)
    meant = f" Did you mean {close[0]}?" if close else ""
    return f"There is no verb {word}.{meant}"


ROOT = Root()


def parse(argv: Sequence[str], context: Context) -> int | Coroutine[Any, Any, None]:
    """The coroutine of the command that `argv` asks for, or the exit status where none is left to run.

    `moor server` brings its own event loop: such commands run here, and give their status.
    """
    words = list(argv[1:] if argv[:1] == ["--"] else argv)
    program = "moor" if context.local else ""
    try:
        with ROOT.make_context(program, words, obj=context, terminal_width=context.output.width) as ctx:
            outcome: int | Coroutine[Any, Any, None] = ROOT.invoke(ctx)
            return outcome
    except Exit as end:
        return end.exit_code
    except Exception as error:
        # What is wrong may stand before it, and then it was not read.
        context.output.json = context.output.json or "--json" in words
        return report(error, context)


async def finish(outcome: int | Coroutine[Any, Any, None], context: Context) -> int:
    """Run what `parse` gave to its end; the exit status."""
    if isinstance(outcome, int):
        status = outcome
    else:
        try:
            status = 0
            await outcome
            await context.output.drain()
        except Ended as end:
            status = end.status
        except Exception as error:
            status = report(error, context)
        finally:
            await context.close()
    return status


async def run_words(argv: Sequence[str], context: Context) -> int:
    """Parse and run one command line; the exit status. Errors end as sentences on stderr."""
    return await finish(parse(argv, context), context)


def report(error: Exception, context: Context) -> int:
    """Say what went wrong in the words of the person who asked; the exit status."""
    if _unread(error):
        return BROKEN_PIPE_STATUS
    try:
        return _reported(error, context)
    except OSError as second:
        if _unread(second):
            return BROKEN_PIPE_STATUS
        raise


def _unread(error: Exception) -> bool:
    """Whether nobody reads our output any more (`moor logs | head`), or the terminal is gone."""
    return isinstance(error, ConnectionError) or (isinstance(error, OSError) and error.errno == errno.EIO)


def _reported(error: Exception, context: Context) -> int:
    output = context.output
    code, status = "failed", 1
    match error:
        case click.ClickException():
            code, status = "usage", USAGE_STATUS
            output.note(error.format_message())
            _usage_hint(error, context)
        case CommandFailed():
            if error.log:
                output.note("Its last lines:")
                output.note("\n".join(error.log), mark="       ")
            output.note(str(error))
            if error.hint:
                output.note(error.hint)
        case OSError():
            output.note(f"{error.filename or 'This machine'}: {error.strerror or error}.")
        case MooringError():
            code = error.code
            output.note(str(error))
            if isinstance(error, Unauthenticated) and context.local and "moor login" not in str(error):
                output.note("Log in with `moor login URL`, or set MOOR_TOKEN.")
        case _:
            code = InternalFault.code
            output.note("This is our own mistake, not yours: the command ended unexpectedly.")
            output.note(f"{type(error).__name__}: {error}")
            _keep_traceback(error, context)
    if output.json and not output.answered:
        output.data({"error": {"code": code, "message": str(error), **_field(error)}})
    return status


def _field(error: Exception) -> dict[str, str]:
    return {"field": error.field} if isinstance(error, InvalidInput) else {}


def _usage_hint(error: click.ClickException, context: Context) -> None:
    ctx = error.ctx if isinstance(error, click.UsageError) else None
    program = "moor " if context.local else ""
    if ctx is None or ctx.parent is None:
        context.output.note(f"`{program}help` lists the verbs.")
        return
    context.output.note(ctx.get_usage())
    context.output.note(f"`{program}help {ctx.info_name}` tells more.")


def _keep_traceback(error: Exception, context: Context) -> None:
    import logging

    if not context.local or context.environ.get("MOOR_DEBUG"):
        logging.getLogger(__name__).error("command failed user=%s", context.user or "-", exc_info=error)
    else:
        context.output.note("With MOOR_DEBUG=1 set it prints where; please report that.")


def main() -> int:
    """The console entry point."""
    from cli.terminal import local_context, quiet_exit

    context = local_context()
    try:
        outcome = parse(sys.argv[1:], context)
        if not isinstance(outcome, int):
            import asyncio

            outcome = asyncio.run(finish(outcome, context))
    except KeyboardInterrupt:
        context.output.note("Interrupted.")
        outcome = INTERRUPTED_STATUS
    return quiet_exit(outcome)
