"""Apps as they should be, and an installation that is asked for changes of them."""

import asyncio
import contextlib
import time
from dataclasses import dataclass, field

import pytest

from controller.client import Client
from controller.errors import Conflict, MooringError, NotFound, Refused
from controller.names import Address
from tests.acceptance.chaos.outside import Outside

APPS = ("alpha", "beta", "gamma")
WEB = """
import os, signal, subprocess, sys, threading, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
BODY = " ".join(os.environ[each] for each in ("VALUE", "MOORING_VERSION", "MOOR_RUN")).encode()
if os.environ.get("BROKEN") == "exit":
    sys.exit(3)
if os.environ.get("BROKEN") == "deaf":
    time.sleep(1000)
time.sleep(float(os.environ.get("BOOT", "0")))
if os.environ.get("HELPER"):
    subprocess.Popen(["sleep", "1000"], start_new_session=True)
class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", str(len(BODY)))
        self.end_headers()
        self.wfile.write(BODY)
    def log_message(self, *_):
        pass
class Server(ThreadingHTTPServer):
    request_queue_size = 128
server = Server(("", int(os.environ["PORT"])), Handler)
if not os.environ.get("STUBBORN"):
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
else:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
server.serve_forever(0.05)
"""
GOOD = {"timeout": 60}
SETTLE = 45
"""Seconds: a killed keeper's instances get 5 to end, a crashed one waits for its next start."""


@dataclass
class App:
    """What is known of an app from the outside: what was asked for, and what it was answered."""

    name: str
    scale: dict[str, int] = field(default_factory=lambda: {"web": 1, "worker": 0})
    stopped: bool = False
    domains: set[str] = field(default_factory=set)
    versions: dict[int, dict[str, str]] = field(default_factory=dict)
    """Number to variables, of every version that the server has promised."""
    serving: list[dict[str, str]] = field(default_factory=list)
    """The variables of the versions that may serve once all has settled: one, but after faults."""
    live: list[dict[str, str]] = field(default_factory=list)
    """The variables of those that may have served since all had settled last: what a broken one goes back to."""
    served: bool = False
    """A version of it was live, so that there is something to go back to."""
    lapsed: bool = False
    """It was scaled to nothing in this step."""
    broken: bool = False
    """The wanted version can't come up, and may not have been given up yet."""

    @property
    def address(self):
        return Address(self.name)

    @property
    def host(self):
        return f"{self.name}.localhost"

    @property
    def serves(self):
        return not self.stopped and self.scale["web"] > 0

    def promised(self, version, *, broken=False):
        """Remember a version that was answered to us."""
        assert version.number == max(self.versions, default=0) + 1, f"{self.name} got v{version.number} next"
        env = self.versions[version.number] = dict(version.definition.env)
        self.broken = broken
        self.live += [] if broken else [env]
        self.serving = list(self.live) if broken else [env]


class World:
    """One installation, its apps as they should be, and the ways to change and harm it."""

    def __init__(self, system, chance):
        self.system = system
        self.chance = chance
        self.outside = Outside(system)
        self.apps = {name: App(name) for name in APPS}
        self.gone = set()
        """Domains that nobody has now."""
        self.revision = 0
        self.artifact = None
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
            self.system.commit(
                folder, "chaos", app__py=WEB, Procfile="web: python app.py\nworker: exec sleep 1000\n"
            )
            self.system.moor("config:set", "-a", app.name, "VALUE=pushed")
            pushed = self.system.push(folder)
            assert pushed.returncode == 0, pushed.stdout
            (version,) = self.ask(self.client.versions(app.address))
            app.promised(version)
            app.served = True
            self.artifact = version.artifact

    def new_value(self):
        self.values += 1
        return f"value-{self.values}"

    # What people ask for

    def define(self, app, health, **env):
        definition = {"env": env | {"VALUE": self.new_value()}, "health": health}
        change = self.ask(self.client.set_service(app.address, definition))
        app.promised(change.version, broken="BROKEN" in env)

    def change(self, app):
        """Another configuration."""
        health = GOOD | self.chance.choice([{}, {"path": "/"}])
        kinds = ({}, {}, {"BOOT": "0.3"}, {"BOOT": "1"}, {"HELPER": "1"}, {"STUBBORN": "1"})
        self.define(app, health, **self.chance.choice(kinds))

    def break_it(self, app):
        """A version that never comes up."""
        if app.serves and app.served:
            self.define(app, {"timeout": 1.5}, BROKEN=self.chance.choice(["exit", "deaf"]))
        else:
            self.change(app)  # nothing would show that it is broken, or nothing could serve on

    def rescale(self, app):
        """Another number of processes."""
        change = {"web": self.chance.randint(0, 3), "worker": self.chance.randint(0, 2)}
        change.pop(self.chance.choice(["web", "worker", "none"]), None)
        if app.broken:
            change["web"] = max(1, change.get("web", 1))
        app.scale |= change
        app.lapsed |= not app.scale["web"]
        self.ask(self.client.scale(app.address, {kind: str(count) for kind, count in change.items()}))

    def restart(self, app):
        """The same again, in new processes."""
        if app.stopped:
            with pytest.raises(Refused):
                self.ask(self.client.restart(app.address))
        else:
            self.ask(self.client.restart(app.address))

    def roll_back(self, app):
        """To what was live before."""
        try:
            version = self.ask(self.client.rollback(app.address))
        except NotFound:
            return
        app.promised(version)

    def stop_or_start(self, app):
        """Whichever it is not."""
        app.stopped = not app.stopped
        self.ask(self.client.stop(app.address) if app.stopped else self.client.start(app.address))

    def change_domains(self, app):
        """One more, or one less."""
        if app.domains and self.chance.random() < 0.5:
            domain = self.chance.choice(sorted(app.domains))
            self.ask(self.client.remove_domains(app.address, [domain]))
            app.domains.remove(domain)
            self.gone.add(domain)
        else:
            domain = f"{self.chance.choice('abcdef')}.example.test"
            owned = {each for other in self.apps.values() if other is not app for each in other.domains}
            if domain in owned:
                with pytest.raises(Conflict):
                    self.ask(self.client.add_domains(app.address, [domain]))
                return
            self.ask(self.client.add_domains(app.address, [domain]))
            app.domains.add(domain)
            self.gone.discard(domain)

    def make_anew(self, app):
        """Destroy it, and make another by that name."""
        self.ask(self.client.destroy_deployment(app.name))
        self.gone |= app.domains
        if self.chance.random() < 0.3:
            self.kill_server()
        fresh = self.apps[app.name] = App(app.name)
        deadline = time.monotonic() + SETTLE
        while True:
            try:
                self.ask(self.client.create_deployment(app.name))
                self.ask(self.client.ensure_service(fresh.address))
                break
            except Conflict:
                assert time.monotonic() < deadline, f"{app.name} never went"
                time.sleep(0.1)
        self.ask(self.client.change_config(fresh.address, put={"VALUE": self.new_value()}))
        change = self.ask(
            self.client.release(fresh.address, self.artifact, commit=None, build=None, reason="made anew")
        )
        fresh.promised(change.version)

    # What is right

    def follow(self, app):
        """Until the server says that it has settled."""

        async def steps():
            return [step async for step in self.client.follow(app.address)]

        self.ask(asyncio.wait_for(steps(), SETTLE))

    def tell(self):
        """Print what helps to find out what went wrong."""
        print(self.system.last_lines(80))
        print((self.system.data / "supervisor" / "supervisord.log").read_text()[-3000:])
        with contextlib.suppress(MooringError):
            for each in self.ask(self.client.events(limit=60)):
                print(f"    {each.time:%H:%M:%S.%f} {each.deployment} {each.kind}: {each.text}")

    def settled(self):
        """What was in doubt is known now."""
        for app in self.apps.values():
            current = app.versions[self.ask(self.client.service(app.address)).service.current]
            if not app.stopped:
                app.serving, app.broken = [current], False
            app.served = True
            # What came while it was stopped is still on its way.
            app.live = [current, *app.serving]
