"""Containers: what a push costs beside a bare start of one, builds cold and warm, memory, two builds at once.

The app is the plain Python server of contrib/samples/python-web, with a dependency that is installed once. The
peer of a push is the least that an engine can do: create and start a container of the same image on the same
kind of network, with the same server in a mounted folder, and ask it until it answers. It has no git, no build,
no slug, no health check and no router; its time is the floor under every deploy.

    python -m contrib.bench.containers [--rounds 7] [--parts live,cache,memory,together] [--timeline] [--json]

Wants a container engine, the stack images (contrib/stack/build), and a package index for the first build.
"""

import argparse
import asyncio
import contextlib
import json
import shutil
import statistics
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from builder.early import PAUSE
from contrib.bench.deploys import as_text, push
from contrib.bench.footprint import mebibytes
from contrib.bench.load import Load
from contrib.installation import SAMPLES, Installation, local_opener
from controller.client import Client
from controller.config import Settings
from controller.engine import REALM, Engine
from controller.names import Address

APP, BYSTANDER = "bench", "bystander"
BUILDERS = ("first", "second")
PEER_PORT = 5000
RATIO_LIMIT, MORE_LIMIT = 2.5, 1.5
"""A push may take so many times the bare start, and so many seconds more."""
API_LIMIT, API_RATE = 0.2, 20.0
"""Seconds within which 99 of 100 answers of the API come while two builds run; questions a second."""
ANSWER_IN = 60.0
BETWEEN = PAUSE + 2.0
"""Seconds between a deploy and the next push, in which a container is made ready."""


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=7, help="rounds of a push and of the peer's start (7)")
    parser.add_argument("--parts", default=",".join(PARTS), help="some of them, with commas between")
    parser.add_argument(
        "--setting", action="append", default=[], help="NAME=VALUE for the server; again for more"
    )
    parser.add_argument("--timeline", action="store_true", help="print when each line of a push came")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args()
    given = dict(each.split("=", 1) for each in options.setting)
    here = Installation(settings={"backend": "docker", "builder": "docker", **given})
    report: dict[str, object] = {}
    try:
        here.start()
        here.add_key()
        place = Place(here)
        for name in filter(None, options.parts.split(",")):
            report |= PARTS[name](place, options.rounds)
        if options.timeline:
            place.change("timeline")
            timeline(here, place.checkout)
    finally:
        here.remove()
    print(json.dumps(report, indent=2) if options.json else as_text(report))
    return not all(value for name, value in report.items() if name.endswith("?"))


class Place:
    """An installation with one app of Python that has dependencies, pushed once."""

    def __init__(self, here: Installation) -> None:
        self.here = here
        self.engine = Engine()
        here.moor("create", APP)
        self.checkout = checkout(here, APP)
        began = time.monotonic()
        push(here, self.checkout)
        self.first_push = time.monotonic() - began

    @property
    def realm(self) -> str:
        return (self.here.data / "realm").read_text().strip()

    def change(self, marker: str) -> None:
        """Commit another version of the app, of the same dependencies."""
        self.here.commit(self.checkout, marker, VERSION=f"{marker}\n")

    def containers(self, *, kind: str = "") -> list[Mapping[str, Any]]:
        """Of this installation, those that run."""
        labels = [f"{REALM}={self.realm}", *([f"mooring.kind={kind}"] if kind else [])]
        found: list[Mapping[str, Any]] = self.engine.perform(
            lambda client: client.containers(filters={"label": labels})
        )
        return found


# (a) A push, beside the bare start of a container


def live(place: Place, rounds: int) -> dict[str, object]:
    """Seconds from the start of `git push` to the first answer of the new version; of the peer's, to its first.

    A push some seconds after another one finds a build container that waits for it (setting build_ready); one that
    comes at once starts it itself, as does the first for a while.
    """
    ours: list[float] = []
    unawaited: list[float] = []
    theirs: list[float] = []
    with Bare(place) as peer:
        peer.start()
        place.change("warm")
        push(place.here, place.checkout)
        for number in range(rounds):
            for times, pause in ((ours, BETWEEN), (unawaited, 0.0)):
                marker = f"push-{number}-{pause}"
                place.change(marker)
                time.sleep(pause)
                times.append(push_to_answer(place, marker))
                theirs.append(peer.start())
    bare = statistics.median(theirs)
    ratio, more = statistics.median(ours) / bare, statistics.median(ours) - bare
    return {
        "first push, dependencies to install, s": round(place.first_push, 2),
        "push to first good answer, s": spread(ours),
        "bare container to first good answer, s": spread(theirs),
        "ratio": round(ratio, 2),
        "seconds more": round(more, 2),
        "a push that nothing waits for, s": spread(unawaited),
        "ratio of that": round(statistics.median(unawaited) / bare, 2),
        f"at most {RATIO_LIMIT} times and {MORE_LIMIT} s more?": ratio <= RATIO_LIMIT and more <= MORE_LIMIT,
    }


def push_to_answer(place: Place, marker: str) -> float:
    """Seconds until the router gives the first answer with this marker; asked as often as the peer."""
    began = time.monotonic()
    pushing = threading.Thread(target=push, args=(place.here, place.checkout))
    pushing.start()
    try:
        wait_for_answer(place.here.http, f"{APP}.localhost", marker)
        return time.monotonic() - began
    finally:
        pushing.join()


class Bare:
    """Containers made and started by nobody but the engine."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._folder = place.here.folder / "bare"
        self._network = f"mooring-bench-{place.realm}"
        self._image = place.here.settings.get("runner-image", Settings().runner_image)

    def __enter__(self) -> "Bare":
        shutil.copytree(SAMPLES / "python-web", self._folder)
        self._place.engine.perform(
            lambda client: client.create_network(
                self._network,
                driver="bridge",
                options={"com.docker.network.bridge.enable_icc": "false"},
                labels={REALM: self._place.realm},
            )
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._place.engine.perform(lambda client: client.remove_network(self._network))

    def start(self) -> float:
        """Seconds from nothing to the first good answer; it is gone afterwards."""
        engine = self._place.engine

        def begin(client: Any) -> str:
            made = client.create_container(
                self._image,
                ["app.py"],
                entrypoint=["python3"],
                working_dir="/app",
                environment={"PORT": str(PEER_PORT)},
                labels={"mooring.kind": "bench"},
                host_config=client.create_host_config(
                    binds=[f"{self._folder}:/app:ro"], network_mode=self._network
                ),
            )["Id"]
            client.start(made)
            return str(made)

        began = time.monotonic()
        container = engine.perform(begin)
        try:
            networks = engine.perform(
                lambda client: client.inspect_container(container)["NetworkSettings"]["Networks"]
            )
            wait_for_answer(PEER_PORT, networks[self._network]["IPAddress"], "")
            return time.monotonic() - began
        finally:
            engine.perform(lambda client: client.remove_container(container, force=True))


def wait_for_answer(port: int, host: str, marker: str) -> None:
    """Ask every few milliseconds; by name at this machine's router, by address elsewhere."""
    address = "127.0.0.1" if host.endswith("localhost") else host
    request = urllib.request.Request(f"http://{address}:{port}/", headers={"Host": host})
    end = time.monotonic() + ANSWER_IN
    while time.monotonic() < end:
        with contextlib.suppress(OSError), local_opener().open(request, timeout=2) as answer:
            if marker in answer.read().decode():
                return
        time.sleep(0.01)
    raise SystemExit(f"{host} did not answer with {marker!r} in time")


# (b) A build with an empty cache, beside one with a warm one


def cache(place: Place, rounds: int) -> dict[str, object]:
    cold: list[float] = []
    warm: list[float] = []
    for number in range(max(2, rounds // 2)):
        place.here.moor("repo:purge-cache", "-a", APP)
        for kind, times in (("cold", cold), ("warm", warm)):
            place.change(f"{kind}-{number}")
            began = time.monotonic()
            push(place.here, place.checkout)
            times.append(time.monotonic() - began)
    return {
        "push with an empty cache, s": spread(cold),
        "push with a warm cache, s": spread(warm),
        "warm to cold": round(statistics.median(warm) / statistics.median(cold), 2),
    }


# (c) Memory


def memory(place: Place, _: int) -> dict[str, object]:
    """Of the server at rest and while it builds, and the most that the build's container held."""
    assert place.here.server
    time.sleep(3)
    rest = mebibytes(place.here.server.pid)
    place.here.moor("repo:purge-cache", "-a", APP)
    place.change("memory")
    with Watched(place) as seen:
        push(place.here, place.checkout)
    return {
        "server at rest, MiB (PSS)": rest,
        "server while it builds, at most": round(seen.server, 1),
        "container of a cold build, at most": round(seen.build / 1024**2, 1),
    }


class Watched:
    """Looks at memory several times a second while something runs."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self.server = 0.0
        """Most MiB of the server."""
        self.build = 0
        """Most bytes of one build's container, without files that only lie in the cache."""

    def __enter__(self) -> "Watched":
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        assert self._place.here.server
        while not self._over.wait(0.1):
            self.server = max(self.server, mebibytes(self._place.here.server.pid))
            for each in self._place.containers(kind="build"):
                self.build = max(self.build, self._used(each["Id"]))

    def _used(self, container: str) -> int:
        try:
            found = self._place.engine.perform(
                lambda client: client.stats(container, stream=False, one_shot=True)
            )["memory_stats"]
        except Exception:  # it ended between two looks
            return 0
        details = found.get("stats", {})
        idle = details.get("total_inactive_file", details.get("inactive_file", 0))
        return int(found.get("usage", 0)) - int(idle)


# (d) Two builds at once


@dataclass
class Meanwhile:
    """What others felt."""

    answers: list[float]
    failed: int
    requests: int
    longest: float


def together(place: Place, _: int) -> dict[str, object]:
    """Two builds from nothing, with an app under load beside them and somebody who asks the API."""
    here = place.here
    here.moor("create", BYSTANDER)
    push(here, here.checkout(BYSTANDER))
    checkouts = []
    for name in BUILDERS:
        here.moor("create", name)
        checkouts.append(checkout(here, name))
    began = time.monotonic()
    seen = asyncio.run(_together(here, checkouts))
    return {
        "two cold builds at once, s": round(time.monotonic() - began, 1),
        "API meanwhile, ms: median": round(statistics.median(seen.answers) * 1000, 1),
        "API meanwhile, ms: p99": round(p99(seen.answers) * 1000, 1),
        "requests of another app meanwhile": seen.requests,
        "failed requests": seen.failed,
        "longest stall, ms": round(seen.longest * 1000),
        f"p99 within {API_LIMIT * 1000:.0f} ms, no request failed?": p99(seen.answers) <= API_LIMIT
        and not seen.failed,
    }


async def _together(here: Installation, checkouts: list[Path]) -> Meanwhile:
    answers: list[float] = []
    token = (here.data / "local-token").read_text().strip()
    async with Load(here.http, f"{BYSTANDER}.localhost", rate=100) as result:
        asking = asyncio.create_task(_ask(f"http://127.0.0.1:{here.api}", token, answers))
        try:
            await asyncio.gather(*(asyncio.to_thread(push, here, checkout) for checkout in checkouts))
        finally:
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)
    return Meanwhile(answers, result.failed, result.total, result.longest)


async def _ask(url: str, token: str, answers: list[float]) -> None:
    """Ask again and again, whether or not earlier answers have come; each took what it took since it was due."""
    began = time.monotonic()

    async def one(client: Client, due: float) -> None:
        await client.service(Address(BYSTANDER))
        answers.append(time.monotonic() - due)

    async with Client(url, token) as client, asyncio.TaskGroup() as asking:
        for number in range(10**9):
            due = began + number / API_RATE
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            asking.create_task(one(client, due))


# What is common


def p99(values: list[float]) -> float:
    return statistics.quantiles(values, n=100)[98]


def checkout(here: Installation, app: str) -> Path:
    """The sample with a dependency."""
    folder = here.checkout(app)
    here.commit(folder, "With a dependency", requirements__txt="flask>=3.1,<4\n")
    return folder


def timeline(here: Installation, folder: Path) -> None:
    """Push, and print when each line came."""
    began = time.monotonic()
    process = subprocess.Popen(
        ["git", "push", "deploy", "master"],
        cwd=folder,
        env=here.env,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert process.stdout
    for line in process.stdout:
        print(f"       {time.monotonic() - began:7.3f}  {line.rstrip()}")
    process.wait()
    print(f"       {time.monotonic() - began:7.3f}  the push has ended")


def spread(times: list[float]) -> str:
    return f"{statistics.median(times):.2f} ({min(times):.2f}..{max(times):.2f})"


PARTS: Mapping[str, Callable[[Place, int], dict[str, object]]] = {
    "live": live,
    "cache": cache,
    "memory": memory,
    "together": together,
}

if __name__ == "__main__":
    sys.exit(main())
