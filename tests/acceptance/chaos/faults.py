"""What goes wrong with an installation: processes are killed and frozen."""

import asyncio
import contextlib
import os
import signal
import subprocess
import time

from controller.errors import Unavailable
from tests.acceptance.chaos.world import APPS, GOOD


def kill_server(world):
    """kill -9, and a start."""
    world.kill_server()


def kill_server_and_more(world):
    """While it is away, something else goes wrong."""
    harm = world.chance.choice([kill_keeper, kill_proxy_master, kill_proxy_worker, kill_instance])
    world.kill_server(lambda: harm(world))


def kill_server_as_it_starts(world):
    """Once more, at any moment of its start."""
    world.system.kill()
    with world.system.log.open("a") as log:
        world.system.server = subprocess.Popen(
            world.system.server.args,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=world.system.env,
            start_new_session=True,
        )
    time.sleep(world.chance.uniform(0.2, 1.5))
    world.kill_server()


def kill_server_while_it_is_asked(world):
    """What it has answered is done, what it has not is done or not, and nothing in between."""
    app = world.apps[world.chance.choice(APPS)]
    env = {"VALUE": world.new_value()}
    moment = world.chance.uniform(0, 0.02)

    async def ask():
        asked = asyncio.create_task(world.client.set_service(app.address, {"env": env, "health": GOOD}))
        await asyncio.sleep(moment)
        world.system.kill()
        return (await asyncio.gather(asked, return_exceptions=True))[0]

    answer = world.ask(ask())
    world.system.start()
    world.connect()
    newest, *_ = world.ask(world.client.versions(app.address))
    if not isinstance(answer, Unavailable) or newest.number > max(app.versions):
        app.promised(newest)
        assert app.versions[newest.number] == env


def kill_keeper(world):
    """supervisord, and with it the pipes of all instances: the next one ends them and starts them anew."""
    for pid in world.outside.keepers():
        world.killed_keepers.add(pid)
        end(pid)


def kill_proxy_master(world):
    """HAProxy's, which ends its workers."""
    end(world.outside.master())


def kill_proxy_worker(world):
    """HAProxy's, all of them."""
    for pid in set(world.outside.haproxies()) - {world.outside.master()}:
        end(pid)


def kill_instance(world):
    """Any process of an app."""
    if found := world.outside.apps():
        name = world.chance.choice(sorted(found))
        app = world.apps[name.split("-")[0]]
        # It may be one that had to show that its version is good.
        number = int(name.split("-")[2])
        app.serving += [env for each, env in app.versions.items() if each < number and "BROKEN" not in env]
        end(min(found[name]))  # a helper that dies is not missed by anybody


def freeze_instance(world):
    """A process of an app that does nothing for a moment."""
    if found := world.outside.apps():
        freeze(world, [world.chance.choice(found[world.chance.choice(sorted(found))])])


def freeze_server(world):
    """It does nothing for a moment."""
    freeze(world, [world.system.server.pid])


def freeze_keeper(world):
    """It does nothing for a moment."""
    freeze(world, world.outside.keepers())


def freeze_proxy(world):
    """It does nothing for a moment."""
    freeze(world, world.outside.haproxies())


def freeze(world, pids):
    for sign in (signal.SIGSTOP, signal.SIGCONT):
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, sign)
        if sign is signal.SIGSTOP:
            time.sleep(world.chance.uniform(0.5, 4))


def end(pid):
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
