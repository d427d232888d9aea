"""A whole Mooring, driven at random: whatever is asked and killed in whatever order, it ends up right.

Each step asks for some things (not waiting in between, or hardly), may kill something, waits until all
has settled, and then looks at everything. `MOOR_CHAOS_SEED` repeats a run as far as time allows: moments
differ. `MOOR_CHAOS_SECONDS` makes it longer.
"""

import contextlib
import os
import random
import time
from dataclasses import dataclass

import pytest

from contrib.installation import Installation
from tests.acceptance.chaos import faults
from tests.acceptance.chaos.truth import check
from tests.acceptance.chaos.world import APPS, SETTLE, World
from tests.acceptance.conftest import Requests, missing_commands

SECONDS = float(os.environ.get("MOOR_CHAOS_SECONDS", "40"))
SEED = int(os.environ.get("MOOR_CHAOS_SEED") or random.SystemRandom().randrange(1, 10**6))

pytestmark = [pytest.mark.real, pytest.mark.acceptance, pytest.mark.timeout(SECONDS + 180)]

LOSSLESS = (World.change, World.break_it, World.restart, World.roll_back, World.change_domains)
ACTIONS = (*LOSSLESS, World.change, World.rescale, World.rescale, World.stop_or_start, World.make_anew)
HARMLESS = (
    *(faults.kill_server,) * 2,
    faults.kill_server_as_it_starts,
    faults.kill_server_while_it_is_asked,
    faults.freeze_server,
)
"""Faults that cost the apps nothing."""
FAULTS = (
    *HARMLESS,
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
    def draw(cls, chance):
        asked = [
            (chance.choice(ACTIONS), chance.choice(APPS), chance.choice([0, 0, 0.05, 0.2, 0.6]))
            for _ in range(chance.choice([0, 1, 1, 1, 2, 3, 4]))
        ]
        harm = (
            chance.choices(FAULTS, k=chance.choice([1, 1, 2])) if not asked or chance.random() < 0.5 else []
        )
        return cls(asked, harm)

    def __str__(self):
        text = ", ".join(f"{action.__name__} {name} ({pause:g})" for action, name, pause in self.asked)
        return "; ".join([text, *(each.__name__ for each in self.faults)])

    @property
    def is_quiet(self):
        """Whether the server's word that all has settled is to be taken at its word."""
        return not self.faults and all(action is not World.make_anew for action, *_ in self.asked)

    def keeps_serving(self, world):
        """Apps that must not lose a request in this step, as far as that is known before."""
        if not set(self.faults) <= set(HARMLESS):
            return []
        return [
            app
            for app in world.apps.values()
            if app.serves
            and all(
                action in (*LOSSLESS, World.rescale) for action, name, _ in self.asked if name == app.name
            )
        ]

    def do(self, world):
        for action, name, pause in self.asked:
            action(world, world.apps[name])
            time.sleep(pause)
        for fault in self.faults:
            fault(world)


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
            (app, stack.enter_context(Requests(world.system, app.name, rate=40)))
            for app in step.keeps_serving(world)
        ]
        step.do(world)
        settle(world, step)
    lost = [
        f"{app.name} lost requests: {result}" for app, result in loads if result.failed and not app.lapsed
    ]
    assert not lost, "\n".join(lost)


@pytest.fixture(scope="module")
def world():
    """Three apps that were pushed, on a server of their own."""
    if missing := missing_commands():
        if os.environ.get("MOOR_TEST_REAL"):
            pytest.fail(f"not installed: {', '.join(missing)}")
        pytest.skip(f"not installed: {', '.join(missing)}")
    system = Installation(settings={"drain-timeout": "5", "stop-grace": "3"})
    try:
        system.start()
        system.add_key()
        world = World(system, random.Random(SEED))
        world.connect()
        world.push_all()
        yield world
        world.runner.close()
    finally:
        system.remove()


def test_whatever_is_asked_and_killed_it_ends_up_right(world):
    print(f"MOOR_CHAOS_SEED={SEED}")
    end = time.monotonic() + SECONDS
    number = 0
    while time.monotonic() < end:
        number += 1
        step = Step.draw(world.chance)
        began = time.monotonic()
        try:
            perform(world, step)
        except BaseException:
            print(f"{number:3} {step} FAILED after {time.monotonic() - began:.1f} s")
            world.tell()
            raise
        print(f"{number:3} {step}: {time.monotonic() - began:.1f} s")
