"""Throughput through the HAProxy that Mooring runs, beside hand-written map configurations.

All serve the same routes to the same target: one backend a host, a host map, uniformly random hosts,
keep-alive, wrk with one thread and 32 connections. They are measured in turn, each alone on the
machine, and compared round by round, with two references:

* by hand: routes, and gives apps the headers that ours gives them (forwarded for, proto, port, host,
  request id). It lacks health checks, wildcards, pages, and changes without a reload.
* bare: routes and nothing else, so that no app could tell who asked it.

Also prints what one change costs while that many hosts are there.

    python -m contrib.bench.routing [--hosts 1,1000,10000] [--rounds 25] [--seconds 1] [--json]

Needs haproxy and wrk (Debian packages of these names).
"""

import argparse
import asyncio
import json
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from router.haproxy import HaproxyRouter
from router.types import Pool, Target

TARGET_RATIO = 0.95
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_RANDOM_HOSTS = """
local hosts = tonumber(os.getenv("HOSTS"))
request = function()
    return "GET / HTTP/1.1\\r\\nHost: h" .. math.random(hosts) .. ".bench.example\\r\\n\\r\\n"
end
"""
TARGET = """
global
    nbthread 1
    # Three proxies keep a connection or two for each of their backends: the target must not be what limits them.
    maxconn 100000
    fd-hard-limit 210000
    no strict-limits
defaults
    mode http
    timeout client 60s
    timeout connect 3s
    timeout server 60s
frontend target
    maxconn 100000
    bind 127.0.0.1:{port}
    http-request return status 200 content-type text/plain string "hello"
"""
_REFERENCE = """
defaults
    mode http
    timeout client 60s
    timeout connect 3s
    timeout server 60s
frontend web
    bind 127.0.0.1:{port}
{headers}
    use_backend %[req.hdr(host),field(1,:),lower,map_str({map})]
"""
_HEADERS = """
    option forwardfor
    http-request set-header X-Forwarded-Proto http
    http-request set-header X-Forwarded-Port %[dst_port]
    http-request set-header X-Forwarded-Host %[req.hdr(host)]
    unique-id-format %[uuid()]
    unique-id-header X-Request-Id
"""


@dataclass(frozen=True)
class Result:
    hosts: int
    bare: float
    """Requests a second, median."""
    by_hand: float
    ours: float
    ratio: float
    """Ours over the one by hand: median of the rounds."""
    lowest: float
    highest: float
    bare_ratio: float
    """Ours over the bare one: median of the rounds."""
    failed: int
    """Requests through ours that broke or were not answered with 200."""
    apply_ms: float
    """All pools, from none."""
    change_ms: float
    """One target switched in one pool: `apply`, median of 20."""
    remove_ms: float


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--hosts", default="1,1000,10000", help="numbers of hosts to measure")
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--seconds", type=int, default=1, help="for each measurement")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    for program in ("haproxy", "wrk"):
        if shutil.which(program, path=PATH) is None:
            sys.exit(f"{program} is missing: apt-get install {program}")
    results = []
    for hosts in (int(each) for each in arguments.hosts.split(",")):
        with temporary_folder() as folder, serving(folder / "target", TARGET) as target:
            results.append(asyncio.run(_measure(folder, target, hosts, arguments.rounds, arguments.seconds)))
    if arguments.json:
        print(json.dumps([asdict(each) for each in results]))
    else:
        _print_table(results)
    sys.exit(not _met(results))


async def _measure(folder: Path, target: int, hosts: int, rounds: int, seconds: int) -> Result:
    pools = [make_pool(number, 1, target) for number in range(1, hosts + 1)]
    references = {
        "by hand": _write_reference(folder / "hand", pools, headers=_HEADERS),
        "bare": _write_reference(folder / "bare", pools, headers=""),
    }
    port = free_port()
    router = HaproxyRouter(folder=folder / "ours", host="127.0.0.1", port=port)
    try:
        await router.start()
        apply_ms = await _milliseconds(router.apply(pools))
        changes = [await _change(router, pools, number, target) for number in range(2, 22)]
        measured, failed = [], 0
        # All three run throughout: the idle ones cost nothing, and each keeps its warm connections.
        with (
            serving(folder / "hand", references["by hand"]) as by_hand,
            serving(folder / "bare", references["bare"]) as bare,
        ):
            ports = {"ours": port, "by hand": by_hand, "bare": bare}
            for each in ports.values():
                await asyncio.to_thread(measure_rate, folder, each, hosts, 1)
            for number in range(rounds):
                order = list(ports)
                rates: dict[str, float] = {}
                # Who begins changes from round to round.
                for which in order[number % 3 :] + order[: number % 3]:
                    rates[which], broken = await asyncio.to_thread(
                        measure_rate, folder, ports[which], hosts, seconds
                    )
                    failed += broken if which == "ours" else 0
                measured.append(rates)
    finally:
        await router.shutdown()
    ratios = [each["ours"] / each["by hand"] for each in measured]
    return Result(
        hosts=hosts,
        bare=statistics.median(each["bare"] for each in measured),
        by_hand=statistics.median(each["by hand"] for each in measured),
        ours=statistics.median(each["ours"] for each in measured),
        ratio=statistics.median(ratios),
        lowest=min(ratios),
        highest=max(ratios),
        bare_ratio=statistics.median(each["ours"] / each["bare"] for each in measured),
        failed=failed,
        apply_ms=apply_ms,
        change_ms=statistics.median(change for change, _ in changes),
        remove_ms=statistics.median(remove for _, remove in changes),
    )


async def _change(router: HaproxyRouter, pools: list[Pool], number: int, target: int) -> tuple[float, float]:
    middle = len(pools) // 2
    (old,) = pools[middle].targets
    pools[middle] = make_pool(middle + 1, number, target)
    return await _milliseconds(router.apply(pools)), await _milliseconds(router.remove(old.id))


async def _milliseconds(call: object) -> float:
    began = time.perf_counter()
    await call  # type: ignore[misc]
    return (time.perf_counter() - began) * 1000


def make_pool(number: int, version: int, port: int) -> Pool:
    target = Target(f"app{number}-app-{version}-web-1", "127.0.0.1", port)
    return Pool(f"app{number}/app", frozenset({f"h{number}.bench.example"}), frozenset({target}))


def _write_reference(folder: Path, pools: Sequence[Pool], *, headers: str) -> str:
    """The configuration, with its map written."""
    folder.mkdir()
    names = [f"app{number}" for number in range(1, len(pools) + 1)]
    map_file = folder / "hosts.map"
    map_file.write_text(
        "".join(f"{min(pool.domains)} {name}\n" for pool, name in zip(pools, names, strict=True))
    )
    backends = [
        f"backend {name}\n    server one 127.0.0.1:{min(pool.targets).port}\n"
        for pool, name in zip(pools, names, strict=True)
    ]
    return _REFERENCE.replace("{map}", str(map_file)).replace("{headers}", headers) + "".join(backends)


def measure_rate(folder: Path, port: int, hosts: int, seconds: int) -> tuple[float, int]:
    """Requests a second, and how many failed."""
    script = folder / "hosts.lua"
    script.write_text(_RANDOM_HOSTS)
    environment = {"PATH": PATH, "HOSTS": str(hosts)}
    command = ["wrk", "-t1", "-c32", "-s", str(script), f"http://127.0.0.1:{port}/"]
    done = subprocess.run(
        [*command, f"-d{seconds}s"],
        env=environment,
        check=True,
        capture_output=True,
        text=True,
        timeout=seconds + 30,
    )
    rate = re.search(r"Requests/sec:\s+([\d.]+)", done.stdout)
    assert rate, done.stdout
    broken = sum(
        int(each) for each in re.findall(r"(?:connect|read|write|timeout|responses:) (\d+)", done.stdout)
    )
    return float(rate[1]), broken


@contextmanager
def serving(folder: Path, config: str) -> Iterator[int]:
    """An HAProxy with this configuration; gives its port."""
    folder.mkdir(exist_ok=True)
    port = free_port()
    file = folder / "haproxy.cfg"
    file.write_text(config.replace("{port}", str(port)))
    process = subprocess.Popen(
        [shutil.which("haproxy", path=PATH) or "haproxy", "-q", "-f", str(file)],
        env={"PATH": PATH},
        # A daemon, as ours is: the kernel shares the processors out by session.
        start_new_session=True,
    )
    try:
        _wait_for(port, process)
        yield port
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and process.poll() is None:
        with socket.socket() as client:
            if client.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.02)
    sys.exit("HAProxy did not start.")


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


@contextmanager
def temporary_folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="moor-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _print_table(results: Sequence[Result]) -> None:
    print(
        "hosts   bare req/s  by hand    ours  ours/by hand         ours/bare  failed  apply all  one change  remove"
    )
    for each in results:
        print(
            f"{each.hosts:>6,}  {each.bare:>9,.0f}  {each.by_hand:>7,.0f} {each.ours:>7,.0f}  "
            f"{each.ratio:.3f} ({each.lowest:.3f}-{each.highest:.3f})  {each.bare_ratio:>8.3f}  {each.failed:>6}  "
            f"{each.apply_ms:>6,.0f} ms  {each.change_ms:>7.1f} ms  {each.remove_ms:>4.1f} ms"
        )
    print(f"target: ours/by hand >= {TARGET_RATIO}: {'met' if _met(results) else 'MISSED'}")


def _met(results: Sequence[Result]) -> bool:
    return all(each.ratio >= TARGET_RATIO for each in results)


if __name__ == "__main__":
    main()
