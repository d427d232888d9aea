"""What has to be right once all has settled."""

import itertools
import time
from collections import Counter
from math import ceil

from controller.rollout import is_canary
from controller.types import InstanceState, RunStatus, VersionStatus
from tests.acceptance.chaos.apps import SHARE


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
    """What is wrong, and the ids of the instances and one-offs that may run."""
    info = world.ask(world.client.service(app.address))
    service, wrong = info.service, []
    versions = world.ask(world.client.versions(app.address))
    canary = is_canary(service, next((each for each in versions if each.number == service.target), None))
    if canary != (app.canary is not None) and not app.canary_in_doubt:
        wrong.append(f"v{service.target} is {'' if canary else 'no '}canary, expected {app.canary}")
    wrong += check_versions(app, service, versions, canary)
    wrong += check_wishes(app, service)
    if set(info.domains) != app.domains | {app.host}:
        wrong.append(f"domains are {info.domains}")
    instances = world.ask(world.client.instances(app.address))
    wrong += check_instances(app, service, instances, canary)
    for each in instances:
        helpers = "HELPER" in app.versions.get(each.version, {}) and each.process_type == "web"
        if len(pids := processes.get(each.id, ())) != 1 + helpers:
            wrong.append(f"{1 + helpers} processes of {each.id} are wanted, there are {pids}")
    web = {(each.id, each.port) for each in instances if each.process_type == "web"}
    pool = routes.get(f"{app.name}/app")
    if pool is None or {(each.id, each.port) for each in pool.targets} != web:
        wrong.append(f"routed is {pool}, but {web} runs")
    elif (pool.domains, pool.maintenance) != (set(info.domains), app.maintenance):
        wrong.append(f"routed are {pool.domains}, maintenance is {pool.maintenance}")
    if any(each.status.under_way for each in world.ask(world.client.builds(app.address))):
        wrong.append("a build is under way")
    late, runs = check_runs(world, app)
    ids = {each.id for each in instances}
    return wrong + late + check_pages(world, app, service, ids, canary), ids | runs


def check_versions(app, service, versions, canary):
    wrong = []
    if [each.number for each in versions] != sorted(app.versions, reverse=True):
        wrong.append(f"versions are {[each.number for each in versions]}, not {sorted(app.versions)}")
    for each in versions:
        if dict(each.definition.env) != app.versions.get(each.number):
            wrong.append(f"v{each.number} has {each.definition.env}")
        waits = app.stopped or (canary and each.number == service.target)
        if each.status is VersionStatus.PENDING and not waits:
            wrong.append(f"v{each.number} is pending")
    live = [each.number for each in versions if each.status is VersionStatus.LIVE]
    if live != [service.current]:
        wrong.append(f"live are {live}, current is {service.current}")
    goal, serves = (service.target, service.generation), (service.current, service.current_generation)
    if not app.stopped and (goal == serves) == canary:
        wrong.append(f"wanted is {goal}, serving {serves}; {service.rollout_failure}")
    if not app.stopped and app.versions.get(service.current) not in app.serving:
        wrong.append(f"v{service.current} serves, expected {app.serving}; {service.rollout_failure}")
    if canary and app.versions.get(service.target) != app.canary:
        wrong.append(f"v{service.target} is a canary, expected {app.canary}")
    return wrong


def check_wishes(app, service):
    """What was asked for and is not a version's."""
    found = {
        "stopped": service.stopped,
        "stopped types": set(service.stopped_types),
        "withdrawn": set(service.withdrawn),
        "being replaced": set(service.replacing),
        "maintenance": service.maintenance,
        "paused": service.paused,
    }
    asked = {
        "stopped": app.stopped,
        "stopped types": app.stopped_types,
        "withdrawn": set(app.withdrawn),
        # What was to be replaced when it was stopped is gone, which is noted once it runs again.
        "being replaced": found["being replaced"] if app.stopped else set(),
        "maintenance": app.maintenance,
        "paused": False,
    }
    return [f"{name}: {found[name]}, asked for {asked[name]}" for name in found if found[name] != asked[name]]


def check_instances(app, service, instances, canary):
    serves, goal = (service.current, service.current_generation), (service.target, service.generation)
    wanted = Counter({(serves, kind): app.due(kind) for kind in app.scale})
    if canary:
        kinds = ["web"] if app.due("web") else ["worker"]
        wanted.update({(goal, kind): ceil(app.due(kind) * SHARE / 100) for kind in kinds})
    there = Counter(
        ((each.version, each.generation), each.process_type)
        for each in instances
        if each.state is InstanceState.RUNNING
    )
    if +wanted != there or len(instances) != wanted.total():
        shown = [(each.id, each.generation, str(each.state), each.detail) for each in instances]
        return [f"{dict(+wanted)} wanted, there are {shown}"]
    return []


def check_runs(world, app):
    """One-offs that did not come to the end they should, and the ids of those that may still run."""
    known = {each.id: each for each in world.ask(world.client.runs(app.address))}
    wrong, may_run, now = [], set(), time.monotonic()
    for name, asked in app.runs.items():
        run = known.get(name)
        if run is None:
            wrong.append(f"{name} is not known any more")
        elif not run.status.over:
            may_run.add(name)
            if now > asked.due:
                wrong.append(f"{name} is {run.status} after {now - asked.asked_at:.1f} s")
        else:
            if now < asked.due:
                may_run.add(name)
            if run.status is not RunStatus.SUCCEEDED and not asked.harmed:
                wrong.append(f"{name} is {run.status}: {run.detail}")
    return wrong, may_run


def check_pages(world, app, service, ids, canary):
    wrong = []
    serve = {service.current, service.target} if canary else {service.current}
    for host in sorted(app.domains | {app.host}):
        for (status, text), _ in world.outside.pages(host, 3).items():
            if not app.serves:
                if status != 503:
                    wrong.append(f"{host} is answered with {status}")
                continue
            value, number, run = [*text.split(" "), "", ""][:3]
            fits = any(number == str(each) and app.versions[each]["VALUE"] == value for each in serve)
            if status != 200 or not fits or run.partition("/")[2] not in ids:
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
