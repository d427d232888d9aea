"""What builds an app: buildpacks, or its Dockerfile with its arguments and secrets."""

import click

from cli.context import Context
from cli.grammar import app_command
from controller.errors import InvalidInput
from controller.names import Address
from controller.types import BuilderChoice, Service

SELECTED, DOCKERFILE, TARGET = "selected", "dockerfile", "target"


@app_command(example="moor builder -a foo")
async def builder(context: Context, *, address: Address) -> None:
    service = (await context.client.service(address)).service
    context.output.title(f"{address} builder")
    _print(context, address, service)


@app_command(
    example="moor builder:set -a foo selected dockerfile\n"
    "moor builder:set -a foo dockerfile deploy/Dockerfile\nmoor builder:set -a foo target web"
)
@click.argument("key", type=click.Choice([SELECTED, DOCKERFILE, TARGET]))
@click.argument("value", required=False, default="")
async def set_(context: Context, *, address: Address, key: str, value: str) -> None:
    """selected is dockerfile, buildpacks or auto: a Dockerfile where the source has one and nothing names buildpacks,
    else buildpacks. dockerfile is the file, from the top of what is built; target the stage that is built. Without a
    value it is the default again: auto, Dockerfile, the last one."""
    if key == SELECTED:
        service = await context.client.set_builder(address, choice=_choice(value))
    elif key == DOCKERFILE:
        service = await context.client.set_builder(address, dockerfile=value)
    else:
        service = await context.client.set_builder(address, target=value)
    _changed(context, address, service)


@app_command(
    example="moor builder:args -a foo NODE_VERSION=20 COLOR=blue\nmoor builder:args -a foo --unset COLOR"
)
@click.argument("pairs", nargs=-1, metavar="[NAME=VALUE]...")
@click.option("--unset", "unset", multiple=True, metavar="NAME", help="Take this one away; may be repeated.")
async def args(context: Context, *, address: Address, pairs: tuple[str, ...], unset: tuple[str, ...]) -> None:
    """For `ARG NAME` in the Dockerfile. They stay to be seen in the image: what is secret goes by builder:secrets."""
    if not pairs and not unset:
        raise InvalidInput("args", "Name at least one build argument, as NAME=VALUE, or one to --unset.")
    changes: dict[str, str | None] = dict.fromkeys(unset)
    for each in pairs:
        name, equals, value = each.partition("=")
        if not equals:
            raise InvalidInput("args", f"A build argument is NAME=VALUE, and {name[:40]!a} has no = in it.")
        changes[name] = value
    _changed(context, address, await context.client.set_builder(address, args=changes))


@app_command(example="moor builder:secrets -a foo NPM_TOKEN\nmoor builder:secrets -a foo --clear")
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--clear", is_flag=True, help="Offer none.")
async def secrets(context: Context, *, address: Address, names: tuple[str, ...], clear: bool) -> None:
    """In place of all that were set. Each is a config variable that `RUN --mount=type=secret,id=NAME` finds in
    /run/secrets/NAME, and that reaches neither the image nor the log. It takes BuildKit on the server."""
    if bool(names) == clear:
        raise InvalidInput("secrets", "Name the config variables that the build may read, or --clear.")
    _changed(context, address, await context.client.set_builder(address, secrets=names))


def _choice(value: str) -> BuilderChoice:
    try:
        return BuilderChoice(value or BuilderChoice.AUTO)
    except ValueError:
        known = ", ".join(BuilderChoice)
        raise InvalidInput("builder", f"{value[:40]!a} is no builder: choose one of {known}.") from None


def _changed(context: Context, address: Address, service: Service) -> None:
    context.output.step(f"The next push builds {address} with:")
    _print(context, address, service)


def _print(context: Context, address: Address, service: Service) -> None:
    dockerfile = service.dockerfile
    facts = [
        ("selected", service.builder.value),
        ("dockerfile", dockerfile.path or "Dockerfile"),
        ("target", dockerfile.target or "the last stage"),
        ("arguments", " ".join(f"{name}={value}" for name, value in dockerfile.args.items()) or "none"),
        ("secrets", " ".join(dockerfile.secrets) or "none"),
    ]
    context.output.facts(facts)
    context.output.data({"app": str(address), "builder": service.builder, "dockerfile": dockerfile})
