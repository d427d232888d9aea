"""Apps: what there is, making one, forgetting one."""

import asyncio
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress

import click

from cli.context import CommandFailed, Context
from cli.grammar import app_command, command
from cli.output import timestamp
from cli.rollout import RELEASED_BY
from controller.errors import Conflict
from controller.names import DEFAULT_SERVICE, Address, parse_address, parse_instance_id
from controller.types import Instance, InstanceState, Rollout, Service, Strategy
from controller.views import ServiceInfo

UNNAMED_SHOWN = "web"
"""What the process type of a service without named ones is called towards people."""

AT_ONCE = 8
"""Questions that `list` has open with the server at a time."""


@command(example="moor apps\nmoor apps --json")
async def apps(context: Context) -> None:
    client = context.client
    infos, known = await asyncio.gather(client.services(), client.deployments())
    empty = {each.name for each in known} - {each.service.deployment for each in infos}
    rows = [
        (address_of(each), state_of(each), version_text(each), f"{each.running}", (each.urls or ("",))[0])
        for each in infos
    ]
    rows += [(name, "no service yet", "", "", "") for name in empty]
    context.output.table(("app", "state", "version", "running", "url"), sorted(rows))
    context.output.data(
        [
            {
                "app": address_of(each),
                "deployment": each.service.deployment,
                "service": each.service.name,
                "state": state_of(each),
                "version": each.service.current,
                "running": each.running,
                "urls": each.urls,
            }
            for each in infos
        ]
        + [{"app": name, "deployment": name, "service": None, "state": "empty"} for name in sorted(empty)]
    )
    if not infos and not empty:
        context.output.detail("No apps yet: `apps:create NAME` makes one.")


@command(example="moor apps:create foo")
@click.argument("name")
async def create(context: Context, *, name: str) -> None:
    """`foo/website` makes a further service of the deployment foo."""
    address = parse_address(name)
    if address.service == DEFAULT_SERVICE:
        await context.client.create_deployment(address.deployment)
    else:
        with suppress(Conflict):
            await context.client.create_deployment(address.deployment)
    info = await context.client.ensure_service(address)
    context.output.step(f"Created {address}")
    url = await push_url(context, address)
    context.output.detail(f"git remote add deploy {url}\ngit push deploy {info.service.branches[0]}")
    context.output.data({"app": str(address), "push_url": url, "urls": info.urls})


async def push_url(context: Context, address: Address) -> str:
    """The URL to push to, as one that works from elsewhere too where that can be known."""
    status = await context.client.status()
    host, _, port = status.ssh.rpartition(":")
    if host in ("0.0.0.0", "[::]", ""):
        host = _known_host(context.server_host, status.domain)
    return f"ssh://deploy@{host}:{port}/{address}.git"


def _known_host(reached: str | None, domain: str) -> str:
    """A server that listens on every address: the name it was reached at, else the apps' domain."""
    if reached not in (None, "localhost", "127.0.0.1", "::1"):
        return f"[{reached}]" if ":" in str(reached) else str(reached)
    return domain


@app_command(example="moor apps:destroy foo\nmoor apps:destroy foo --confirm foo")
@click.option("--force", is_flag=True, help="Don't ask.")
@click.option("--confirm", metavar="NAME", help="The name once more, instead of being asked.")
async def destroy(context: Context, *, address: Address, force: bool, confirm: str | None) -> None:
    """The name of a deployment destroys all of its services."""
    name = str(address)
    client = context.client
    whole = address.service == DEFAULT_SERVICE and "/" not in name
    if whole:
        infos = await client.services(address.deployment)
    else:
        infos = [await client.service(address)]
    if not force:
        await _confirm(context, name, infos, confirm)
    if whole:
        await client.destroy_deployment(address.deployment)
    else:
        await client.destroy_service(address)
    context.output.step(f"Destroyed {name}")
    context.output.data({"destroyed": name})


async def _confirm(context: Context, name: str, infos: Sequence[ServiceInfo], confirm: str | None) -> None:
    if confirm is None:
        if not context.input.terminal:
            raise CommandFailed(
                f"Destroying {name} needs your word for it, and there is no terminal to ask at.",
                hint=f"Add --confirm {name}, or --force.",
            )
        services = ", ".join(address_of(each) for each in infos) or "no services"
        context.output.note(
            f"This stops and forgets {name} ({services}): versions, config, domains, repository, logs."
        )
        context.output.prompt(f" !     Type {name} to go on: ")
        confirm = (await context.input.line()).strip()
    if confirm != name:
        raise CommandFailed(f"That was not {name}: nothing was destroyed.")


@app_command(example="moor apps:info foo")
async def info(context: Context, *, address: Address) -> None:
    from cli.commands.limits import kept_text, limits_text

    client = context.client
    found, instances, limits, status = await asyncio.gather(
        client.service(address), client.instances(address), client.limits(address), client.status()
    )
    service = found.service
    context.output.title(f"{address_of(found)} information")
    context.output.facts(
        (
            ("app", address_of(found)),
            ("state", state_of(found)),
            ("held", found.held),
            ("version", version_text(found)),
            ("rollout", found.rollout),
            ("strategy", strategy_text(service.definition.rollout)),
            ("last failure", service.rollout_failure),
            ("processes", scale_text(found.process_types)),
            ("stopped", stopped_text(service)),
            ("running", found.running),
            ("crash-looping", crashes_text(instances)),
            ("limits", limits_text(limits)),
            ("limits by", kept_text(status)),
            ("urls", "\n".join(found.urls)),
            ("reached at", places_text(found)),
            ("push to", await push_url(context, address)),
            ("branches", " ".join(service.branches)),
            ("buildpacks", " ".join(service.buildpacks)),
            ("build dir", service.build_dir),
            ("image", service.definition.image),
            ("staged config", f"{', '.join(found.staged)} ({RELEASED_BY})" if found.staged else ""),
            ("created", timestamp(service.created_at)),
            ("created by", service.created_by),
        )
    )
    context.output.data(found)


@command(example="moor list\nmoor list foo")
@click.argument("deployment", required=False)
async def tree(context: Context, *, deployment: str | None) -> None:
    client = context.client
    infos, known = await asyncio.gather(client.services(deployment), client.deployments())
    names = [deployment] if deployment else sorted(each.name for each in known)
    limit = asyncio.Semaphore(AT_ONCE)

    async def instances(each: ServiceInfo) -> Sequence[Instance]:
        async with limit:
            return await client.instances(Address(each.service.deployment, each.service.name))

    found = await asyncio.gather(*(instances(each) for each in infos))
    grouped: Mapping[str, list[tuple[ServiceInfo, Sequence[Instance]]]] = defaultdict(list)
    for each, running in zip(infos, found, strict=True):
        grouped[each.service.deployment].append((each, running))
    for name in names:
        context.output.line(name)
        for each, running in grouped[name]:
            context.output.line(f"    {each.service.name}")
            _print_instances(context, each, running)
    context.output.data(
        [
            {
                "deployment": name,
                "services": [
                    {"service": each.service.name, "version": each.service.current, "instances": running}
                    for each, running in grouped[name]
                ],
            }
            for name in names
        ]
    )


def _print_instances(context: Context, info: ServiceInfo, instances: Sequence[Instance]) -> None:
    rows = [
        ("yes" if each.state is InstanceState.RUNNING else each.state.value, each.id, f"v{each.version}")
        for each in instances
    ] or [("no", "", state_of(info) if info.held is None else f"held: {info.held}")]
    width = max((len(row[1]) for row in rows), default=0)
    if context.output.headers:
        context.output.line(f"        {'running':8} {'instance':{width}} version".rstrip())
    for running, instance, version in rows:
        context.output.line(f"        {running:8} {instance:{width}} {version}".rstrip())


def address_of(info: ServiceInfo) -> str:
    return str(Address(info.service.deployment, info.service.name))


def state_of(info: ServiceInfo) -> str:
    """One word or two for how the service is."""
    service = info.service
    if info.held is not None:
        return "held"
    if service.stopped:
        return "stopped"
    if service.target is not None and service.target != service.current:
        return f"deploying v{service.target}{', paused' * service.paused}"
    if service.current is None:
        return "not deployed"
    if service.generation != service.current_generation:
        return f"restarting{', paused' * service.paused}"
    if service.maintenance:
        return "in maintenance"
    if info.running < info.due:
        return f"{info.running} of {info.due} running"
    if info.due:
        return "running"
    return "stopped" if any(info.process_types.values()) else "scaled to zero"


def places_text(info: ServiceInfo) -> str:
    """A line for each port at which others of its deployment reach it."""
    return "\n".join(
        f"port {port} within the machine{f', its {name}' if name else ''} (expose)"
        for name, port in sorted(info.inner_ports.items())
    )


def strategy_text(rollout: Rollout) -> str:
    """`canary, share 25 %, timeout 3600 s`."""
    match rollout.strategy:
        case Strategy.BATCH:
            return f"batch, size {rollout.size}"
        case Strategy.CANARY:
            return f"canary, share {rollout.share} %, timeout {rollout.timeout:g} s"
        case _:
            return rollout.strategy.value


def crashes_text(instances: Sequence[Instance]) -> str:
    """A line for each instance that keeps ending: with what, and when it is started again."""
    return "\n".join(
        f"{each.id}: {each.detail}{next_start_text(each)}"
        for each in instances
        if each.state is InstanceState.CRASH_LOOPING
    )


def next_start_text(instance: Instance) -> str:
    return f"; next start at {timestamp(instance.next_start_at)}" if instance.next_start_at else ""


def stopped_text(service: Service) -> str:
    """Process types and single instances that were stopped, as `ps:start` takes them."""
    types = [each or UNNAMED_SHOWN for each in service.stopped_types]
    return " ".join((*types, *(_shown_instance(service, each) for each in service.withdrawn)))


def _shown_instance(service: Service, instance: str) -> str:
    found = parse_instance_id(service.deployment, service.name, instance)
    return f"{found[1] or UNNAMED_SHOWN}.{found[2]}" if found else instance


def version_text(info: ServiceInfo) -> str:
    return "" if info.service.current is None else f"v{info.service.current}"


def scale_text(process_types: Mapping[str, int]) -> str:
    """The scale as `ps:scale` takes it: `web=2 worker=1`."""
    return " ".join(f"{name or UNNAMED_SHOWN}={number}" for name, number in sorted(process_types.items()))
