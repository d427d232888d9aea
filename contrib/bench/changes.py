"""What users feel while an app is changed: failed requests through many changes of each kind.

Two loads run throughout: 200 requests a second, and 20 a second that take half a second each, so that an instance
which is stopped before it has finished its work is found out.

    python -m contrib.bench.changes [--times 20] [--kinds deploy,config,…] [--json]
"""

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from contrib.bench.load import Load
from contrib.installation import Installation

APP = "bench"
RATE, SLOW_RATE = 220.0, 20.0
INSTANCES = 2


@dataclass(frozen=True)
class Row:
    """What came of one kind of change."""

    kind: str
    times: int
    seconds: float
    requests: int
    slow_requests: int
    failed: int
    failures: Mapping[str, int]
    longest_ms: float
    """The longest that one of the quick requests took."""

    @property
    def rate(self) -> float:
        return self.requests / self.seconds


class App:
    """An app of two instances, with what can be done to it."""

    def __init__(self, here: Installation) -> None:
        self._here = here
        here.moor("create", APP)
        self._checkout = here.checkout(APP)
        self._numbers = iter(range(1, 10**6))
        self.deploy()
        here.moor("ps:scale", "-a", APP, f"web={INSTANCES}")

    @property
    def kinds(self) -> Mapping[str, Callable[[], None]]:
        """What one change of each kind is. Scaling up and down alternate, and each counts."""
        return {
            "deploy": self.deploy,
            "config": lambda: self._moor("config:set", f"NUMBER={next(self._numbers)}"),
            "restart": lambda: self._moor("ps:restart"),
            "scale": self._scale,
            "rollback": lambda: self._moor("rollback"),
        }

    def deploy(self) -> None:
        number = next(self._numbers)
        self._here.commit(self._checkout, f"change {number}", VERSION=f"change-{number}\n")
        done = self._here.push(self._checkout)
        if done.returncode:
            raise SystemExit(f"a push was refused:\n{done.stdout}")

    def _scale(self) -> None:
        self._moor("ps:scale", f"web={INSTANCES + 2}")
        self._moor("ps:scale", f"web={INSTANCES}")

    def _moor(self, verb: str, *words: str) -> None:
        self._here.moor(verb, "-a", APP, *words)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--times", type=int, default=20)
    parser.add_argument("--kinds", help="some of them, with commas between")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args()
    here = Installation()
    try:
        here.start()
        here.add_key()
        app = App(here)
        kinds = options.kinds.split(",") if options.kinds else list(app.kinds)
        rows = list(measure(here, {each: app.kinds[each] for each in kinds}, options.times))
    finally:
        here.remove()
    if options.json:
        print(json.dumps([vars(each) for each in rows], indent=2))
    else:
        print_table(rows)
    return any(each.failed for each in rows)


def measure(here: Installation, kinds: Mapping[str, Callable[[], None]], times: int) -> Iterator[Row]:
    for kind, change in kinds.items():
        yield asyncio.run(_measure(here, kind, change, times))


async def _measure(here: Installation, kind: str, change: Callable[[], None], times: int) -> Row:
    host = f"{APP}.localhost"
    began = time.monotonic()
    async with (
        Load(here.http, host, rate=RATE) as quick,
        Load(here.http, host, rate=SLOW_RATE, path="/slow") as slow,
    ):
        for _ in range(times):
            await asyncio.to_thread(change)
    return Row(
        kind=kind,
        times=times,
        seconds=time.monotonic() - began,
        requests=quick.total,
        slow_requests=slow.total,
        failed=quick.failed + slow.failed,
        failures=quick.failures + slow.failures,
        longest_ms=quick.longest * 1000,
    )


def print_table(rows: list[Row]) -> None:
    print("       kind      times  requests   req/s   slow  failed  longest stall")
    for each in rows:
        print(
            f"       {each.kind:<9} {each.times:>5}  {each.requests:>8}  {each.rate:>6.0f}  {each.slow_requests:>5}"
            f"  {each.failed:>6}  {each.longest_ms:>6.0f} ms  {dict(each.failures) or ''}"
        )


if __name__ == "__main__":
    sys.exit(main())
