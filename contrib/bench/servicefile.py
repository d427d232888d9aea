"""What a large service file costs: reading it, planning it against what there is, applying it.

.venv/bin/python -m contrib.bench.servicefile [--services 1000]
"""

import argparse
import asyncio
import inspect
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from controller.operations.servicefiles import Request
from controller.servicefile.parse import read_servicefile
from tests.unit.controller.world import ADMIN, make_world

TARGET = 1.0
"""Seconds to read and to plan."""


def text_of(count: int) -> str:
    lines = ["Env:", "    BRANDING: Company Ltd.", "Domains:"]
    lines += [f"    www.shop-{number}.example.org: s{number}" for number in range(0, count, 10)]
    for number in range(count):
        lines += [
            f"s{number}:",
            f"    image: company/s{number}:v1",
            "    cmd: serve --port {PORT}",
            "    env: {COLOR: blue, SIZE: 10, URL: 'http://{DEPLOY_ID}.example.org'}",
            "    port: 8000",
            f"    require: s{max(0, number - 1)}" if number % 10 else "    health: /up",
        ]
    return "\n".join(lines)


async def timed(what: str, work: Callable[[], object]) -> float:
    times = []
    for _ in range(5):
        begun = time.perf_counter()
        done = work()
        if inspect.isawaitable(done):
            await done
        times.append(time.perf_counter() - begun)
    print(f"       {what}: {statistics.median(times):.2f} s")
    return statistics.median(times)


async def measure(count: int) -> float:
    text = text_of(count)
    with tempfile.TemporaryDirectory() as folder:
        world = await make_world(Path(folder))
        await world.operations.deployments.create(ADMIN, "shop")
        reading = await timed(f"reading {count} services", lambda: read_servicefile(text, deployment="shop"))
        request = Request(deployment="shop", file=read_servicefile(text, deployment="shop").file)
        plan = world.operations.servicefiles.plan
        fresh = await timed("planning them, all new", lambda: plan(ADMIN, request))
        begun = time.perf_counter()
        await world.operations.servicefiles.apply(ADMIN, request)
        print(f"       applying them, in memory: {time.perf_counter() - begun:.2f} s")
        same = await timed("planning them again, no changes", lambda: plan(ADMIN, request))
        await world.state.close()
    return reading + max(fresh, same)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--services", type=int, default=1000)
    total = asyncio.run(measure(parser.parse_args().services))
    print(f"       reading and planning: {total:.2f} s (target: {TARGET:g} s)")
    return int(total > TARGET)


if __name__ == "__main__":
    sys.exit(main())
