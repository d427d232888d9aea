"""What goes wrong with an installation: processes are killed and frozen."""

import asyncio
import contextlib
import os
import signal
import time

import pytest

from controller.errors import Unavailable
from tests.acceptance.chaos.apps import APPS
from tests.acceptance.chaos.orders import GOOD


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
    world.system.launch()
    time.sleep(world.chance.uniform(0.2, 1.5))
    world.kill_server()


def kill_server_while_it_is_asked(world):
    """What it has answered is done, what it has not is done or not, and nothing in between."""
    moment = world.chance.uniform(0, 0.02)

    async def harm():
        await asyncio.sleep(moment)
        world.system.kill()

    asked = _ask_meanwhile(world, harm())
    world.system.start()
    world.connect()
    asked.look(world)


class _Asked:
    """A change of which it may not be known whether it was made."""

    def __init__(self, world):
        self.app = world.apps[world.chance.choice(APPS)]
        self.env = {"VALUE": world.new_value()}
        self.answer = None

    async def ask(self, world):
        definition = {"env": self.env, "health": GOOD, "rollout": None, "predeploy": None}
        try:
            self.answer = (await world.client.set_service(self.app.address, definition)).version
        except Unavailable as error:
            self.answer = error

    def look(self, world):
        """It was made as a whole, or not at all; and it was, where that was said."""
        newest, *_ = world.ask(world.client.versions(self.app.address))
        if newest.number > max(self.app.versions):
            world.promised(self.app, newest)
            assert self.app.versions[newest.number] == self.env
        elif not isinstance(self.answer, Unavailable):
            raise AssertionError(f"{self.app.name} v{self.answer.number} was promised and is not there")


def _ask_meanwhile(world, harm):
    """Ask for a change, and do harm."""
    asked = _Asked(world)

    async def both():
        await asyncio.gather(asked.ask(world), harm)

    world.ask(both())
    return asked


# Its store


def take_etcd_away(world):
    """It ends, in order or not, for less or more time than whoever asks is patient; the server may be killed too."""
    world.chance.choice([world.etcd.stop, world.etcd.kill])()
    began, span = time.monotonic(), world.chance.choice([0, 0, 1, 1, 7])
    asked = _Asked(world)
    world.ask(asked.ask(world))
    assert isinstance(asked.answer, Unavailable), asked.answer
    assert "The store does not answer; look before you ask again" in str(asked.answer)
    time.sleep(max(0, began + span - time.monotonic()))
    if world.chance.random() < 0.4:
        kill_server_without_etcd(world)
    else:
        world.etcd.start()
    world.wait_for_store()
    asked.look(world)


def kill_server_without_etcd(world):
    """It waits for its store, says so, and goes on where it was once that is there."""
    world.system.kill()
    world.system.launch()
    deadline = time.monotonic() + 30
    world.connect()
    while True:
        with pytest.raises(Unavailable) as told:
            world.ask(world.client.status())
        if "The server starts, and waits for its store" in str(told.value):
            break
        assert time.monotonic() < deadline, told.value
        time.sleep(0.1)
    time.sleep(world.chance.choice([0, 0, 2]))
    world.etcd.start()
    world.system.wait_until(world.system.answers, "the server answers")
    world.connect()


def freeze_etcd(world):
    """It takes connections and answers nothing, for less or more time than whoever asks is patient."""
    span = world.chance.choice([0.5, 2, 7])

    async def harm():
        world.etcd.freeze()
        await asyncio.sleep(span)
        world.etcd.thaw()

    asked = _ask_meanwhile(world, harm())
    world.wait_for_store()
    asked.look(world)


# What runs


def kill_keeper(world):
    """supervisord, and with it the pipes of all instances: the next one ends them and starts them anew."""
    for pid in world.outside.keepers():
        world.killed_keepers.add(pid)
        end(pid)
    for app in world.apps.values():
        _harm_runs(app)
        # A release command that was cut off is not run a second time: its version comes to nothing.
        app.serving += app.live


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
        _harm_runs(app)
        end(min(found[name]))  # a helper that dies is not missed by anybody


def _harm_runs(app):
    for run in app.runs.values():
        run.harmed = True


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
