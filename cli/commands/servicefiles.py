"""Service files: checking one, showing what it changes, deploying it; and uploading code."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from cli.beside import check_beside
from cli.context import CommandFailed, Context
from cli.folder import Folder
from cli.grammar import app_command, command, only_deployment
from cli.held import Past, past_runs, released
from cli.outcomes import difference_text, follow_change, print_plan, say_change
from cli.output import SEED_MARK
from cli.rollout import detach_option
from cli.uploading import News, Source, bring_code, find_news, send_code
from controller.errors import Conflict, InvalidInput, NotFound
from controller.names import Address, check_name
from controller.servicefile.complaints import Complaint
from controller.servicefile.document import Infra
from controller.views import FileChangeKind, FileOutcome

STANDARD_INPUT = "-"

file_argument = click.argument("file", default="Servicefile")
var_option = click.option(
    "--var",
    "pairs",
    multiple=True,
    metavar="NAME=VALUE",
    help="What {NAME} stands for in the file; repeatable.",
)
values_option = click.option(
    "--values",
    "value_files",
    multiple=True,
    metavar="FILE",
    help="A YAML file of NAME: VALUE, for the same; repeatable, and --var goes before it.",
)
include_option = click.option(
    "--include-dir",
    "allowed",
    multiple=True,
    metavar="FOLDER",
    help="A further folder to include files from.",
)


@app_command(
    example="moor -D foo deploy Servicefile\nmoor -D foo deploy Servicefile --plan\n"
    "moor -D staging deploy Servicefile --create --var TAG=v2"
)
@file_argument
@click.option("--plan", is_flag=True, help="Only show what would change.")
@click.option("--prune", is_flag=True, help="Destroy the services that are not in the file.")
@click.option("--create", is_flag=True, help="Create the deployment where there is none.")
@click.option("--force", is_flag=True, help="Make a new version of each service, also where nothing changes.")
@click.option(
    "--infra",
    metavar="FILE",
    help="A YAML file of deployments with the scale and the domains of each: this one's are set.",
)
@var_option
@values_option
@include_option
@detach_option
async def deploy(
    context: Context,
    *,
    address: Address,
    file: str,
    plan: bool,
    prune: bool,
    create: bool,
    force: bool,
    infra: str | None,
    pairs: tuple[str, ...],
    value_files: tuple[str, ...],
    allowed: tuple[str, ...],
    detach: bool,
) -> None:
    """FILE is YAML: keys with a capital letter are sections (Env, Domains, Includes, Vars), all others are services.
    What it changes is done in one step; the same again changes nothing. What an earlier file said and this one
    does not is undone; what was set otherwise stays. `-` is standard input, over SSH the only way."""
    deployment = only_deployment(address)
    kept = await _kept_vars(context, deployment, may_be_missing=create)
    variables = {**kept, **_given_vars(context, pairs, value_files)}
    read, unknown = await _read(context, file, deployment, variables, allowed)
    body = {
        **read,
        "infra": _infra(context, deployment, infra),
    }
    if create:
        await _create(context, deployment, plan=plan)
    name = "standard input" if file == STANDARD_INPUT else Path(file).name
    ask = context.client.plan_file if plan else context.client.deploy_file
    past = await past_runs(context, deployment)
    outcome = await ask(deployment, body, name=name, prune=prune, force=force)
    _tell_unclaimed(context, outcome, unknown)
    for note in outcome.notes:
        context.output.note(note)
    sources = _sources(body, file)
    news = await _find_news(context, outcome, sources)
    if not outcome.changes and not outcome.globals and not news:
        context.output.line("No changes.")
        context.output.data({"outcome": outcome, "failures": ()})
    elif plan:
        print_plan(context, outcome)
        for where, found in news.items():
            what = "its first code" if found.is_first else "newer code"
            context.output.line(f"~ {where.service}: {what} is uploaded")
            context.output.line(f"    {found}")
        if outcome.unchanged:
            context.output.line(f"{outcome.unchanged} of the file as before.")
        context.output.data({"outcome": outcome, "failures": ()})
    else:
        await _finish(context, outcome, sources, news, past, detach=detach)


@command(example="moor validate Servicefile\nmoor validate --schema > servicefile.schema.json")
@file_argument
@click.option("--schema", is_flag=True, help="Print the JSON Schema of service files, for editors.")
@click.option("--print", "show", is_flag=True, help="Print the file with its includes and variables put in.")
@var_option
@values_option
@include_option
async def validate(
    context: Context,
    *,
    file: str,
    schema: bool,
    show: bool,
    pairs: tuple[str, ...],
    value_files: tuple[str, ...],
    allowed: tuple[str, ...],
) -> None:
    """Tells all that is wrong with a service file, and where. No server is asked."""
    from controller.servicefile.document import ServiceFile

    if schema:
        import json

        from controller.servicefile.schema import schema as schema_of

        context.output.line(json.dumps(schema_of(), indent=2))
        context.output.data(schema_of())
        return
    body, unknown = await _read(
        context, file, "deployment", _given_vars(context, pairs, value_files), allowed
    )
    for each in unknown:
        context.output.note(str(each))
    services, sections = body["services"], body["globals"]
    if why := _seen_together(services, sections):
        context.output.note(why)
    if show:
        from controller.servicefile.render import render

        text = render(ServiceFile(services=services, globals=sections))
        context.output.line(text.rstrip("\n"))
    else:
        found = ", ".join(sections) or "none"
        context.output.line(
            f"{file} is a service file. Services: {', '.join(services) or 'none'}. Sections: {found}."
        )
    context.output.data(body)


def _seen_together(services: Mapping[str, Any], sections: Mapping[str, Any]) -> str | None:
    """What is wrong with all of the file together, where a deployment has nothing yet; with what one has, it may be
    right."""
    from controller.plugins import require
    from controller.plugins.exec import SECTION as EXEC
    from controller.plugins.exec import declared as declared_commands
    from controller.plugins.required import required
    from controller.plugins.resources import SECTION as RESOURCES
    from controller.plugins.resources import declared as declared_resources
    from controller.servicefile.document import ServiceFile
    from controller.servicefile.plan import Found, make_plan
    from controller.types import Deployment

    file = ServiceFile(services=services, globals=sections)
    try:
        plan = make_plan(file, Found(deployment=Deployment(name="deployment")))
    except InvalidInput as error:
        return f"Where there is nothing yet, deploy refuses it: {error}"
    there = {*services, *declared_commands(sections.get(EXEC)), *declared_resources(sections.get(RESOURCES))}
    held = [
        f"{each.address.service} {each.holds[require.NAME]}"
        for each in plan.steps
        if not there.issuperset(required(each.definition))
    ]
    return f"Where there is nothing yet, {'; '.join(held)}." if held else None


@app_command(example="moor -D foo upload website --git .\nmoor -D foo upload website --git .:subfolder")
@click.argument("service")
@click.option(
    "--git", "place", default=".", show_default=True, metavar="FOLDER[:SUBFOLDER]", help="The repository."
)
async def upload(context: Context, *, address: Address, service: str, place: str) -> None:
    """Deploys what is committed there, as a push of it would. For other archives: git:from-archive."""
    target = Address(only_deployment(address), check_name(service, "service name"))
    if context.folder is None:
        raise click.UsageError(
            "upload works on your own machine only: over SSH, push, or send an archive to git:from-archive."
        )
    await _check_meant(context, target)
    context.output.step("Deploying a new version", SEED_MARK)
    await send_code(context, target, Source(place=place))


async def _check_meant(context: Context, target: Address) -> None:
    """Code makes a service that is not there, as a push does: but not one whose name is nearly that of another."""
    from controller.servicefile.complaints import did_you_mean

    names = [each.service.name for each in await context.client.services(target.deployment)]
    if target.service not in names and (near := did_you_mean(target.service, names)):
        raise InvalidInput(
            "service",
            f"{target.deployment} has no service {target.service}.{near} To make it all the same: "
            f"moor -D {target.deployment} set-service {target.service} '{{git: .}}'",
        )


async def _create(context: Context, deployment: str, *, plan: bool) -> None:
    try:
        await context.client.services(deployment)
    except NotFound as error:
        if plan:
            raise CommandFailed(
                f"There is no deployment {deployment} yet, and a plan is made for one that is there.",
                hint=f"Make it: create-deployment {deployment}",
            ) from error
        try:
            await context.client.create_deployment(deployment)
        except Conflict:
            return
        context.output.step(f"Created {deployment}", SEED_MARK)


def _infra(context: Context, deployment: str, file: str | None) -> Infra | None:
    """What the infrastructure file says of the deployment; raises InvalidInput."""
    if file is None:
        return None
    from controller.servicefile.infra import read_infra

    if context.folder is None:
        raise InvalidInput("infra", f"Over SSH there is no file {file}: use ps:scale and domains:add.")
    return read_infra(context.folder.read(file), name=file, deployment=deployment)


async def _kept_vars(context: Context, deployment: str, *, may_be_missing: bool) -> Mapping[str, str]:
    """Those that are kept for the deployment."""
    try:
        return await context.client.vars(deployment)
    except NotFound:
        if may_be_missing:
            return {}
        raise


def _given_vars(context: Context, pairs: Sequence[str], files: Sequence[str]) -> Mapping[str, str]:
    """What the command line says; raises InvalidInput."""
    found = dict[str, str]()
    for name in files:
        from controller.servicefile.values import read_values

        if context.folder is None:
            raise InvalidInput("values", f"Over SSH there is no file {name}: write --var, or use vars:set.")
        found.update(read_values(context.folder.read(name), name))
    return {**found, **dict(map(_pair, pairs))}


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name.isidentifier() or not name.isascii():
        raise InvalidInput("var", f"{text} is no variable: write --var NAME=VALUE.")
    return name, value


async def _read(
    context: Context, file: str, deployment: str, variables: Mapping[str, str], allowed: Sequence[str]
) -> tuple[Mapping[str, Any], Sequence[Complaint]]:
    """What it says, with warnings printed but for those on what a plugin of the server may know. In a thread: over SSH
    the server goes on meanwhile."""
    import asyncio

    from controller.servicefile.parse import read_servicefile

    folder = context.folder
    if file == STANDARD_INPUT or folder is None:
        if file not in (STANDARD_INPUT, "Servicefile"):
            raise InvalidInput(
                "file", f"Over SSH there is no file {file}: send it on standard input, with - for FILE."
            )
        text, name = await context.input.everything(), "Servicefile"
    else:
        text, name = folder.read(file), file
    load = _loader(folder, name, allowed) if folder else None
    reading = await asyncio.to_thread(
        read_servicefile,
        text,
        name=name,
        deployment=deployment,
        variables=variables,
        allowed=allowed,
        **({"load": load} if load else {}),
    )
    body = {"services": reading.file.services, "globals": reading.file.globals}
    beside = check_beside(folder, _sources(body, file).values()) if folder else ()
    for each in (*reading.warnings, *beside):
        if not each.about:
            context.output.note(str(each))
    return body, [each for each in reading.warnings if each.about]


def _tell_unclaimed(context: Context, outcome: FileOutcome, unknown: Sequence[Complaint]) -> None:
    """What no plugin of the server acts on, of this file or of earlier ones."""
    for each in unknown:
        if each.about in outcome.unclaimed:
            context.output.note(str(each))
    if others := sorted(set(outcome.unclaimed) - {each.about for each in unknown}):
        context.output.note(
            f"Kept from before, and no plugin that is on acts on it: {', '.join(others)} (see `plugins`)."
        )


def _loader(folder: Folder, name: str, allowed: Sequence[str]) -> Callable[[str], str]:
    """Reads included files; a link that leads out of their folders is not followed."""
    main = (folder.path / Path(name).expanduser()).resolve().parent
    roots = [main, *((folder.path / Path(each).expanduser()).resolve() for each in allowed)]

    def load(path: str) -> str:
        real = (folder.path / Path(path).expanduser()).resolve()
        if not any(real.is_relative_to(each) for each in roots):
            raise InvalidInput(
                "Includes", f"{path} is a link that leads out of the folder of the service file."
            )
        return folder.read(path)

    return load


def _sources(body: Mapping[str, Any], file: str) -> Mapping[str, Source]:
    """Service to where its repository is, as the file says it."""
    base = Path() if file == STANDARD_INPUT else Path(file).expanduser().parent
    return {
        name: Source(place=keys["git"], base=base)
        for name, keys in body["services"].items()
        if isinstance(keys.get("git"), str)
    }


async def _find_news(
    context: Context, outcome: FileOutcome, sources: Mapping[str, Source]
) -> Mapping[Address, News]:
    """Of services that are there and have code: what is committed and not deployed yet."""
    if not context.local:
        return {}
    made = {each.service for each in outcome.changes if each.kind is FileChangeKind.CREATE}
    found = dict[Address, News]()
    for name in (each for each in sources if each not in made):
        address = Address(outcome.deployment, name)
        if (news := await find_news(context, address, sources[name])) is not None:
            found[address] = news
    return found


async def _finish(
    context: Context,
    outcome: FileOutcome,
    sources: Mapping[str, Source],
    news: Mapping[Address, News],
    past: Past,
    *,
    detach: bool,
) -> None:
    """Say what was done, and follow what it brings about; raises CommandFailed where a version was given up."""
    output, failed, held = context.output, list[str](), list[Address]()
    for each in outcome.globals:
        output.step(difference_text(each), SEED_MARK)
    for change in outcome.changes:
        address = Address(change.deployment, change.service)
        say_change(context, outcome, change)
        if change.held is not None:
            if not change.needs_code:
                held.append(address)
            elif context.local and detach and change.service in sources:
                output.note(
                    f"{address}: its code is not sent with --detach. `upload`, or deploy without, sends it."
                )
            elif context.local and (source := sources.get(change.service)):
                await bring_code(context, address, source)
                held += [address] if (await context.client.service(address)).held else []
        elif change.version is not None and not detach:
            failed += await follow_change(context, address, change.version)
    for address, newer in news.items():
        if detach:
            output.note(f"{address}: what is committed is not sent with --detach. `upload` sends it.")
            continue
        output.step(f"{address.service}: {'its first' if newer.is_first else 'newer'} code", SEED_MARK)
        output.detail(str(newer))
        if newer.is_first:
            await bring_code(context, address, sources[address.service])
        else:
            output.step("Uploading", SEED_MARK)
            await send_code(context, address, sources[address.service], is_answer=False)
        held += [address] if (await context.client.service(address)).held else []
    async for address, number in released(context, [] if detach else held, failed, past):
        failed += await follow_change(context, address, number)
    output.data({"outcome": outcome, "failures": failed})
    if failed:
        nothing = all(each.version in (None, 1) for each in outcome.changes)
        raise CommandFailed(" ".join(failed), hint="" if nothing else "What served before serves on.")
