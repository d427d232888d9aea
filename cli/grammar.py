"""How commands are written: verb, app, words, options, the same at both doors.

**Which app?** The one named with `-a APP` (`--app`, `-D`, `--deployment`), before or after the verb.
Else the one that the folder's git remote `deploy` points at. Else the first word. Over SSH there is
no folder, so that this is Dokku's grammar: `ps:scale foo web=2`. A verb that takes no words beside
the app takes a word as the app in every case: `moor releases foo`.
"""

import inspect
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any

import click
from click.exceptions import Exit

from cli.context import Context
from cli.folder import DEFAULT_REMOTE
from controller.errors import InvalidInput
from controller.names import Address, parse_address

Action = Callable[..., Awaitable[None] | int]
"""`int`: a command that needs an event loop of its own, and gives its exit status."""

APP_HINT = "-a APP"
FIRST_WORD_IS_APP = "first word is app"
LOCAL_OPTIONS = frozenset({"server", "remote"})
"""They choose what an SSH session has chosen already."""


def _shared_flag(name: str) -> Callable[[click.Context, click.Parameter, bool], None]:
    def remember(ctx: click.Context, _parameter: click.Parameter, given: bool) -> None:
        if given:
            setattr(ctx.ensure_object(Context).output, name, True)

    return remember


def _remember_server(ctx: click.Context, _parameter: click.Parameter, value: str | None) -> None:
    if value is not None:
        ctx.ensure_object(Context).server = value


def shared_options() -> list[click.Parameter]:
    """Options that work before and after every verb."""
    return [
        click.Option(
            ["-q", "--quiet"],
            is_flag=True,
            expose_value=False,
            callback=_shared_flag("quiet"),
            help="Print answers only: no headers, no progress.",
        ),
        click.Option(
            ["--json"],
            is_flag=True,
            expose_value=False,
            callback=_shared_flag("json"),
            help="Print one JSON document (streams: one a line).",
        ),
        click.Option(
            ["--server"],
            metavar="URL",
            expose_value=False,
            callback=_remember_server,
            help="Ask this server, of those you logged in to.",
        ),
    ]


def app_option() -> click.Option:
    return click.Option(
        ["-a", "--app", "-D", "--deployment", "app"],
        metavar="APP",
        help="The app: DEPLOYMENT or DEPLOYMENT/SERVICE.",
    )


def _remote_option() -> click.Option:
    return click.Option(
        ["--remote"],
        metavar="NAME",
        default=DEFAULT_REMOTE,
        show_default=True,
        help="Take the app from this git remote.",
    )


class Command(click.Command):
    """A verb. Prints through the Context, and ends its help with an example."""

    def __init__(self, *args: Any, example: str = "", local_only: bool = False, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.example = example
        self.local_only = local_only
        self.summary = ""
        """Set from the table of verbs when it is loaded."""
        self.params = [*self.params, *self.own_options(), *shared_options()]

    def own_options(self) -> list[click.Parameter]:
        """What commands of this kind have beside those declared for each."""
        return []

    def get_help_option(self, ctx: click.Context) -> click.Option | None:
        return help_option(self, super().get_help_option(ctx))

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        params = super().get_params(ctx)
        if ctx.ensure_object(Context).local:
            return params
        return [each for each in params if each.name not in LOCAL_OPTIONS]

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args)
        except click.UsageError as error:
            error.ctx = error.ctx or ctx  # click's parser leaves it out, and then no usage line is shown
            raise

    def format_help_text(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        formatter.write_paragraph()
        with formatter.indentation():
            formatter.write_text(self.summary)
            if self.help:
                formatter.write_paragraph()
                formatter.write_text(self.help)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Example" if "\n" not in self.example else "Examples"):
            for line in self.example_lines(ssh=not ctx.ensure_object(Context).local):
                formatter.write(f"  {line}\n")

    def example_lines(self, *, ssh: bool) -> Sequence[str]:
        """The examples in the grammar of one door."""
        return [ssh_example(line) if ssh else line for line in self.example.splitlines()]

    def invoke(self, ctx: click.Context) -> Any:
        if self.local_only and not ctx.ensure_object(Context).local:
            raise click.UsageError(
                f"{ctx.info_name} works on your own machine only: run `moor {ctx.info_name}` there.", ctx
            )
        return super().invoke(ctx)


def ssh_example(line: str) -> str:
    """A local example as it is typed over SSH: the verb, then the app, then the rest."""
    pipe, _, command = line.rpartition("moor ")
    words = command.split(" ")
    for flag in ("-a", "-D"):
        if flag in words:
            at = words.index(flag)
            app = words[at + 1]
            del words[at : at + 2]
            words.insert(1, app)
    return f"{pipe}ssh -p 2222 deploy@HOST {' '.join(words)}"


def help_option(command: click.Command, option: click.Option | None) -> click.Option | None:
    """Click's own help option, printing through the Context instead of sys.stdout."""

    def show(ctx: click.Context, _parameter: click.Parameter, wanted: bool) -> None:
        if wanted and not ctx.resilient_parsing:
            ctx.ensure_object(Context).output.line(ctx.get_help())
            raise Exit(0)

    if option is not None:
        option.callback = show
        option.help = "Show this help."
    return option


class AppCommand(Command):
    """A verb about one app. Its function gets `address`."""

    def __init__(
        self,
        *args: Any,
        app_optional: bool = False,
        from_folder: bool = True,
        takes_command: bool = False,
        **kwargs: Any,
    ) -> None:
        self.app_optional = app_optional
        self.from_folder = from_folder
        self.takes_command = takes_command
        self._word = click.Argument(["app_word"], required=False, metavar="APP")
        super().__init__(*args, **kwargs)
        # What follows a command's first word is the command's own, also when it looks like an option of ours.
        self.allow_interspersed_args = not takes_command

    def own_options(self) -> list[click.Parameter]:
        return [app_option(), *([_remote_option()] if self.from_folder else [])]

    @property
    def takes_words(self) -> bool:
        return any(isinstance(each, click.Argument) for each in self.params)

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        params = super().get_params(ctx)
        return [self._word, *params] if ctx.meta.get(FIRST_WORD_IS_APP) else params

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        context = ctx.ensure_object(Context)
        args = self._with_app_in_front(ctx, context, args)
        options = self._options(ctx, args)
        named = options.get("app", context.app)
        if named is None and self.takes_words:
            named = self._folder_app(context, options)
        ctx.meta[FIRST_WORD_IS_APP] = named is None
        word = self._options(ctx, args).get("app_word")
        if word is not None:
            _check_word(ctx, word)
        try:
            rest = super().parse_args(ctx, args)
        except click.MissingParameter as error:
            if word is None:
                raise
            raise click.UsageError(f"{error.format_message()} ({word} was taken as the app.)", ctx) from error
        ctx.params.pop("app_word", None)
        app = named if named is not None else word
        if app is None and not self.takes_words:
            app = self._folder_app(context, ctx.params)
        ctx.params["app"] = app
        return rest

    def _with_app_in_front(self, ctx: click.Context, context: Context, args: list[str]) -> list[str]:
        """`run foo -e A=1 bash`: options may stand between the app and a command."""
        if not self.takes_command or not args or args[0].startswith("-"):
            return args
        named = context.app is not None or self._folder_app(context, {}) is not None
        return args if named else ["-a", *args]

    def _options(self, ctx: click.Context, args: list[str]) -> dict[str, str]:
        """What is given, before any checks; nothing when the words are off, as the parsing proper tells."""
        with suppress(click.UsageError):
            options, _, _ = self.make_parser(ctx).parse_args(list(args))
            return {name: value for name, value in options.items() if isinstance(value, str)}
        return {}

    def _folder_app(self, context: Context, options: dict[str, Any]) -> str | None:
        if not self.from_folder or context.folder is None:
            return None
        return context.folder.remote_app(options.get("remote", DEFAULT_REMOTE))

    def invoke(self, ctx: click.Context) -> Any:
        app = ctx.params.pop("app")
        ctx.params.pop("remote", None)
        if app is None and not self.app_optional:
            raise click.UsageError(_no_app(ctx), ctx)
        ctx.params["address"] = parse_address(app) if app is not None else None
        return super().invoke(ctx)

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        pieces = super().collect_usage_pieces(ctx)
        local = ctx.ensure_object(Context).local
        word = APP_HINT if local and self.takes_words else "APP"
        shown = f"[{word}]" if local or self.app_optional else word
        return [shown, *(piece for piece in pieces if piece.strip("[]") != "APP")]


def _check_word(ctx: click.Context, word: str) -> None:
    """Raise UsageError where the first word can't be an app: most likely none was named."""
    try:
        parse_address(word)
    except InvalidInput as error:
        raise click.UsageError(f"{error} {_no_app(ctx)}", ctx) from error


def _no_app(ctx: click.Context) -> str:
    if ctx.ensure_object(Context).local:
        return (
            f"Which app? Name it with {APP_HINT}, or call this in a folder whose git remote "
            f"`{DEFAULT_REMOTE}` points at one (`moor remote:add APP` makes it)."
        )
    return f"Which app? Name it after the verb: {ctx.info_name} APP."


def _decorator(kind: type[Command], **settings: Any) -> Callable[[Action], Command]:
    def decorate(action: Action) -> Command:
        def run(**params: Any) -> Awaitable[None] | int:
            return action(click.get_current_context().ensure_object(Context), **params)

        run.__click_params__ = getattr(action, "__click_params__", [])  # type: ignore[attr-defined]
        run.__doc__ = inspect.cleandoc(action.__doc__ or "") or None
        return click.command(cls=kind, **settings)(run)

    return decorate


def command(*, example: str, local_only: bool = False) -> Callable[[Action], Command]:
    """Make a verb of `async def action(context, …)`. Its docstring is printed in its help, below the summary."""
    return _decorator(Command, example=example, local_only=local_only)


def app_command(
    *, example: str, app_optional: bool = False, from_folder: bool = True, takes_command: bool = False
) -> Callable[[Action], Command]:
    """Make a verb of `async def action(context, *, address, …)`; `app_optional`: address may be None.

    `from_folder` False: the app is never taken from the folder's git remote. `takes_command`: its words are a
    command, with options of its own; ours stand before it.
    """
    return _decorator(
        AppCommand,
        example=example,
        app_optional=app_optional,
        from_folder=from_folder,
        takes_command=takes_command,
    )


def only_deployment(address: Address) -> str:
    """The deployment, where a service or process type can't be meant."""
    if str(address) != address.deployment:
        raise click.UsageError(
            f"This is about a whole deployment: write {address.deployment} instead of {address}."
        )
    return address.deployment
