"""`make bench`: everything, one after the other. Each part also runs alone: `python -m contrib.bench.deploys`."""

import subprocess
import sys

PARTS = {
    "receive": "(a) receiving a push, beside OpenSSH + git receive-pack",
    "deploys": "(b) push to live and (c) failed requests, beside a deploy hook by hand",
    "footprint": "(d) memory at rest and (e) the command's answer",
    "changes": "failed requests through 20 of each kind of change",
    "scale": "the loop and the API with 1,000 services and more",
    "servicefile": "a service file with 1,000 services",
    "routing": "(f) throughput, beside a hand-written HAProxy configuration",
    "slug": "packing and unpacking a slug, beside tar and zstd",
    "containers": "pushes, builds and memory on a container engine, beside a bare container",
    "access": "what the log of requests costs",
    "inner": "redis through a port within the machine, beside a hand-written proxy and nothing between",
}


def main() -> int:
    wanted = sys.argv[1:] or list(PARTS)
    failed = []
    for name in wanted:
        print(f"=====> {PARTS[name]}", flush=True)
        if subprocess.run([sys.executable, "-m", f"contrib.bench.{name}"], check=False).returncode:
            failed.append(name)
    if failed:
        print(f" !     Missed a target, or did not run to the end: {', '.join(failed)}", file=sys.stderr)
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
