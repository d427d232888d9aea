"""People and machines that may ask: users, SSH keys, API tokens."""

from collections.abc import Sequence
from dataclasses import fields
from datetime import timedelta

import click

from cli.commands.access import RIGHTS
from cli.context import CommandFailed, Context
from cli.durations import Duration
from cli.grammar import command, only_deployment
from cli.output import timestamp
from controller.names import check_title, parse_address
from controller.types import Right, Token, User

user_option = click.option("--user", metavar="NAME", help="Somebody else's; for admins.")


@command(example="moor ssh-keys")
async def keys(context: Context) -> None:
    found = await context.client.keys()
    context.output.table(
        ("name", "user", "fingerprint", "added"),
        [(each.name, each.user, each.fingerprint, timestamp(each.created_at)) for each in found],
    )
    context.output.data(found)


@command(
    example="moor ssh-keys:add laptop ~/.ssh/id_ed25519.pub\ncat ~/.ssh/id_ed25519.pub | moor ssh-keys:add laptop"
)
@click.argument("name")
@click.argument("file", required=False)
@user_option
async def keys_add(context: Context, *, name: str, file: str | None, user: str | None) -> None:
    """Reads the public key from FILE or, without one, from standard input."""
    check_title(name, "key name")
    key = await context.client.add_key(name, await _public_key(context, file), user=user)
    context.output.step(f"Added the key {key.name} of {key.user}")
    context.output.detail(key.fingerprint)
    context.output.data(key)


async def _public_key(context: Context, file: str | None) -> str:
    if file not in (None, "-"):
        if context.folder is None:
            raise CommandFailed(
                "Over SSH the key comes on standard input, as files of yours are not here.",
                hint=f"cat {file} | ssh … ssh-keys:add NAME",
            )
        return context.folder.read(str(file)).strip()
    if context.input.terminal:
        context.output.note("Paste the public key (one line):")
        text = await context.input.line()
    else:
        text = await context.input.everything()
    if not text.strip():
        raise CommandFailed(
            "No key came on standard input.", hint="ssh-keys:add NAME < ~/.ssh/id_ed25519.pub"
        )
    return text.strip()


@command(example="moor ssh-keys:remove laptop")
@click.argument("name")
async def keys_remove(context: Context, *, name: str) -> None:
    await context.client.remove_key(name)
    context.output.step(f"Removed the key {name}")
    context.output.data({"removed": name})


@command(example="moor users")
async def users(context: Context) -> None:
    found = await context.client.users()
    context.output.table(
        ("name", "admin", "rights", "created"),
        [
            (each.name, "admin" if each.admin else "", rights_text(each), timestamp(each.created_at))
            for each in found
        ],
    )
    context.output.data(found)


@command(example="moor users:create robin\nmoor users:create robin --admin")
@click.argument("name")
@click.option("--admin", is_flag=True, help="With every right on every app, and on users.")
async def users_create(context: Context, *, name: str, admin: bool) -> None:
    """A new user has no rights: `access:add` gives them, `ssh-keys:add --user` lets them in."""
    user = await context.client.create_user(check_title(name, "user name"), admin=admin)
    context.output.step(f"Created the user {user.name}" + (", an admin" if user.admin else ""))
    context.output.data(user)


@command(example="moor users:remove robin")
@click.argument("name")
async def users_remove(context: Context, *, name: str) -> None:
    await context.client.remove_user(name)
    context.output.step(f"Removed the user {name}")
    context.output.data({"removed": name})


@command(example="moor tokens")
async def tokens(context: Context) -> None:
    """Their secrets are kept nowhere, so that they can't be shown again."""
    found = await context.client.tokens()
    context.output.table(
        ("id", "user", "for", "gives", "created", "expires", "last used"),
        [
            (
                each.id,
                each.user,
                each.description,
                scope_text(each),
                timestamp(each.created_at),
                timestamp(each.expires_at),
                timestamp(each.last_used_at),
            )
            for each in found
        ],
    )
    names = [field.name for field in fields(Token) if field.name != "sha256"]
    context.output.data([{name: getattr(each, name) for name in names} for each in found])


def scope_text(token: Token) -> str:
    """What a token gives: `deploy on foo,bar`."""
    right = token.right.value if token.right else "all"
    return f"{right} on {','.join(token.deployments)}" if token.deployments else right


@command(example="moor tokens:remove 4f2a")
@click.argument("token_id", metavar="ID")
async def tokens_remove(context: Context, *, token_id: str) -> None:
    await context.client.remove_token(token_id)
    context.output.step(f"Removed the token {token_id}")
    context.output.data({"removed": token_id})


@command(
    example='moor tokens:create --description "build server"\nmoor tokens:create --expires 30d --right deploy --app foo'
)
@user_option
@click.option("--description", default="", help="What it is for.")
@click.option(
    "--expires", type=Duration(), metavar="TIME", help="How long it is good for: 30d, 12h; without: for ever."
)
@click.option("--right", type=click.Choice(RIGHTS), help="The highest right that it gives.")
@click.option(
    "--app", "apps", multiple=True, metavar="APP", help="The only app that it is good for; repeatable."
)
async def tokens_create(
    context: Context,
    *,
    user: str | None,
    description: str,
    expires: timedelta | None,
    right: str | None,
    apps: Sequence[str],
) -> None:
    """It never gives more than its user has. With --right or --app it gives less, and makes no other tokens or keys."""
    secret = await context.client.create_token(
        user=user,
        description=description,
        expires_in=expires,
        right=Right(right) if right else None,
        deployments=[only_deployment(parse_address(each)) for each in apps],
    )
    context.output.line(secret)
    context.output.data({"token": secret})


@command(example="moor whoami")
async def whoami(context: Context) -> None:
    user = await context.client.me()
    context.output.line(user.name)
    if user.admin:
        context.output.detail("admin")
    elif user.rights:
        context.output.detail(rights_text(user))
    context.output.data(user)


def rights_text(user: User) -> str:
    return " ".join(f"{deployment}:{right.value}" for deployment, right in sorted(user.rights.items()))
