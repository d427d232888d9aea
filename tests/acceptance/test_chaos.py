"""A whole Mooring, driven at random: whatever is asked and killed in whatever order, it ends up right.

Each step asks for some things (not waiting in between, or hardly), may kill something, waits until all
has settled, and then looks at everything. `MOOR_CHAOS_SEED` repeats a run as far as time allows: moments
differ. `MOOR_CHAOS_SECONDS` makes it longer (it is for each store). A failure prints the seed, every step
until then, what was known of each app, the server's log and its journal.

Steps are drawn here and not by hypothesis: a step takes seconds and its moments can't be repeated, so
there would be nothing to shrink, and a failure's own history tells more.
"""

import contextlib
import itertools
import os
import random
import time
from dataclasses import dataclass

import pytest

from contrib.installation import Installation
from tests.acceptance.chaos import faults, orders
from tests.acceptance.chaos.apps import APPS
from tests.acceptance.chaos.truth import check
from tests.acceptance.chaos.world import SETTLE, World
from tests.acceptance.conftest import Requests, missing_commands
from tests.servers.etcd import running_etcd

SECONDS = float(os.environ.get("MOOR_CHAOS_SECONDS", "16"))
SEED = int(os.environ.get("MOOR_CHAOS_SEED") or random.SystemRandom().randrange(1, 10**6))

pytestmark = [pytest.mark.real, pytest.mark.acceptance, pytest.mark.timeout(SECONDS + 180)]

LOSSLESS = (
    orders.change,
    orders.change_slowly,
    orders.change_gradually,
    orders.break_it,
    orders.try_canary,
    orders.call_off,
    orders.hold,
    orders.restart,
    orders.restart_part,
    orders.stop_part,
    orders.start_part,
    orders.rescale,
    orders.scale_up,
    orders.scale_down,
    orders.roll_back,
    orders.change_domains,
    orders.run_once,
)
"""Nobody notices, unless all that serves was asked to stop (which they note as `lapsed`)."""
ORDERS = (
    *LOSSLESS,
    orders.change,
    orders.rescale,
    orders.try_canary,
    orders.try_canary,
    orders.start_part,
    orders.stop_or_start,
    orders.stop_or_start,
    orders.turn_maintenance,
    orders.turn_maintenance,
    orders.make_anew,
)
HARMLESS = (
    *(faults.kill_server,) * 4,
    faults.kill_server_as_it_starts,
    faults.kill_server_while_it_is_asked,
    faults.freeze_server,
)
"""Faults that cost the apps nothing."""
OF_ETCD = (*(faults.take_etcd_away,) * 2, faults.freeze_etcd) * 2
"""Neither do these, where there is one."""
HARMFUL = (
    faults.kill_server_and_more,
    faults.kill_keeper,
    faults.kill_proxy_master,
    faults.kill_proxy_worker,
    faults.kill_instance,
    faults.freeze_instance,
    faults.freeze_keeper,
    faults.freeze_proxy,
)


@dataclass
class Step:
    """What one step asks for, and what it harms."""

    asked: list
    """(action, app's name, pause after it)"""
    faults: list

    @classmethod
    def draw(cls, chance, *, etcd):
        asked = [
            (chance.choice(ORDERS), chance.choice(APPS), chance.choice([0, 0, 0.05, 0.2, 0.6]))
            for _ in range(chance.choice([0, 1, 1, 1, 2, 3, 4]))
        ]
        known = (*HARMLESS, *HARMFUL, *(OF_ETCD if etcd else ()))
        some = not asked or chance.random() < 0.5
        return cls(asked, chance.choices(known, k=chance.choice([1, 1, 2])) if some else [])

    def __str__(self):
        text = ", ".join(f"{action.__name__} {name} ({pause:g})" for action, name, pause in self.asked)
        return "; ".join([text, *(each.__name__ for each in self.faults)])

    @property
    def is_quiet(self):
        """Whether the server's word that all has settled is to be taken at its word."""
        return not self.faults and all(action is not orders.make_anew for action, *_ in self.asked)

    @property
    def is_harmless(self):
        return {*self.faults} <= {*HARMLESS, *OF_ETCD}

    def keeps_serving(self, world):
        """Apps that must not lose a request in this step, as far as that is known before."""
        if not self.is_harmless:
            return []
        return [
            app
            for app in world.apps.values()
            if app.serves and all(action in LOSSLESS for action, name, _ in self.asked if name == app.name)
        ]

    def do(self, world):
        for action, name, pause in self.asked:
            action(world, world.apps[name])
            time.sleep(pause)
        if not self.is_harmless:
            for app in world.apps.values():
                app.canary_in_doubt = app.canary is not None
        for fault in self.faults:
            fault(world)


OPENING = (
    Step(
        [(orders.change_slowly, "alpha", 0), (orders.scale_up, "beta", 0), (orders.run_once, "gamma", 0)], []
    ),
    Step([(orders.roll_back, "alpha", 0), (orders.restart, "beta", 0), (orders.try_canary, "gamma", 0)], []),
    Step([(orders.break_it, "alpha", 0), (orders.change_gradually, "beta", 0)], [faults.kill_server]),
    Step([(orders.scale_down, "beta", 0), (orders.promote, "gamma", 0)], []),
)
"""What every run begins with, so that none passes by having been asked for little."""


def settle(world, step):
    for name in {name for _, name, _ in step.asked} if step.is_quiet else ():
        world.follow(world.apps[name])
    if step.is_quiet:
        wrong = check(world)
        assert not wrong, "\n".join(["Said to have settled, but:", *wrong])
    deadline = time.monotonic() + SETTLE
    while wrong := attempt_check(world):
        assert time.monotonic() < deadline, "\n".join([f"Not right after {SETTLE} s:", *wrong])
        time.sleep(0.2)
    world.settled()


def attempt_check(world):
    try:
        return check(world)
    except Exception as error:
        return [f"can't be looked at: {error!r}"]


def perform(world, step):
    for app in world.apps.values():
        app.lapsed = False
    with contextlib.ExitStack() as stack:
        loads = [
            (app, stack.enter_context(Requests(world.system, app.name, **load)))
            for app in step.keeps_serving(world)
            # The slow ones are cut off by whatever stops without waiting for them.
            for load in ({"rate": 30}, {"rate": 6, "path": "/slow"})
        ]
        step.do(world)
        settle(world, step)
    lost = [
        f"{app.name} lost requests: {result}" for app, result in loads if result.failed and not app.lapsed
    ]
    assert not lost, "\n".join(lost)


@pytest.fixture(scope="module", params=["sqlite", "etcd"])
def world(request):
    """Three apps that were pushed, on a server of their own."""
    if missing := missing_commands():
        if os.environ.get("MOOR_TEST_REAL"):
            pytest.fail(f"not installed: {', '.join(missing)}")
        pytest.skip(f"not installed: {', '.join(missing)}")
    with contextlib.ExitStack() as stack:
        settings = {"drain-timeout": "5", "stop-grace": "3", "store": request.param}
        etcd = None
        if request.param == "etcd":
            etcd = stack.enter_context(running_etcd())
            settings["etcd"] = etcd.address
        # What is expected of the versions of an app is all of them, also in a long run.
        settings["keep-versions"] = "100000"
        system = Installation(settings=settings)
        stack.callback(system.remove)
        system.start()
        system.add_key()
        world = World(system, random.Random(SEED), etcd)
        stack.callback(world.runner.close)
        world.connect()
        world.push_all()
        yield world
        world.destroy_all()


def test_whatever_is_asked_and_killed_it_ends_up_right(world):
    print(f"MOOR_CHAOS_SEED={SEED} MOOR_CHAOS_SECONDS={SECONDS:g}")
    end = time.monotonic() + SECONDS
    for number in itertools.count(1):
        if number > len(OPENING) and time.monotonic() > end:
            break
        drawn = Step.draw(world.chance, etcd=world.etcd is not None)
        step = OPENING[number - 1] if number <= len(OPENING) else drawn
        began = time.monotonic()
        try:
            perform(world, step)
        except BaseException:
            print(f"{number:3} {step} FAILED after {time.monotonic() - began:.1f} s")
            world.tell()
            raise
        print(f"{number:3} {step}: {time.monotonic() - began:.1f} s", flush=True)
