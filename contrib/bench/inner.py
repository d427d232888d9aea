"""What a port within the machine costs (`expose`): redis through it, through a hand-written HAProxy, and directly.

The same redis answers all three. `redis-benchmark` asks each in turn, round by round: 50 connections that are kept, and
one connection for each request. Also what the proxy takes in memory at rest, and how long a change of targets takes.

    python -m contrib.bench.inner [--rounds 9] [--requests 30000] [--json]

Needs haproxy, redis-server and redis-benchmark (Debian: haproxy, redis-server, redis-tools).
"""

import argparse
import asyncio
import csv
import json
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from contrib.bench.routing import free_port, serving, temporary_folder
from router.haproxy import HaproxyRouter
from router.inner import WithInnerPorts
from router.memory import MemoryRouter
from router.types import Inner, Pool, Target

TARGET_RATIO = 0.9
"""Of a hand-written proxy's throughput."""
BY_HAND = """
defaults
    mode tcp
    timeout client 24h
    timeout server 24h
    timeout connect 3s
listen redis
    bind 127.0.0.1:{port}
    server redis 127.0.0.1:REDIS
"""
OWN = "127.0.0.1"


@dataclass(frozen=True)
class Result:
    connections: str
    direct: float
    """Requests a second, median of the rounds."""
    by_hand: float
    ours: float
    ratio: float
    """Ours over by hand: median of the rounds."""
    lowest: float
    highest: float
    direct_ratio: float
    """Ours over direct."""


@dataclass(frozen=True)
class Proxy:
    rss_kib: int
    """Of master and worker, with the default number of ports, at rest."""
    change_ms: float
    """Another target in place of one, median of 50."""


@contextmanager
def redis(folder: Path) -> Iterator[int]:
    port = free_port()
    words = ["redis-server", "--port", str(port), "--bind", OWN, "--save", "", "--dir", str(folder)]
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, start_new_session=True)
    try:
        end = time.monotonic() + 10
        while (
            subprocess.run(["redis-cli", "-p", str(port), "ping"], capture_output=True, check=False).stdout
            != b"PONG\n"
        ):
            if time.monotonic() > end:
                raise RuntimeError("redis does not answer")
            time.sleep(0.05)
        yield port
    finally:
        process.terminate()
        process.wait()


def rate(port: int, *, requests: int, kept: bool) -> float:
    words = [
        "redis-benchmark",
        "-p",
        str(port),
        "-t",
        "ping_mbulk",
        "-c",
        "50",
        "--csv",
        "-k",
        str(int(kept)),
    ]
    done = subprocess.run([*words, "-n", str(requests)], capture_output=True, text=True, check=True)
    for row in csv.reader(done.stdout.splitlines()):
        if row and row[0] == "PING_MBULK":
            return float(row[1])
    raise RuntimeError(f"redis-benchmark said {done.stdout!r}")


def measured(ports: dict[str, int], *, rounds: int, requests: int, kept: bool) -> Result:
    found: dict[str, list[float]] = {name: [] for name in ports}
    for _ in range(rounds):
        for name, port in ports.items():
            found[name].append(rate(port, requests=requests if kept else requests // 3, kept=kept))
    ratios = [ours / hand for ours, hand in zip(found["ours"], found["by hand"], strict=True)]
    direct = [ours / bare for ours, bare in zip(found["ours"], found["direct"], strict=True)]
    return Result(
        connections="kept" if kept else "one each",
        direct=statistics.median(found["direct"]),
        by_hand=statistics.median(found["by hand"]),
        ours=statistics.median(found["ours"]),
        ratio=statistics.median(ratios),
        lowest=min(ratios),
        highest=max(ratios),
        direct_ratio=statistics.median(direct),
    )


def memory(folder: Path) -> int:
    master = (folder / "haproxy.pid").read_text().strip()
    pids = [master, *Path(f"/proc/{master}/task/{master}/children").read_text().split()]
    return sum(
        int(line.split()[1])
        for pid in pids
        for line in Path(f"/proc/{pid}/status").read_text().splitlines()
        if line.startswith("VmRSS")
    )


async def run(rounds: int, requests: int) -> tuple[list[Result], Proxy]:
    async def address() -> str:
        return OWN

    with temporary_folder() as folder, redis(folder) as port:
        first = 19_200

        def make(host: str) -> HaproxyRouter:
            return HaproxyRouter(
                folder=folder / "inner", host=host, port=first, ports=256, template="inner.cfg.j2"
            )

        router = WithInnerPorts(MemoryRouter(), make=make, address=address)
        inner = frozenset({Inner(first, "foo")})
        try:
            targets = [Target(f"foo-redis-{number}", OWN, port) for number in (1, 2)]
            pools = [Pool("foo/redis", frozenset(), frozenset({each}), inner=inner) for each in targets]
            await router.change([pools[0]])
            at_rest = memory(folder / "inner")
            with serving(folder / "by-hand", BY_HAND.replace("REDIS", str(port))) as by_hand:
                ports = {"direct": port, "by hand": by_hand, "ours": first}
                results = [
                    await asyncio.to_thread(measured, ports, rounds=rounds, requests=requests, kept=kept)
                    for kept in (True, False)
                ]
            took = list[float]()
            for number in range(50):
                before = time.perf_counter()
                await router.change([pools[(number + 1) % 2]])
                took.append(time.perf_counter() - before)
                await router.remove(targets[number % 2].id)
            return results, Proxy(rss_kib=at_rest, change_ms=1000 * statistics.median(took))
        finally:
            await router.shutdown()


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--requests", type=int, default=30_000)
    parser.add_argument("--json", action="store_true")
    wanted = parser.parse_args()
    for each in ("haproxy", "redis-server", "redis-benchmark"):
        if shutil.which(each, path="/usr/local/sbin:/usr/sbin:/usr/local/bin:/usr/bin") is None:
            print(f" !     {each} is missing.", file=sys.stderr)
            return 1
    results, proxy = asyncio.run(run(wanted.rounds, wanted.requests))
    if wanted.json:
        print(json.dumps({"results": [asdict(each) for each in results], "proxy": asdict(proxy)}))
    else:
        print("connections  direct req/s  by hand     ours  ours/by hand         ours/direct")
        for each in results:
            print(
                f"{each.connections:<11}  {each.direct:>12,.0f}  {each.by_hand:>7,.0f}  {each.ours:>7,.0f}  "
                f"{each.ratio:.3f} ({each.lowest:.3f}-{each.highest:.3f})  {each.direct_ratio:>8.3f}"
            )
        print(
            f"at rest {proxy.rss_kib / 1024:.1f} MiB with 256 ports; a change of targets {proxy.change_ms:.1f} ms"
        )
        met = all(each.ratio >= TARGET_RATIO for each in results)
        print(f"target: ours/by hand >= {TARGET_RATIO}: {'met' if met else 'MISSED'}")
    return 0 if all(each.ratio >= TARGET_RATIO for each in results) else 1


if __name__ == "__main__":
    sys.exit(main())
