"""Source that comes by other ways than a push: archives, and repositories elsewhere."""

import tempfile
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import PurePath

import click

from cli.console import Console
from cli.context import CommandFailed, Context, opened
from cli.grammar import app_command, command
from cli.output import TITLE
from controller.deliveries import DeliveryStep, Mark, SyncBuild
from controller.errors import InvalidInput, Unavailable
from controller.names import Address
from controller.upload import send_file

STANDARD_INPUT = "-"
PIECE = 256 * 1024


@app_command(
    example="moor git:from-archive -a foo app.tar.gz\n"
    "moor git:from-archive -a foo https://example.org/app-1.2.zip\n"
    "tar cz . | moor git:from-archive -a foo -"
)
@click.argument("source", metavar="FILE|URL|-")
async def from_archive(context: Context, *, address: Address, source: str) -> None:
    """A tar, tar.gz, tar.zst or zip, told by what is in it. Where all of it is in one folder, that is the source. It
    becomes a commit on the deploy branch, on top of what was there, and is deployed as a push of it would be. The
    server fetches a URL itself; `-` is standard input, over SSH the only way for a file."""
    client = context.client
    if source.startswith(("http://", "https://")):
        await follow_delivery(context, client.deploy_archive_of(address, source))
        return
    name = "" if source == STANDARD_INPUT else PurePath(source).name
    if not context.local:
        await follow_delivery(context, client.deploy_archive(address, content_of(context, source), name=name))
        return
    with tempfile.TemporaryFile() as file:
        async for piece in content_of(context, source):
            file.write(piece)
        upload = await send_file(client, address, file)
    await follow_delivery(context, client.deploy_upload(address, upload, name=name))


@app_command(
    example="moor git:sync -a foo https://example.org/foo.git main --build\n"
    "moor git:sync -a foo git@example.org:team/foo.git v1.2 --build-if-changes"
)
@click.argument("url")
@click.argument("ref", required=False, default="")
@click.option("--build", "build", flag_value=SyncBuild.YES, type=SyncBuild, help="Deploy what was fetched.")
@click.option(
    "--build-if-changes",
    "build",
    flag_value=SyncBuild.IF_CHANGES,
    type=SyncBuild,
    help="Deploy it when it is another commit than the last that was deployed.",
)
async def sync(context: Context, *, address: Address, url: str, ref: str, build: SyncBuild | None) -> None:
    """REF is a branch, a tag, or a commit by all of its 40 characters; without one it is the remote's own branch.
    Nothing is deployed unless an option says so. By ssh the server shows the key of git:public-key, and asks only
    hosts of git:allow-host."""
    await follow_delivery(context, context.client.sync(address, url, ref=ref, build=build or SyncBuild.NO))


@command(example="moor git:public-key")
async def public_key(context: Context) -> None:
    """Let it in where a private repository is, with the right to read: for git:sync and submodules by ssh. What it
    may read, everybody who may deploy an app of this server can fetch."""
    key = await context.client.git_public_key()
    context.output.line(key)
    context.output.data({"public_key": key})


@command(example="moor git:allow-host git.example.org\nmoor git:allow-host git.example.org:2222")
@click.argument("host", metavar="HOST[:PORT]")
async def allow_host(context: Context, *, host: str) -> None:
    """For admins. Asks the host for its keys, in place of those that were known: compare their fingerprints with
    those that its owner publishes."""
    keys = await context.client.allow_git_host(host)
    context.output.step(f"Source may be fetched from {host} by ssh, as long as it shows one of these keys")
    context.output.table(("key", "fingerprint"), [(each.algorithm, each.fingerprint) for each in keys])
    context.output.data(keys)


async def follow_delivery(
    context: Context, steps: AsyncIterator[DeliveryStep], *, is_answer: bool = True
) -> None:
    """Print the steps as they come; raises Unavailable when the answer ends in the middle.

    `is_answer`: how it ended is what the command prints with --json."""
    say = _printing(context)
    async with opened(steps) as following:
        async for step in following:
            if step.mark is Mark.DONE:
                if is_answer:
                    context.output.data(step)
                return
            say[step.mark](step.text)
            await context.output.drain()
    raise Unavailable(
        "The server ended its answer in the middle: `builds` and `releases` show how it stands."
    )


def _printing(context: Context) -> Mapping[Mark, Callable[[str], None]]:
    output = context.output
    return {
        Mark.STEP: output.step,
        Mark.SECTION: lambda text: output.step(text, TITLE),
        Mark.LINE: lambda text: output.detail(text or " "),
        Mark.WARNING: output.note,
    }


async def content_of(context: Context, source: str) -> AsyncIterator[bytes]:
    """The archive, piece by piece. Raises InvalidInput, CommandFailed."""
    if source == STANDARD_INPUT:
        assert context.open_console is not None
        async for piece in _read(context.open_console()):
            yield piece
        return
    if context.folder is None:
        raise InvalidInput(
            "source",
            f"Over SSH there is no file {source}: send it on standard input, with - in place of its name.",
        )
    for piece in context.folder.pieces(source, PIECE):
        yield piece


async def _read(console: Console) -> AsyncIterator[bytes]:
    if console.size is not None:
        raise CommandFailed(
            "Standard input is a terminal, and an archive is expected there.",
            hint="Send one: `tar cz . | moor git:from-archive -a APP -`.",
        )
    while piece := await console.read():
        yield piece
