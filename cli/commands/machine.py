"""What concerns this machine: the servers it knows, git remotes of a folder, the shell."""

import click

from cli.commands.apps import push_url
from cli.completion import SCRIPTS, candidates
from cli.context import CommandFailed, Context
from cli.credentials import checked_url, keep_credentials
from cli.folder import DEFAULT_REMOTE, app_of
from cli.grammar import command
from controller.names import parse_address


@command(
    example="moor login https://mooring.example.org\nmoor login http://127.0.0.1:5555 < token",
    local_only=True,
)
@click.argument("url")
async def login(context: Context, *, url: str) -> None:
    """Reads the token from standard input and tries it. `tokens:create` makes one. The last login is
    the server that is asked from then on; --server names another."""
    from cli.terminal import open_client

    address = checked_url(url)
    if context.input.terminal:
        context.output.prompt(f"Token for {address}: ")
        token = (await context.input.line(hidden=True)).strip()
        context.output.prompt("\n")
    else:
        token = (await context.input.everything()).strip()
    if not token or any(character.isspace() for character in token):
        raise CommandFailed("That was no token: it is one word.", hint="`tokens:create` makes one.")
    context.connect = lambda _: open_client(address, token)
    user = await context.client.me()
    path = keep_credentials(context.environ, address, token)
    context.output.step(f"Logged in to {address} as {user.name}")
    context.output.detail(f"Kept in {path}")
    context.output.data({"url": address, "user": user.name, "kept": str(path)})


@command(example="moor remote:add foo\nmoor remote:add foo --remote staging", local_only=True)
@click.argument("app")
@click.option(
    "--remote", default=DEFAULT_REMOTE, show_default=True, metavar="NAME", help="Name of the git remote."
)
@click.option("--force", is_flag=True, help="Point an existing remote at this app.")
async def remote_add(context: Context, *, app: str, remote: str, force: bool) -> None:
    address = parse_address(app)
    assert context.folder is not None
    info = await context.client.service(address)
    url = await push_url(context, address)
    existing = context.folder.remote_url(remote)
    if existing not in (None, url) and not force:
        where = app_of(str(existing)) or existing
        raise CommandFailed(
            f"The git remote {remote} leads to {where} already.",
            hint="--force changes it, --remote NAME adds another.",
        )
    context.folder.set_remote(remote, url)
    context.output.step(f"The git remote {remote} leads to {address}")
    context.output.detail(f"{url}\nDeploy with: git push {remote} {info.service.branches[0]}")
    context.output.data({"remote": remote, "url": url})


@command(
    example='eval "$(moor completion bash)"\nmoor completion fish > ~/.config/fish/completions/moor.fish',
    local_only=True,
)
@click.argument("shell", type=click.Choice(sorted(SCRIPTS)))
async def completion(context: Context, *, shell: str) -> None:
    """For zsh: `eval "$(moor completion zsh)"` after compinit."""
    context.output.line(SCRIPTS[shell])
    context.output.data({"shell": shell, "script": SCRIPTS[shell]})


@command(example="moor completion:words -- ps:sc", local_only=True)
@click.argument("words", nargs=-1, type=click.UNPROCESSED)
async def completion_words(context: Context, *, words: tuple[str, ...]) -> None:
    found = await candidates(context, words)
    for word, description in found:
        context.output.line(f"{word}\t{description}")
    context.output.data([word for word, _ in found])
