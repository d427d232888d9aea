"""What has to be right once all has settled."""

import itertools

from controller.types import BuildStatus, InstanceState, VersionStatus


def check(world):
    """Everything that is not as it should be."""
    # What a new keeper ends still serves until then, so that all would look right too early.
    if int((world.system.data / "supervisor" / "supervisord.pid").read_text() or 0) in world.killed_keepers:
        return ["the keeper was killed, and no other runs"]
    status = world.ask(world.client.status())
    wrong = [f"problem: {each}" for each in status.problems]
    routes, leaving = world.outside.table()
    wrong += [f"still leaves the proxy: {each}" for each in sorted(leaving)]
    processes = world.outside.apps()
    expected = set()
    for app in world.apps.values():
        found, ids = check_app(world, app, routes, processes)
        wrong += [f"{app.name}: {each}" for each in found]
        expected |= ids
    wrong += [f"runs without being wanted: {each}" for each in sorted(processes.keys() - expected)]
    wrong += [f"routed without an app: {each}" for each in routes.keys() - {f"{a}/app" for a in world.apps}]
    wrong += [f"stray process: {each}" for each in world.outside.strays()]
    for domain in sorted(world.gone):
        if (status := world.outside.page(domain)[0]) != 404:
            wrong.append(f"{domain} of nobody is answered with {status}")
    if (count := len(world.outside.keepers())) != 1:
        wrong.append(f"{count} keepers")
    if (count := len(world.outside.haproxies())) != 2:
        wrong.append(f"{count} processes of HAProxy")
    if left := list((world.system.data / "builds").glob("*.tmp")):
        wrong.append(f"builds left: {left}")
    return wrong + check_journal(world)


def check_app(world, app, routes, processes):
    """What is wrong, and the ids of the instances that should run."""
    info = world.ask(world.client.service(app.address))
    service, wrong = info.service, []
    wrong += check_versions(world, app, service)
    if service.stopped != app.stopped:
        wrong.append(f"stopped is {service.stopped}")
    if set(info.domains) != app.domains | {app.host}:
        wrong.append(f"domains are {info.domains}")
    instances = world.ask(world.client.instances(app.address))
    ids = {each.id for each in instances}
    counts = {
        kind: sum(each.process_type == kind and each.state is InstanceState.RUNNING for each in instances)
        for kind in app.scale
    }
    wanted = {kind: 0 if app.stopped else count for kind, count in app.scale.items()}
    if counts != wanted or len(instances) != sum(wanted.values()):
        wrong.append(f"{wanted} wanted, there are {[(e.id, str(e.state), e.detail) for e in instances]}")
    if old := [
        each.id
        for each in instances
        if (each.version, each.generation) != (service.current, service.current_generation)
    ]:
        wrong.append(f"{old} run, v{service.current} is current")
    helpers = "HELPER" in app.versions.get(service.current, {})
    for each in instances:
        count = 2 if helpers and each.process_type == "web" else 1
        if len(pids := processes.get(each.id, ())) != count:
            wrong.append(f"{count} processes of {each.id} are wanted, there are {pids}")
    web = {(each.id, each.port) for each in instances if each.process_type == "web"}
    pool = routes.get(f"{app.name}/app")
    if pool is None or {(each.id, each.port) for each in pool.targets} != web:
        wrong.append(f"routed is {pool}, but {web} runs")
    elif pool.domains != set(info.domains):
        wrong.append(f"routed are {pool.domains}")
    if any(each.status is BuildStatus.RUNNING for each in world.ask(world.client.builds(app.address))):
        wrong.append("a build runs")
    return wrong + check_pages(world, app, service, ids), ids


def check_versions(world, app, service):
    wrong = []
    versions = world.ask(world.client.versions(app.address))
    if [each.number for each in versions] != sorted(app.versions, reverse=True):
        wrong.append(f"versions are {[each.number for each in versions]}, not {sorted(app.versions)}")
    for each in versions:
        if dict(each.definition.env) != app.versions.get(each.number):
            wrong.append(f"v{each.number} has {each.definition.env}")
        if each.status is VersionStatus.PENDING and not app.stopped:
            wrong.append(f"v{each.number} is pending")
    live = [each.number for each in versions if each.status is VersionStatus.LIVE]
    if live != [service.current]:
        wrong.append(f"live are {live}, current is {service.current}")
    if not app.stopped:
        goal, serves = (
            (service.target, service.generation),
            (service.current, service.current_generation),
        )
        if goal != serves:
            wrong.append(f"wanted is {goal}, serving {serves}")
        if app.versions.get(service.current) not in app.serving:
            wrong.append(f"v{service.current} serves, expected {app.serving}; {service.rollout_failure}")
    return wrong


def check_pages(world, app, service, ids):
    wrong = []
    for host in sorted(app.domains | {app.host}):
        for (status, text), _ in world.outside.pages(host, 3).items():
            if not app.serves:
                if status != 503:
                    wrong.append(f"{host} is answered with {status}")
                continue
            env = app.versions.get(service.current, {})
            value, number, run = [*text.split(" "), "", ""][:3]
            seen = (status, value, number)
            if seen != (200, env.get("VALUE"), str(service.current)) or run.partition("/")[2] not in ids:
                wrong.append(f"{host} is answered with {status}: {text[:80]}")
    return wrong


def check_journal(world):
    revisions = [each.revision for each in world.ask(world.client.events(limit=1000))]
    wrong = []
    if any(after <= before for before, after in itertools.pairwise(revisions)):
        wrong.append("revisions of the journal do not increase")
    if not revisions or revisions[-1] < world.revision:
        wrong.append(f"the journal ends at {revisions[-1:]}, it was at {world.revision}")
    else:
        world.revision = revisions[-1]
    return wrong
