"""Whole systems for the acceptance tests: the real server, git, ssh, supervisord and HAProxy."""

import asyncio
import os
import shutil
import signal
import threading
from contextlib import contextmanager

import pytest

from contrib.bench.load import Load
from contrib.installation import Installation

NEEDED = ("git", "ssh", "ssh-keygen", "haproxy")


def missing_commands():
    path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    return [each for each in NEEDED if shutil.which(each, path=path) is None]


@pytest.fixture(scope="session", autouse=True)
def interruptible():
    """A runner started in the background of a shell ignores Ctrl-C, and so would all that it starts."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="module")
def system():
    """A running installation with the key of an admin."""
    if missing := missing_commands():
        text = f"not installed: {', '.join(missing)}"
        if os.environ.get("MOOR_TEST_REAL"):
            pytest.fail(text)
        pytest.skip(text)
    here = Installation(settings={"drain-timeout": "20", "stop-grace": "5"})
    try:
        here.start()
        here.add_key()
        yield here
    finally:
        log = here.last_lines(200)
        here.remove()
        print(log)


@contextmanager
def started(here):
    """Runs with the key of an admin while the block does; then all apps go, and it."""
    try:
        here.start()
        here.add_key()
        yield here
    finally:
        log = here.last_lines(200)
        for app in here.json("apps") if here.server and here.server.poll() is None else ():
            here.run("moor", "apps:destroy", app["deployment"], "--confirm", app["deployment"])
        here.remove()
        print(log)


class Requests:
    """Requests at a steady rate, from a thread of their own, while a `with` block runs."""

    def __init__(self, here, app, *, rate=200.0, path="/"):
        self._load = Load(here.http, f"{app}.localhost", rate=rate, path=path)
        self.result = self._load.result
        self._done = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))

    async def _run(self):
        async with self._load:
            await asyncio.to_thread(self._done.wait)

    def __enter__(self):
        self._thread.start()
        return self.result

    def __exit__(self, *_):
        self._done.set()
        self._thread.join(timeout=30)
        assert not self._thread.is_alive()


@pytest.fixture
def requests(system):
    """`with requests("app") as result:` 200 requests a second."""
    return lambda app, **options: Requests(system, app, **options)
