"""An installation with its apps, and what is known of them from the outside."""

import asyncio
import contextlib
import time

from controller.client import Client
from controller.errors import MooringError, Unavailable
from controller.rollout import is_canary
from tests.acceptance.chaos.apps import APPS, PROCFILE, WEB, App
from tests.acceptance.chaos.outside import Outside

SETTLE = 45
"""Seconds: a killed keeper's instances get 5 to end, a crashed one waits for its next start."""


class World:
    """One installation, its apps as they should be, and the ways to ask and to kill it."""

    def __init__(self, system, chance, etcd=None):
        self.system = system
        self.chance = chance
        self.etcd = etcd
        """Where its state is; None: in SQLite."""
        self.outside = Outside(system)
        self.apps = {name: App(name) for name in APPS}
        self.artifact = None
        """The same for all apps, so that it stays while one of them is made anew."""
        self.gone = set()
        """Domains that nobody has now."""
        self.revision = 0
        self.values = 0
        self.killed_keepers = set()
        self.runner = asyncio.Runner()
        self.client = None

    def ask(self, coroutine):
        return self.runner.run(coroutine)

    def kill_server(self, harm=None):
        """kill -9, harm something else while it is away, and start it again."""
        self.system.kill()
        if harm:
            harm()
        time.sleep(self.chance.choice([0, 0, 0.3, 1]))
        self.system.start()
        self.connect()

    def connect(self):
        if self.client is not None:
            self.ask(self.client.close())
        token = (self.system.data / "local-token").read_text().strip()
        self.client = Client(f"http://127.0.0.1:{self.system.api}", token)

    def push_all(self):
        for app in self.apps.values():
            self.system.moor("create", app.name)
            folder = self.system.checkout(app.name)
            self.system.commit(folder, "chaos", app__py=WEB, Procfile=PROCFILE)
            self.system.moor("config:set", "-a", app.name, "VALUE=pushed")
            pushed = self.system.push(folder)
            assert pushed.returncode == 0, pushed.stdout
            (version,) = self.ask(self.client.versions(app.address))
            app.promised(version)
            app.served = True
            self.artifact = version.artifact

    def destroy_all(self):
        """The server stops apps that ignore it sooner than the end of a whole installation does."""
        with contextlib.suppress(MooringError):
            for name in self.apps:
                self.ask(self.client.destroy_deployment(name))
            self.system.wait_until(lambda: not self.outside.apps(), "nothing runs")

    def new_value(self):
        self.values += 1
        return f"value-{self.values}"

    def promised(self, app, version, *, broken=False):
        """Remember a version that was answered to us; whether it is a canary, the server has to know."""
        app.promised(version, broken=broken, canary=self.is_canary(app))

    def is_canary(self, app):
        service = self.ask(self.client.service(app.address)).service
        if service.target is None:
            return False
        return is_canary(service, self.ask(self.client.version(app.address, service.target)))

    def follow(self, app):
        """Until the server says that it has settled."""

        async def steps():
            return [step async for step in self.client.follow(app.address)]

        self.ask(asyncio.wait_for(steps(), SETTLE))

    def wait_for_store(self):
        """Until it takes changes again, and the server knows what was done that it could not be told of."""
        deadline = time.monotonic() + SETTLE
        while True:
            with contextlib.suppress(Unavailable):
                if not self.ask(self.client.status()).problems:
                    self.ask(self.client.create_user(f"probe-{self.new_value()}"))
                    break
            assert time.monotonic() < deadline, "the store is back, and the server does not see it"
            time.sleep(0.1)
        time.sleep(0.3)

    def tell(self):
        """Print what helps to find out what went wrong."""
        print(self.system.last_lines(120))
        print((self.system.data / "supervisor" / "supervisord.log").read_text()[-3000:])
        for app in self.apps.values():
            print(app)
        with contextlib.suppress(MooringError):
            for each in self.ask(self.client.events(limit=120)):
                print(f"    {each.time:%H:%M:%S.%f} {each.deployment} {each.kind}: {each.text}")

    def settled(self):
        """What was in doubt is known now."""
        for app in self.apps.values():
            service = self.ask(self.client.service(app.address)).service
            current = app.versions[service.current]
            if app.canary_in_doubt and not self.is_canary(app):
                app.canary = None
            app.canary_in_doubt = False
            if not app.stopped:
                app.serving, app.broken = [current], False
            app.served = True
            # What came while it was stopped is still on its way.
            app.live = [current, *app.serving]
            app.runs = dict(list(app.runs.items())[-10:])
