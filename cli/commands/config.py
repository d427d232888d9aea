"""Config variables: what an app finds in its environment."""

from collections.abc import Mapping, Sequence

import click

from cli.context import CommandFailed, Context
from cli.grammar import app_command, only_deployment
from cli.rollout import RELEASED_BY, detach_option, finish_change, follow
from cli.variables import FORMS, read, write
from controller.errors import InvalidInput
from controller.names import Address, check_env_name
from controller.views import SharedChange, Variable, VariableSource

stage_option = click.option(
    "--no-restart", "stage", is_flag=True, help="Only keep it, for `config:apply` or the next push."
)


global_option = click.option(
    "--global", "everywhere", is_flag=True, help="Of the whole deployment: below each service's own."
)


@app_command(example="moor config -a foo\nmoor config -a foo --global")
@global_option
async def config(context: Context, *, address: Address, everywhere: bool) -> None:
    """What the app finds in its environment. Behind a name: where the variable was set, if not for the app itself."""
    if everywhere:
        shared = await context.client.shared_config(only_deployment(address))
        context.output.title(f"{address} config variables for all services")
        context.output.facts(sorted(shared.items()), empty=True)
        context.output.data(dict(sorted(shared.items())))
        return
    variables = await context.client.environment(address)
    context.output.title(f"{address} config variables")
    context.output.facts([(_named(each), each.value) for each in variables], empty=True)
    context.output.data({each.name: each.value for each in variables})
    if staged := (await context.client.service(address)).staged:
        context.output.note(f"Not in effect yet: {', '.join(staged)}. {RELEASED_BY}.")


@app_command(example="moor config:get -a foo GREETING\nmoor config:get -a foo GREETING COLOR")
@click.argument("names", nargs=-1, required=True, metavar="NAME")
async def get(context: Context, *, address: Address, names: tuple[str, ...]) -> None:
    """One value is printed as it is; several as NAME=VALUE lines, in the form of `config:export --format env`."""
    variables = await context.client.config(address)
    if missing := [each for each in names if each not in variables]:
        raise CommandFailed(
            f"{address} has no config variable {' or '.join(missing)}.", hint="`config` lists those it has."
        )
    wanted = {each: variables[each] for each in names}
    context.output.line(wanted[names[0]] if len(names) == 1 else write(wanted, "env"))
    context.output.data(wanted)


@app_command(example="moor config:export -a foo > foo.env\nmoor config:export -a foo --format json")
@click.option(
    "--format",
    "form",
    type=click.Choice(FORMS),
    default="env",
    show_default=True,
    help="shell: `export` lines for bash, zsh and ksh; env: a .env file; json: one object.",
)
async def export(context: Context, *, address: Address, form: str) -> None:
    """`config:import` takes it back, with every value as it was."""
    variables = await context.client.config(address)
    if variables or form == "json":
        context.output.line(write(variables, form))
    context.output.data(dict(sorted(variables.items())))


@app_command(
    example="moor config:import -a foo .env\nmoor config:export foo | moor config:import -a bar --replace",
)
@click.argument("file", required=False)
@click.option("--replace", is_flag=True, help="Remove all variables that are not in it.")
@stage_option
@detach_option
async def import_(
    context: Context, *, address: Address, file: str | None, replace: bool, stage: bool, detach: bool
) -> None:
    """Reads FILE or, without one, standard input: NAME=VALUE lines of a .env file, `export` lines, or a JSON
    object. Nothing in values is expanded. All variables make one version."""
    put = read(await _text(context, file))
    others = ", removing all others" if replace else ""
    context.output.step(f"Setting {', '.join(put)}{others}{_and_restarting(address, stage)}")
    change = await context.client.change_config(address, put=put, replace_all=replace, stage=stage)
    await finish_change(context, address, change, detach=detach)


async def _text(context: Context, file: str | None) -> str:
    if file in (None, "-"):
        if context.input.terminal:
            context.output.note("Type NAME=VALUE lines; Ctrl-D ends them.")
        return await context.input.everything()
    if context.folder is None:
        raise CommandFailed(
            "Over SSH variables come on standard input, as files of yours are not here.",
            hint=f"ssh … config:import APP < {file}",
        )
    return context.folder.read(str(file))


@app_command(
    example="moor config:set -a foo GREETING=hello COLOR=blue\nmoor config:set -a foo --no-restart KEY=abc"
)
@click.argument("pairs", nargs=-1, required=True, metavar="NAME=VALUE")
@global_option
@stage_option
@detach_option
async def set_(
    context: Context, *, address: Address, pairs: tuple[str, ...], everywhere: bool, stage: bool, detach: bool
) -> None:
    """The app is restarted with them, without a pause in serving. Values already set are no change."""
    put = dict(_pair(each) for each in pairs)
    if everywhere:
        context.output.step(f"Setting {', '.join(put)} for all services of {address.deployment}")
        await _change_everywhere(context, address, put, [], stage=stage, detach=detach)
        return
    context.output.step(f"Setting {', '.join(put)}{_and_restarting(address, stage)}")
    change = await context.client.change_config(address, put=put, stage=stage)
    await finish_change(context, address, change, detach=detach)


@app_command(example="moor config:unset -a foo GREETING")
@click.argument("names", nargs=-1, required=True, metavar="NAME")
@global_option
@stage_option
@detach_option
async def unset(
    context: Context, *, address: Address, names: tuple[str, ...], everywhere: bool, stage: bool, detach: bool
) -> None:
    drop = [check_env_name(each) for each in names]
    if everywhere:
        context.output.step(f"Unsetting {', '.join(drop)} for all services of {address.deployment}")
        await _change_everywhere(context, address, {}, drop, stage=stage, detach=detach)
        return
    context.output.step(f"Unsetting {', '.join(drop)}{_and_restarting(address, stage)}")
    change = await context.client.change_config(address, put={}, drop=drop, stage=stage)
    await finish_change(context, address, change, detach=detach)


@app_command(example="moor config:apply -a foo")
@detach_option
async def apply(context: Context, *, address: Address, detach: bool) -> None:
    """One version of all that was set or unset with --no-restart."""
    context.output.step(f"Releasing the staged config of {address}")
    await finish_change(context, address, await context.client.apply_config(address), detach=detach)


async def _change_everywhere(
    context: Context,
    address: Address,
    put: Mapping[str, str],
    drop: Sequence[str],
    *,
    stage: bool,
    detach: bool,
) -> None:
    deployment = only_deployment(address)
    if stage:
        raise click.UsageError("--global and --no-restart don't go together: staging is a service's own.")
    change = await context.client.change_shared_config(deployment, put=put, drop=drop)
    await finish_shared(context, deployment, change, detach=detach)


async def finish_shared(context: Context, deployment: str, change: SharedChange, *, detach: bool) -> None:
    """Follow the versions that a change of a whole deployment made; raises CommandFailed at the end where one was
    given up."""
    if not change.versions:
        context.output.line("No service's environment changes.")
    failed = []
    for version in change.versions:
        service = Address(deployment, version.service)
        context.output.detail(f"{service}: v{version.number}")
        step = None if detach else await follow(context, service, version.number)
        if step and step.failure:
            failed.append(f"{service} v{version.number} was given up: {step.failure}")
    context.output.data({"versions": change.versions, "failures": failed})
    if failed:
        raise CommandFailed(" ".join(failed), hint="What served before serves on.")


def _named(variable: Variable) -> str:
    if variable.source is VariableSource.SERVICE:
        return variable.name
    return f"{variable.name} ({variable.source})"


def _and_restarting(address: Address, stage: bool) -> str:
    return f" for {address}, without a restart" if stage else f" and restarting {address}"


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise InvalidInput("env", f"{text} has no '=': write NAME=VALUE.")
    return check_env_name(name), value
