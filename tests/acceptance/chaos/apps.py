"""Apps as they should be: what was asked for them, and what was answered."""

import time
from dataclasses import dataclass, field

from controller.names import Address

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
        if self.path == "/slow":
            time.sleep(0.8)
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
PROCFILE = 'web: python app.py\nworker: exec sleep 1000\nrelease: test "$BROKEN" != release\n'
SHARE = 50
"""Percent that a canary gets."""
LATE = 20.0
"""Seconds after which a one-off must have been begun and its end noted, beyond what it takes itself."""


@dataclass
class OneOff:
    """A detached run that takes so many seconds and succeeds, unless something ended it."""

    seconds: float
    asked_at: float = field(default_factory=time.monotonic)
    harmed: bool = False

    @property
    def due(self):
        return self.asked_at + self.seconds + LATE


@dataclass
class App:
    """What is known of an app from the outside."""

    name: str
    scale: dict[str, int] = field(default_factory=lambda: {"web": 1, "worker": 0})
    stopped: bool = False
    stopped_types: set[str] = field(default_factory=set)
    withdrawn: dict[str, str] = field(default_factory=dict)
    """Ids of single instances that were stopped, to their process type."""
    maintenance: bool = False
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
    """Nothing of it could serve for some time of this step, because somebody wanted it so."""
    broken: bool = False
    """The wanted version can't come up, and may not have been given up yet."""
    canary: dict[str, str] | None = None
    """The variables of a version that runs beside the one that serves, until somebody decides on it."""
    canary_in_doubt: bool = False
    """Something happened that may have ended it."""
    runs: dict[str, OneOff] = field(default_factory=dict)

    @property
    def address(self):
        return Address(self.name)

    @property
    def host(self):
        return f"{self.name}.localhost"

    def due(self, kind):
        """How many instances of that process type should run."""
        if self.stopped or kind in self.stopped_types:
            return 0
        return max(0, self.scale[kind] - list(self.withdrawn.values()).count(kind))

    @property
    def serves(self):
        return not self.maintenance and self.due("web") > 0

    @property
    def unproven(self):
        """A version has to show what it is worth: it can do so only while instances of it run."""
        return self.broken or self.canary is not None

    def promised(self, version, *, broken=False, canary=False):
        """Remember a version that was answered to us."""
        assert version.number == max(self.versions, default=0) + 1, f"{self.name} got v{version.number} next"
        env = self.versions[version.number] = dict(version.definition.env)
        self.withdrawn.clear()
        self.broken = broken
        self.canary = env if canary else None
        if broken or canary:
            self.serving = list(self.live)
        else:
            self.live.append(env)
            self.serving = [env]
