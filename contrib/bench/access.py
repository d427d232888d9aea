"""What the log of requests costs: our HAProxy with and without it, side by side, on the same routes.

Measured in turn and compared round by round: throughput, and processor time of the proxy for each request. The
logged one's lines are read and written by the same recorder as in the server, in this process, so that its
processor time is known too. Then nobody reads for a while, as when the server is down, to see what is kept.

    python -m contrib.bench.access [--hosts 10] [--rounds 25] [--seconds 1] [--json]

Needs haproxy and wrk (Debian packages of these names).
"""

import argparse
import asyncio
import json
import os
import shutil
import statistics
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from contrib.bench.routing import (
    PATH,
    TARGET,
    free_port,
    make_pool,
    measure_rate,
    serving,
    temporary_folder,
)
from controller.logs.recorder import AccessRecorder
from router.access import AccessBatch, AccessLogs
from router.haproxy import HaproxyRouter

TARGET_RATIO = 0.95
TARGET_MICROSECONDS = 1.5
"""Processor time of the proxy for each request, more than without."""
AWAY = 2
"""Seconds in which nobody reads."""


@dataclass(frozen=True)
class Result:
    hosts: int
    without: float
    """Requests a second, median."""
    with_logs: float
    ratio: float
    """With over without: median of the rounds."""
    lowest: float
    highest: float
    without_us: float
    """Processor time of the proxy for each request, in microseconds: the least of the rounds, as what disturbs
    only adds to it."""
    more_us: float
    """How much more with logs."""
    errors_us: float
    """The same where only errors are logged, and there are none."""
    reader_us: float
    """Processor time of the server for each request, those that were only counted included."""
    written: int
    counted: int
    """Requests that were written to a log, and that were counted because there were too many."""
    lost: int
    """Requests that the pipe had no room for while somebody read."""
    kept_away: int
    """Lines that waited in the pipe while nobody read."""
    lost_away: int
    failed: int


class Counting:
    """Between router and recorder: what went through."""

    def __init__(self, router: HaproxyRouter) -> None:
        self._router = router
        self.written = self.counted = self.lost = 0

    async def take_access(self, *, most: int) -> AccessBatch:
        batch = await self._router.take_access(most=most)
        self.written += len(batch.lines)
        self.counted += sum(batch.skipped.values())
        self.lost += batch.lost
        return batch


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--hosts", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--seconds", type=int, default=1, help="for each measurement")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    for program in ("haproxy", "wrk"):
        if shutil.which(program, path=PATH) is None:
            sys.exit(f"{program} is missing: apt-get install {program}")
    with temporary_folder() as folder, serving(folder / "target", TARGET) as target:
        result = asyncio.run(_measure(folder, target, arguments.hosts, arguments.rounds, arguments.seconds))
    met = result.ratio >= TARGET_RATIO and result.more_us <= TARGET_MICROSECONDS
    if arguments.json:
        print(json.dumps(asdict(result)))
    else:
        _print(result, met)
    sys.exit(not met)


async def _measure(folder: Path, target: int, hosts: int, rounds: int, seconds: int) -> Result:
    ports = {each.value: free_port() for each in AccessLogs}
    routers = {
        name: HaproxyRouter(folder=folder / name, host="127.0.0.1", port=port, access_logs=AccessLogs(name))
        for name, port in ports.items()
    }
    counting = Counting(routers["on"])
    try:
        for router in routers.values():
            await router.start()
            await router.apply([make_pool(number, 1, target) for number in range(1, hosts + 1)])
        workers = {name: _worker(folder / name) for name in ports}
        recorder = asyncio.create_task(AccessRecorder(counting, folder / "logs", lambda *_: True).run())
        for port in ports.values():
            await asyncio.to_thread(measure_rate, folder, port, hosts, 1)
        await asyncio.sleep(1)
        before, spent = counting.written + counting.counted, 0.0
        rates, costs, failed = [], [], 0
        for number in range(rounds):
            order = list(ports)
            rate, cost = dict[str, float](), dict[str, float]()
            for which in order[number % 3 :] + order[: number % 3]:
                began, mine = _processor_time(workers[which]), time.process_time()
                rate[which], broken = await asyncio.to_thread(
                    measure_rate, folder, ports[which], hosts, seconds
                )
                failed += broken
                cost[which] = (_processor_time(workers[which]) - began) / (rate[which] * seconds) * 1e6
                spent += time.process_time() - mine if which == "on" else 0
            rates.append(rate)
            costs.append(cost)
        await asyncio.sleep(1)
        recorder.cancel()
        seen = counting.written + counting.counted - before
        written, counted, lost = counting.written, counting.counted, counting.lost
        await asyncio.to_thread(measure_rate, folder, ports["on"], hosts, AWAY)
        batch = await routers["on"].take_access(most=10**9)
    finally:
        for router in routers.values():
            await router.shutdown()
    least = {name: min(each[name] for each in costs) for name in ports}
    ratios = [each["on"] / each["off"] for each in rates]
    return Result(
        hosts=hosts,
        without=statistics.median(each["off"] for each in rates),
        with_logs=statistics.median(each["on"] for each in rates),
        ratio=statistics.median(ratios),
        lowest=min(ratios),
        highest=max(ratios),
        without_us=least["off"],
        more_us=least["on"] - least["off"],
        errors_us=least["errors"] - least["off"],
        reader_us=spent / max(1, seen) * 1e6,
        written=written,
        counted=counted,
        lost=lost,
        kept_away=len(batch.lines),
        lost_away=batch.lost,
        failed=failed,
    )


def _worker(folder: Path) -> int:
    master = int((folder / "haproxy.pid").read_text())
    return int(Path(f"/proc/{master}/task/{master}/children").read_text().split()[-1])


def _processor_time(process: int) -> float:
    """Seconds, to a hundredth."""
    words = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


def _print(result: Result, met: bool) -> None:
    print(
        f"{result.hosts} hosts: {result.without:,.0f} requests/s without, {result.with_logs:,.0f} with logs: "
        f"{result.ratio:.3f} ({result.lowest:.3f}-{result.highest:.3f}), {result.failed} failed"
    )
    print(
        f"proxy: {result.without_us:.1f} µs of processor time a request, {result.more_us:+.2f} µs with logs, "
        f"{result.errors_us:+.2f} µs with those of errors only"
    )
    print(
        f"server: {result.reader_us:.2f} µs a request; {result.written:,} written, {result.counted:,} counted as too "
        f"many, {result.lost:,} lost"
    )
    print(f"nobody reads for {AWAY} s: {result.kept_away:,} requests kept, {result.lost_away:,} lost")
    print(
        f"target: with/without >= {TARGET_RATIO}, proxy <= +{TARGET_MICROSECONDS} µs: {'met' if met else 'MISSED'}"
    )


if __name__ == "__main__":
    main()
