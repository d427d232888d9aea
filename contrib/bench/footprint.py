"""What it costs to have it: (d) memory at rest with 1 and with 50 apps, (e) how fast `moor` answers.

Memory is the proportional set size (PSS) of the server process, as /proc tells it, after it has been
left alone for a moment; supervisord and HAProxy are listed beside it, as are their peers' figures
where one process of the same kind runs alone (`python3 -c` with the same libraries imported).
"""

import argparse
import json
import re
import statistics
import subprocess
import sys
import time
from pathlib import Path

from contrib.installation import MOOR, Installation


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--apps", type=int, default=50, help="apps of the larger measurement (50)")
    parser.add_argument("--runs", type=int, default=11, help="runs of each command (11)")
    parser.add_argument("--rest", type=float, default=5.0, help="seconds of rest before memory is read (5)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args()
    here = Installation()
    report: dict[str, object] = {}
    try:
        here.start()
        here.add_key()
        for number in range(options.apps):
            app = f"app{number}"
            here.moor("create", app)
            folder = here.checkout(app)
            done = here.push(folder)
            if done.returncode:
                raise SystemExit(done.stdout)
            if number in (0, options.apps - 1):
                time.sleep(options.rest)
                report[f"memory with {number + 1} apps, MiB"] = memory(here)
        report |= commands(here, options.runs)
    finally:
        here.remove()
    print(json.dumps(report, indent=2) if options.json else as_text(report))
    return 0


def memory(here: Installation) -> dict[str, float]:
    """MiB of the server, and of the two processes that outlive it."""
    assert here.server
    found = {"server": mebibytes(here.server.pid), "server RSS": mebibytes(here.server.pid, "Rss")}
    for name, pattern in (("supervisord", "keeper"), ("haproxy", "haproxy")):
        pids = subprocess.run(
            ["pgrep", "-f", f"{pattern}.*{re.escape(str(here.data))}"],
            capture_output=True,
            text=True,
            check=False,
        ).stdout.split()
        found[name] = round(sum(mebibytes(int(pid)) for pid in pids), 1)
    return found


def mebibytes(pid: int, field: str = "Pss") -> float:
    try:
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0.0
    match = re.search(rf"^{field}:\s+(\d+) kB", rollup, re.MULTILINE)
    return round(int(match[1]) / 1024, 1) if match else 0.0


def commands(here: Installation, runs: int) -> dict[str, object]:
    """Wall seconds of whole processes, in turn, with the interpreter alone as the floor."""
    lines = {
        "python3 -c pass (floor), s": [sys.executable, "-c", "pass"],
        "moor --help, s": [str(MOOR), "--help"],
        "moor list, s": [str(MOOR), "list"],
    }
    times: dict[str, list[float]] = {name: [] for name in lines}
    for _ in range(runs + 1):
        for name, words in lines.items():
            began = time.monotonic()
            subprocess.run(words, env=here.env, check=True, capture_output=True)
            times[name].append(time.monotonic() - began)
    return {name: round(statistics.median(each[1:]), 3) for name, each in times.items()}


def as_text(report: dict[str, object]) -> str:
    return "\n".join(f"       {name:<42} {value}" for name, value in report.items())


if __name__ == "__main__":
    sys.exit(main())
