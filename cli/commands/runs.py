"""One-offs: commands that run once, in an app's code and environment."""

from datetime import timedelta
from typing import Any

import click

from cli.console import put_through
from cli.context import CommandFailed, Context, Ended, opened
from cli.durations import Duration
from cli.grammar import app_command
from cli.output import timestamp
from controller.errors import InvalidInput
from controller.names import Address
from controller.types import Run, RunStatus

command_words = click.argument("words", nargs=-1, required=True, metavar="COMMAND...")
type_option = click.option(
    "--type", "process_type", metavar="TYPE", default="", help="With this process type's limits."
)
env_option = click.option(
    "-e",
    "--env",
    "pairs",
    multiple=True,
    metavar="NAME=VALUE",
    help="A variable for this run alone; may be given several times.",
)
ttl_option = click.option(
    "--ttl",
    type=Duration(),
    metavar="TIME",
    help="End it after this time, such as 90m; else the server's limit.",
)


no_tty_option = click.option(
    "--no-tty", is_flag=True, help="Without a terminal: output and errors stay apart."
)


@app_command(
    example="moor run -a foo bash\nmoor run -a foo --no-tty -e DEBUG=1 'cat >copy'", takes_command=True
)
@type_option
@env_option
@ttl_option
@no_tty_option
@command_words
async def run(
    context: Context,
    *,
    address: Address,
    words: tuple[str, ...],
    process_type: str,
    pairs: tuple[str, ...],
    ttl: timedelta | None,
    no_tty: bool,
) -> None:
    """In a fresh process beside the app's own, which ends, with all that it began, when you go. One word is a
    shell line as it is, several are a program and its arguments; a process type's name stands for its
    command. Options stand before the command. With a terminal at both ends (over SSH: ssh -t) it gets one. Its
    exit status becomes this one's."""
    await _attach(
        context,
        address,
        words,
        no_tty=no_tty,
        env=read_pairs(pairs),
        ttl=None if ttl is None else ttl.total_seconds(),
        process_type=process_type,
    )


@app_command(example="moor enter -a foo\nmoor enter -a foo web.1 ls -l", takes_command=True)
@no_tty_option
@click.argument("process", required=False)
@click.argument("words", nargs=-1, metavar="[COMMAND]...")
async def enter(
    context: Context, *, address: Address, process: str | None, words: tuple[str, ...], no_tty: bool
) -> None:
    """PROCESS is one of those that `ps` shows (web.1); without it, any. Without COMMAND: a shell. It has the
    process's folder, environment and user, and ends with it."""
    await _attach(context, address, words, no_tty=no_tty, enter=process or "")


async def _attach(
    context: Context, address: Address, words: tuple[str, ...], *, no_tty: bool, **wanted: Any
) -> None:
    if context.open_console is None:
        raise CommandFailed("Nobody is here to be attached to it: use run:detached.")
    console = context.open_console()
    size = None if no_tty else console.size
    terminal = None if size is None else (*size, console.kind)
    async with context.client.attach(address, words, terminal=terminal, **wanted) as attachment:
        await put_through(console, attachment, terminal=terminal is not None)
    if not attachment.detail.startswith(("exited", "killed by")):
        context.output.note(f"{attachment.run.process} of {address}: {attachment.detail}.")
    raise Ended(1 if attachment.exit_code is None else attachment.exit_code)


@app_command(example="moor run:detached -a foo python manage.py reindex", takes_command=True)
@type_option
@env_option
@ttl_option
@command_words
async def detached(
    context: Context,
    *,
    address: Address,
    words: tuple[str, ...],
    process_type: str,
    pairs: tuple[str, ...],
    ttl: timedelta | None,
) -> None:
    """Runs on by itself, whatever becomes of you or the server; `run:logs` shows what it prints, `run:stop`
    ends it. Options stand before the command. A process type's name stands for its command."""
    run = await context.client.run_detached(
        address,
        words,
        env=read_pairs(pairs),
        ttl=None if ttl is None else ttl.total_seconds(),
        process_type=process_type,
    )
    context.output.step(f"Running {run.process} of {address} (v{run.version}): {run.command}")
    context.output.detail(f"What it prints: run:logs {run.process} -t")
    context.output.data(run)


def read_pairs(pairs: tuple[str, ...]) -> dict[str, str]:
    """Raises InvalidInput, without the value in its words."""
    env = {}
    for each in pairs:
        name, equals, value = each.partition("=")
        if not equals:
            raise InvalidInput("env", f"-e takes NAME=VALUE, and {name[:40]!a} has no = in it.")
        env[name] = value
    return env


@app_command(example="moor run:list -a foo")
@click.option("-n", "--num", "limit", type=click.IntRange(1), default=20, show_default=True, help="How many.")
async def list_(context: Context, *, address: Address, limit: int) -> None:
    """Newest first: what runs now, and the last that have ended; the commands of releases too."""
    found = (await context.client.runs(address))[:limit]
    context.output.title(f"{address} one-offs")
    context.output.table(
        ("process", "status", "exit", "version", "by", "started", "seconds", "command", "detail"),
        [
            (
                each.process,
                each.status.value,
                "" if each.exit_code is None else each.exit_code,
                f"v{each.version}",
                each.actor,
                timestamp(each.started_at),
                _seconds(each),
                each.command,
                each.detail,
            )
            for each in found
        ],
    )
    if not found:
        context.output.detail("No one-offs yet: `run` and `run:detached` start some.")
    context.output.data(found)


@app_command(example="moor run:logs -a foo run.3 -t")
@click.argument("run")
@click.option("-t", "--tail", "-f", "--follow", "follow", is_flag=True, help="Go on printing until it ends.")
@click.option(
    "-n",
    "--num",
    "lines",
    type=click.IntRange(0, 10_000),
    default=100,
    show_default=True,
    help="How many lines of the past.",
)
async def logs(context: Context, *, address: Address, run: str, follow: bool, lines: int) -> None:
    """Of a detached run, or of a release command (release.5 is that of v5)."""
    async with opened(context.client.run_logs(address, run, lines=lines, follow=follow)) as stream:
        async for line in stream:
            context.output.line(f"{timestamp(line.time)} {line.source.value}[{line.process}]: {line.text}")
            context.output.record(line)
            await context.output.drain()


@app_command(example="moor run:stop -a foo run.3")
@click.argument("run")
async def stop(context: Context, *, address: Address, run: str) -> None:
    """SIGTERM first, SIGKILL when it takes too long."""
    asked = await context.client.stop_run(address, run)
    context.output.step(f"Asked {asked.process} of {address} to end")
    context.output.data(asked)


def status_text(run: Run) -> str:
    """How it stands, in words."""
    if run.status is RunStatus.FAILED and run.detail:
        return run.detail
    return f"{run.status}: {run.detail}" if run.detail else run.status.value


def _seconds(run: Run) -> str:
    if run.started_at is None or run.finished_at is None:
        return ""
    return f"{(run.finished_at - run.started_at).total_seconds():.1f}"
