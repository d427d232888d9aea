"""The first design's verbs, which speak of deployments and services; and their source settings."""

from collections.abc import Mapping
from typing import Any

import click

from cli.context import Context
from cli.grammar import app_command, command, only_deployment
from cli.held import past_runs, released
from cli.outcomes import tell_instances
from cli.output import SEED_MARK
from cli.rollout import ChangeResult, detach_option, finish_version, follow
from cli.uploading import Source, bring_code
from controller.errors import InvalidInput
from controller.names import Address, check_name

DEPLOY_BRANCH = "deploy-branch"
BUILD_DIR = "build-dir"
DEFAULT_BRANCHES = ("master", "main")
MAX_DEFINITION = 64 * 1024
MAX_DEPTH = 20
"""Characters of a definition on the command line, and how deep it may be nested."""


@command(example="moor create-deployment foo")
@click.argument("name")
async def create_deployment(context: Context, *, name: str) -> None:
    """Services come with `set-service` or with a first push. `apps:create` makes one at once."""
    deployment = await context.client.create_deployment(check_name(name))
    context.output.step(f"Created {deployment.name}", SEED_MARK)
    context.output.data(deployment)


@app_command(
    example='moor -D foo set-service company/redis\nmoor -D foo set-service redis "{env: {SDF: sdf}}"\n'
    'moor -D foo set-service app "{rollout: {strategy: canary, share: 25}}"',
)
@click.argument("name")
@click.argument("definition", required=False)
@click.option("--force", is_flag=True, help="Make a new version even when nothing changes.")
@detach_option
async def set_service(
    context: Context, *, address: Address, name: str, definition: str | None, force: bool, detach: bool
) -> None:
    """NAME is the service's name, or an image: then the service is named after it. DEFINITION is YAML
    or JSON: image, cmd, env, git, health, checks, rollout. Keys that are not given keep their value. With
    `git` the code of that repository is sent as soon as the service is held for it."""
    deployment = only_deployment(address)
    service, wanted = read_service(name, definition)
    target = Address(deployment, service)
    past = await past_runs(context, deployment)
    change = await context.client.set_service(target, wanted, force=force)
    output = context.output
    _tell_unknown(context, wanted)
    if change.held is not None:
        output.step(f"Held: {change.held}", SEED_MARK)
    if change.version is None:
        if change.held is None:
            output.line("No changes.")
        elif change.needs_code:
            if context.local and not detach and isinstance(place := wanted.get("git"), str):
                await bring_code(context, target, Source(place=place))
        elif not detach:
            failures = list[str]()
            async for each, number in released(context, [target], failures, past):
                await follow(context, each, number)
                await tell_instances(context, each, number)
            for failure in failures:
                output.note(failure)
        output.data(ChangeResult(changed=change.held is not None, version=None, held=change.held))
        return
    await finish_version(context, target, change.version, detach=detach)
    if not detach:
        await tell_instances(context, target, change.version.number)


def _tell_unknown(context: Context, wanted: Mapping[str, Any]) -> None:
    from controller.servicefile.complaints import did_you_mean
    from controller.servicefile.keys import KNOWN

    for key in wanted:
        if key not in KNOWN:
            near = did_you_mean(key, KNOWN)
            context.output.note(f"{key} is no key that is known here.{near} It is kept for plugins.")


def read_service(name: str, definition: str | None) -> tuple[str, dict[str, Any]]:
    """The service's name and its definition; raises InvalidInput."""
    wanted = _mapping(definition) if definition else {}
    if "/" not in name and ":" not in name:
        return check_name(name, "service name"), wanted
    last = name.rpartition("/")[2]
    service = last.partition("@")[0].partition(":")[0]
    return check_name(service, "service name"), {"image": name, **wanted}


def _mapping(text: str) -> dict[str, Any]:
    """Over SSH this runs in the server, on the words of anybody with a key: small and without aliases,
    which stand for a lot in few characters."""
    import yaml

    if len(text) > MAX_DEFINITION:
        raise InvalidInput("definition", f"The definition is larger than {MAX_DEFINITION // 1024} KiB.")
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # many times as fast, where it was built
    try:
        depth = 0
        for event in yaml.parse(text, loader):
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > MAX_DEPTH or isinstance(event, yaml.AliasEvent):
                raise InvalidInput(
                    "definition",
                    f"The definition has an alias (*name), or more than {MAX_DEPTH} levels: write it out.",
                )
        content = yaml.load(text, loader)  # noqa: S506  a safe loader
    except (yaml.YAMLError, ValueError) as error:
        said = " ".join(
            str(error)
            .replace(' in "<unicode string>",', " at")
            .replace(' in "<byte string>",', " at")
            .split()
        )
        raise InvalidInput("definition", f"The definition is no valid YAML or JSON: {said}") from error
    if not isinstance(content, dict):
        raise InvalidInput("definition", 'The definition must be a mapping such as "{env: {NAME: value}}".')
    return {str(key): value for key, value in content.items()}


@app_command(
    example="moor git:set -a foo deploy-branch production\nmoor git:set -a foo build-dir services/api"
)
@click.argument("key", type=click.Choice([DEPLOY_BRANCH, BUILD_DIR]))
@click.argument("values", nargs=-1, metavar="[VALUE]...")
async def git_set(context: Context, *, address: Address, key: str, values: tuple[str, ...]) -> None:
    """deploy-branch takes branches: a push of any other is stored only. build-dir takes the folder of the
    repository that is built. Without a value it is the default again: master and main, all of it."""
    if key == BUILD_DIR:
        if len(values) > 1:
            raise InvalidInput(BUILD_DIR, "build-dir takes one folder.")
        service = await context.client.set_build_dir(address, values[0] if values else "")
        what = service.build_dir or "the whole repository"
        context.output.step(f"The next push builds {address} from {what}")
        context.output.data({"app": str(address), "build_dir": service.build_dir})
        return
    branches = values or DEFAULT_BRANCHES
    await context.client.set_branches(address, branches)
    context.output.step(f"A push of {' or '.join(branches)} deploys {address}")
    context.output.data({"app": str(address), "branches": branches})
