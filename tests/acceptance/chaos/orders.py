"""What people ask for. Each one is asked of an app, and notes in it what has to come of that."""

import time

import pytest

from controller.errors import Conflict, NotFound, Refused
from controller.names import instance_id
from controller.types import InstanceState
from tests.acceptance.chaos.apps import SHARE, App, OneOff
from tests.acceptance.chaos.world import SETTLE

GOOD = {"timeout": 60}
GRADUAL = ({"strategy": "one-by-one"}, {"strategy": "batch", "size": 2})
CANARY = {"strategy": "canary", "share": SHARE}
KINDS = ({}, {}, {"BOOT": "0.3"}, {"BOOT": "1"}, {"HELPER": "1"}, {"STUBBORN": "1"})
"""Variables that make an app behave in some way."""


def define(world, app, *, health=GOOD, rollout=None, predeploy=None, **env):
    """A version with this definition."""
    definition = {
        "env": env | {"VALUE": world.new_value()},
        "health": health,
        "rollout": rollout,
        "predeploy": predeploy,
    }
    change = world.ask(world.client.set_service(app.address, definition))
    world.promised(app, change.version, broken="BROKEN" in env)


def change(world, app, rollout=None):
    """Another configuration, in one of the ways to get there by itself."""
    health = GOOD | world.chance.choice([{}, {"path": "/"}])
    rollout = rollout or world.chance.choice([None, None, *GRADUAL])
    predeploy = world.chance.choice([None, None, None, "true", "sleep 0.5"])
    define(world, app, health=health, rollout=rollout, predeploy=predeploy, **world.chance.choice(KINDS))


def change_slowly(world, app):
    """To a version that takes a while to come up."""
    define(world, app, BOOT="1")


def change_gradually(world, app):
    """The same, some instances at a time."""
    change(world, app, world.chance.choice(GRADUAL))


def break_it(world, app):
    """A version that never comes up."""
    if app.due("web") == 0 or not app.served:
        change(world, app)  # nothing would show that it is broken, or nothing could serve on
        return
    how = world.chance.choice(["exit", "deaf", "predeploy", "release"])
    define(
        world,
        app,
        health={"timeout": 1.5},
        rollout=world.chance.choice([None, *GRADUAL]),
        predeploy="exit 4" if how == "predeploy" else None,
        BROKEN=how,
    )


def try_canary(world, app):
    """A version that runs beside the one that serves; or, where one does, a decision on it."""
    if app.canary is not None:
        world.chance.choice([promote, abort])(world, app)
    elif app.due("web") == 0:
        change(world, app)
    else:
        define(world, app, rollout=CANARY, **world.chance.choice(KINDS))


def promote(world, app):
    try:
        world.ask(world.client.promote_rollout(app.address))
    except Refused:
        assert app.canary_in_doubt
    else:
        app.live.append(app.canary)
        app.serving = [app.canary]
    app.canary = None


def abort(world, app):
    try:
        world.ask(world.client.abort_rollout(app.address, reason="chaos"))
    except Refused:
        assert app.canary_in_doubt
    app.canary = None


def call_off(world, app):
    """A version that is cancelled on its way, unless it was too fast."""
    if not app.served:
        change(world, app)
        return
    before = list(app.live)
    define(world, app, rollout=world.chance.choice([None, *GRADUAL]), BOOT="1")
    time.sleep(world.chance.choice([0, 0.2, 0.8, 1.2]))
    try:
        cancel = world.chance.choice([world.client.cancel_rollout, world.client.cancel_deploy])
        world.ask(cancel(app.address))
    except Refused:
        return
    app.live, app.serving = before, list(before)


def hold(world, app):
    """A rollout that is paused and resumed."""
    define(world, app, rollout=world.chance.choice([None, *GRADUAL]), BOOT="0.5")
    time.sleep(world.chance.choice([0, 0.2, 0.6]))
    try:
        world.ask(world.client.pause_rollout(app.address))
    except Refused:
        return
    if world.chance.random() < 0.2:
        world.kill_server()
    time.sleep(world.chance.choice([0, 0.5, 1.5]))
    world.ask(world.client.resume_rollout(app.address))


def roll_back(world, app):
    """To what was live before."""
    if app.due("web") == 0 and not app.stopped:
        return  # it may have come as a canary, and there would be nothing to try it on
    try:
        version = world.ask(world.client.rollback(app.address))
    except NotFound:
        return
    world.promised(app, version)


def rescale(world, app):
    """Another number of processes."""
    wanted = {"web": world.chance.randint(0, 3), "worker": world.chance.randint(0, 2)}
    wanted.pop(world.chance.choice(["web", "worker", "none"]), None)
    if app.unproven:
        wanted["web"] = max(1, wanted.get("web", 1))
    _scale(world, app, wanted)


def scale_up(world, app):
    """To more than one of everything."""
    _scale(world, app, {"web": 3, "worker": 2})


def scale_down(world, app):
    """To as few as can serve."""
    _scale(world, app, {"web": 1, "worker": 0})


def _scale(world, app, wanted):
    touched = {kind for kind, count in wanted.items() if count != app.scale[kind]}
    app.withdrawn = {name: kind for name, kind in app.withdrawn.items() if kind not in touched}
    app.scale |= wanted
    app.lapsed |= not app.due("web")
    world.ask(world.client.scale(app.address, {kind: str(count) for kind, count in wanted.items()}))


def restart(world, app):
    """The same again, in new processes."""
    if app.stopped:
        with pytest.raises(Refused):
            world.ask(world.client.restart(app.address))
    elif app.due("web"):
        world.ask(world.client.restart(app.address))
        app.withdrawn.clear()
        _note_canary_of_restart(world, app)


def _note_canary_of_restart(world, app):
    """The restart of a version that came as a canary is one too."""
    if app.canary is None and world.is_canary(app):
        number = world.ask(world.client.service(app.address)).service.target
        app.canary = app.versions[number]


def restart_part(world, app):
    """One process type, or one instance, again."""
    what = world.chance.choice(["web", "worker", "web.1", "web.2", "worker.1"])
    try:
        world.ask(world.client.restart(app.address, what))
    except (Refused, NotFound):
        return


def stop_part(world, app):
    """One process type, or one instance."""
    kind = world.chance.choice(["web", "worker"])
    if world.chance.random() < 0.5:
        if not (kind == "web" and app.unproven):
            world.ask(world.client.stop(app.address, kind))
            app.stopped_types.add(kind)
            app.lapsed |= kind == "web"
        return
    instances = world.ask(world.client.instances(app.address))
    running = [each for each in instances if (each.process_type, each.state) == (kind, InstanceState.RUNNING)]
    if app.unproven or not running:
        return
    number = world.chance.choice(running).number
    try:
        info = world.ask(world.client.stop(app.address, f"{kind}.{number}"))
    except (Refused, NotFound):
        return
    app.withdrawn[instance_id(app.name, "app", info.service.target, kind, number)] = kind
    # Others may have been asked for, and not be up yet.
    app.lapsed |= kind == "web" and len(running) < 2


def start_part(world, app):
    """Something that was stopped alone."""
    stopped = sorted({*app.stopped_types, *app.withdrawn})
    if not stopped:
        restart_part(world, app)
        return
    what = world.chance.choice(stopped)
    process = ".".join(what.rsplit("-", 2)[1:]) if what in app.withdrawn else what
    if app.stopped:
        with pytest.raises(Refused):
            world.ask(world.client.start(app.address, process))
        return
    world.ask(world.client.start(app.address, process))
    app.stopped_types.discard(what)
    app.withdrawn = {name: kind for name, kind in app.withdrawn.items() if name != what and kind != what}


def stop_or_start(world, app):
    """Whichever it is not."""
    app.stopped = not app.stopped
    if app.stopped:
        world.ask(world.client.stop(app.address))
    else:
        world.ask(world.client.start(app.address))
        app.stopped_types.clear()
        app.withdrawn.clear()


def turn_maintenance(world, app):
    """On, or off."""
    app.maintenance = not app.maintenance
    page = world.chance.choice(["", "<h1>Back soon</h1>"])
    world.ask(world.client.set_maintenance(app.address, app.maintenance, page=page))


def change_domains(world, app):
    """One more, or one less."""
    if app.domains and world.chance.random() < 0.5:
        domain = world.chance.choice(sorted(app.domains))
        world.ask(world.client.remove_domains(app.address, [domain]))
        app.domains.remove(domain)
        world.gone.add(domain)
        return
    domain = f"{world.chance.choice('abcdef')}.example.test"
    owned = {each for other in world.apps.values() if other is not app for each in other.domains}
    if domain in owned:
        with pytest.raises(Conflict):
            world.ask(world.client.add_domains(app.address, [domain]))
        return
    world.ask(world.client.add_domains(app.address, [domain]))
    app.domains.add(domain)
    world.gone.discard(domain)


def run_once(world, app):
    """A command of its own, that goes on whatever becomes of the server."""
    seconds = world.chance.choice([0, 0.5, 3, 8])
    run = world.ask(world.client.run_detached(app.address, [f"sleep {seconds}; echo done"]))
    app.runs[run.id] = OneOff(seconds)


def make_anew(world, app):
    """Destroy it, and make another by that name."""
    world.ask(world.client.destroy_deployment(app.name))
    world.gone |= app.domains
    if world.chance.random() < 0.3:
        world.kill_server()
    fresh = world.apps[app.name] = App(app.name)
    deadline = time.monotonic() + SETTLE
    while True:
        try:
            world.ask(world.client.create_deployment(app.name))
            world.ask(world.client.ensure_service(fresh.address))
            break
        except Conflict:
            assert time.monotonic() < deadline, f"{app.name} never went"
            time.sleep(0.1)
    world.ask(world.client.change_config(fresh.address, put={"VALUE": world.new_value()}))
    made = world.ask(
        world.client.release(fresh.address, world.artifact, commit=None, build=None, reason="made anew")
    )
    fresh.promised(made.version)
