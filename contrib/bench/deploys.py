"""Push to live, and what users feel meanwhile: (b) and (c) of the table that `make bench` prints.

The peer is the least that anybody could do by hand: a bare repository on this machine whose
post-receive hook checks the commit out, kills the old process and starts the new one. It has no
network, no build, no health check, and loses requests at each switch; its time is the floor.
"""

import argparse
import asyncio
import json
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

from contrib.bench.load import Load, Result
from contrib.installation import SAMPLES, Installation, free_ports

APP = "bench"
RATE = 220.0


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--deploys", type=int, default=20, help="deploys under load (20)")
    parser.add_argument("--pairs", type=int, default=7, help="pushes of ours and the peer's, in turn (7)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args()
    here = Installation()
    try:
        here.start()
        here.add_key()
        here.moor("create", APP)
        report = {**push_to_live(here, options.pairs), **deploys_under_load(here, options.deploys)}
    finally:
        here.remove()
    print(json.dumps(report, indent=2) if options.json else as_text(report))
    return 0


def push_to_live(here: Installation, pairs: int) -> dict[str, object]:
    """Seconds from the start of `git push` to the first answer of the new version, in turn with the peer's."""
    checkout = here.checkout(APP)
    peer = Handmade(here, checkout)
    try:
        push(here, checkout)
        ours, theirs, stalls = [], [], []
        for number in range(1, pairs + 1):
            marker = f"push-{number}"
            here.commit(checkout, marker, VERSION=f"{marker}\n")
            took, result = asyncio.run(
                timed(here.http, f"{APP}.localhost", marker, lambda: push(here, checkout))
            )
            ours.append(took)
            stalls.append(result.longest)
            took, _ = asyncio.run(timed(peer.port, "peer", marker, peer.push))
            theirs.append(took)
    finally:
        peer.stop()
    return {
        "push to first good answer, s": round(statistics.median(ours), 3),
        "push to first good answer, range": [round(min(ours), 3), round(max(ours), 3)],
        "by hand (hook, kill, start), s": round(statistics.median(theirs), 3),
        "ratio to by hand": round(statistics.median(a / b for a, b in zip(ours, theirs, strict=True)), 2),
        "longest stall of a request, ms": round(max(stalls) * 1000),
    }


async def timed(port: int, host: str, marker: str, deploy: object) -> tuple[float, Result]:
    """Deploy under load; seconds until the first answer that holds `marker`, and what requests met."""
    async with Load(port, host, rate=RATE) as result:
        await asyncio.sleep(0.3)
        began = time.monotonic()
        await asyncio.to_thread(deploy)  # type: ignore[arg-type]
        for _ in range(500):
            seen = [when for body, when in result.first_seen.items() if marker.encode() in body]
            if seen:
                break
            await asyncio.sleep(0.02)
        else:
            raise SystemExit(f"the version {marker} was never served")
    return min(seen) - began, result


def deploys_under_load(here: Installation, deploys: int) -> dict[str, object]:
    """Failed requests over many deploys, requests running throughout."""
    checkout = here.folder / APP

    async def run() -> Result:
        async with Load(here.http, f"{APP}.localhost", rate=RATE) as result:
            for number in range(deploys):
                here.commit(checkout, f"load {number}", VERSION=f"load-{number}\n")
                await asyncio.to_thread(push, here, checkout)
        return result

    began = time.monotonic()
    result = asyncio.run(run())
    return {
        "deploys under load": deploys,
        "requests": result.total,
        "requests a second": round(result.total / (time.monotonic() - began)),
        "failed requests": result.failed,
        "failures": dict(result.failures),
        "longest stall over all, ms": round(result.longest * 1000),
    }


def push(here: Installation, checkout: Path) -> None:
    done = here.push(checkout)
    if done.returncode:
        raise SystemExit(f"a push was refused:\n{done.stdout}")


class Handmade:
    """A bare repository with a hook that deploys."""

    def __init__(self, here: Installation, checkout: Path) -> None:
        self._here = here
        self._checkout = checkout
        (self.port,) = free_ports(1)
        self._folder = here.folder / "by-hand"
        bare, tree = self._folder / "app.git", self._folder / "tree"
        here.run("git", "init", "-q", "--bare", str(bare), check=True)
        shutil.copytree(SAMPLES / "python-web", tree)
        hook = bare / "hooks" / "post-receive"
        hook.write_text(
            f"""#!/bin/sh
GIT_WORK_TREE={tree} git checkout -q -f master
[ ! -e {tree}/pid ] || kill $(cat {tree}/pid)
cd {tree}
env -i PATH=/usr/bin:/bin PORT={self.port} /usr/bin/python3 app.py >/dev/null 2>&1 </dev/null &
echo $! > pid
"""
        )
        hook.chmod(0o755)
        self._bare = bare

    def push(self) -> None:
        subprocess.run(
            ["git", "push", "-q", str(self._bare), "master"],
            cwd=self._checkout,
            env=self._here.env,
            check=True,
            capture_output=True,
        )

    def stop(self) -> None:
        pid = self._folder / "tree" / "pid"
        if pid.exists():
            subprocess.run(["kill", pid.read_text().strip()], check=False)


def as_text(report: dict[str, object]) -> str:
    return "\n".join(f"       {name:<42} {value}" for name, value in report.items())


if __name__ == "__main__":
    sys.exit(main())
