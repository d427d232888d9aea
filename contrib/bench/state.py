"""What the store and the state cost: commits a second, latency of a commit, memory, time to open.

.venv/bin/python -m contrib.bench.state [--services 1000] [--versions 5]
"""

import argparse
import asyncio
import gc
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from controller.state import EventDraft, State, put
from controller.store.base import Store, Write
from controller.store.etcd import EtcdStore
from controller.store.memory import MemoryStore
from controller.store.sqlite import SqliteStore
from controller.types import Artifact, ArtifactKind, Definition, Service, Version
from tests.servers.etcd import running_etcd

ENV = {f"SETTING_{number}": "a value of usual length" for number in range(10)}
COMMITS = 1000


def resident() -> float:
    """MiB of this process in memory now."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 1024**2


def service(number: int) -> Service:
    return Service(
        deployment=f"app-{number}",
        name="app",
        definition=Definition(env=ENV),
        domains=(f"www.app-{number}.org",),
    )


def version(number: int, of: Service) -> Version:
    slug = Artifact(
        kind=ArtifactKind.SLUG, reference="a" * 64, size=1000, process_types={"web": "python app.py"}
    )
    return Version(
        deployment=of.deployment,
        service=of.name,
        number=number,
        definition=of.definition,
        artifact=slug,
        commit="b" * 40,
        reason="push of bbbbbbb to master",
        created_at=datetime.now(UTC),
    )


def show(name: str, value: float, unit: str) -> None:
    print(f"{name:<58} {value:>10.2f} {unit}")


async def store_commits(name: str, store: Store) -> None:
    begun = time.perf_counter()
    for number in range(COMMITS):
        await store.commit([Write(f"key/{number % 100}", {"number": number, "text": "x" * 500})])
    show(f"{name}: commits one after the other", COMMITS / (time.perf_counter() - begun), "/s")
    await store.close()


async def state_commits(name: str, store: Store) -> None:
    state = await State.open(store)
    app = service(0)
    took = list[float]()
    for number in range(COMMITS):
        begun = time.perf_counter()
        app = replace(app, uid=number)
        await state.commit(put(app), events=[EventDraft(kind="bench", deployment="app-0", text="one line")])
        took.append((time.perf_counter() - begun) * 1000)
    cuts = statistics.quantiles(took, n=100)
    show(f"{name}: state.commit of a service and an event, median", cuts[49], "ms")
    show(f"{name}: the same, 99 of 100 within", cuts[98], "ms")
    await state.close()
    await store.close()


async def etcd_size(address: str, services: int, versions: int) -> None:
    await fill(EtcdStore(f"{address}/c"), services, versions)
    store = EtcdStore(f"{address}/c")
    begun = time.perf_counter()
    state = await State.open(store)
    show(
        f"etcd: open with {services} services of {versions} versions",
        (time.perf_counter() - begun) * 1000,
        "ms",
    )
    await state.close()
    await store.close()


async def fill(store: Store, services: int, versions: int) -> None:
    state = await State.open(store)
    for first in range(0, services, 100):
        batch = [service(number) for number in range(first, min(first + 100, services))]
        await state.commit(
            *map(put, batch), *(put(version(n + 1, s)) for s in batch for n in range(versions))
        )
    await state.close()
    await store.close()


async def reopen(path: Path, services: int, versions: int) -> None:
    before = resident()
    store = SqliteStore(path)
    begun = time.perf_counter()
    state = await State.open(store)
    took = time.perf_counter() - begun
    assert len(state.services()) == services
    show(f"open with {services} services of {versions} versions", took * 1000, "ms")
    show("memory for it", resident() - before, "MiB")
    begun = time.perf_counter()
    for number in range(10_000):
        state.service(f"app-{number % services}", "app")
    show("state.service()", (time.perf_counter() - begun) * 100, "µs")
    begun = time.perf_counter()
    state.services()
    show("state.services() of all", (time.perf_counter() - begun) * 1000, "ms")
    await state.close()
    await store.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--services", type=int, default=1000)
    parser.add_argument("--versions", type=int, default=5)
    parser.add_argument("--reopen", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.reopen:
        asyncio.run(reopen(options.reopen, options.services, options.versions))
        return
    with tempfile.TemporaryDirectory(prefix="moor-") as folder:
        root = Path(folder)
        asyncio.run(store_commits("memory", MemoryStore()))
        asyncio.run(store_commits("sqlite", SqliteStore(root / "a.sqlite")))
        asyncio.run(state_commits("memory", MemoryStore()))
        asyncio.run(state_commits("sqlite", SqliteStore(root / "b.sqlite")))
        if shutil.which("etcd"):
            with running_etcd() as etcd:
                asyncio.run(store_commits("etcd", EtcdStore(f"{etcd.address}/a")))
                asyncio.run(state_commits("etcd", EtcdStore(f"{etcd.address}/b")))
                asyncio.run(etcd_size(etcd.address, options.services, options.versions))
        else:
            print("etcd: not installed, not measured")
        asyncio.run(fill(SqliteStore(root / "c.sqlite"), options.services, options.versions))
        show("file with that", (root / "c.sqlite").stat().st_size / 1024**2, "MiB")
        # In a process of its own: memory that was used before would be used again.
        sys.stdout.flush()
        arguments = ["--services", str(options.services), "--versions", str(options.versions)]
        subprocess.run(
            [sys.executable, "-m", "contrib.bench.state", *arguments, "--reopen", root / "c.sqlite"],
            check=True,
        )


if __name__ == "__main__":
    main()
