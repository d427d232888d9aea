"""What many services cost the controller, on a backend and a router in memory.

The loop: with 100, 1,000 and 10,000 services of 10 instances each (--services), adopted as a controller
adopts what runs when it starts.

* first look: everything is seen and planned once;
* tick with no change; a look at everything, as happens every half minute; median and 99 of 100;
* one change: from the operation that sets a variable of one service until its ten new instances serve, and
  until the ten old ones are gone, with the loop running;
* memory of all that, by service.

The API: a whole `moor server` with 1,000 services of 5 versions, on SQLite and on etcd, asked at fixed rates by
a generator that does not wait for answers (--reads, --writes a second).

    python -m contrib.bench.scale [--services 100,1000,10000] [--reads 200] [--writes 50] [--seconds 10] [--json]
"""

import argparse
import asyncio
import gc
import json
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

from builder.slugs import SlugStore
from builder.storage import DiskStorage
from contrib.installation import Installation
from controller.backends.memory import MemoryBackend
from controller.client import Client
from controller.config import Listen, Settings
from controller.domains import domains_of
from controller.names import Address
from controller.operations.access import Actor
from controller.operations.credentials import Sessions
from controller.operations.operations import Operations, make_operations
from controller.operations.server import Doorplate
from controller.reconcile.actions import Start
from controller.reconcile.desired import desired_service
from controller.reconcile.loop import Reconciler
from controller.reconcile.observed import ObservedService
from controller.reconcile.plan import plan_service
from controller.reconcile.timing import Timing
from controller.state import State, put
from controller.store.base import Store
from controller.store.etcd import EtcdStore
from controller.store.memory import MemoryStore
from controller.store.sqlite import SqliteStore
from controller.types import (
    Artifact,
    ArtifactKind,
    Definition,
    Deployment,
    HealthCheck,
    Instance,
    Service,
    User,
    Version,
    VersionStatus,
)
from router.memory import MemoryRouter
from router.types import Pool, Target
from tests.servers.etcd import running_etcd

INSTANCES = 10
API_SERVICES, API_VERSIONS = 1000, 5
TICK_LIMIT, CHANGE_LIMIT = 50.0, 100.0
"""Milliseconds, with 1,000 services: the targets."""
NAMED = 1000
ADMIN = Actor(User(name="bench", admin=True))
ENV = {f"SETTING_{number}": "a value of usual length" for number in range(10)}
CODE = Artifact(kind=ArtifactKind.SLUG, reference="a" * 64, size=1000, process_types={"web": "python app.py"})


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--services", default="100,1000,10000", help="numbers of services")
    parser.add_argument("--reads", type=int, default=200)
    parser.add_argument("--writes", type=int, default=50)
    parser.add_argument("--seconds", type=int, default=10, help="of asking the API, for each of the two")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(asyncio.run(measure_loop(options.one))))
        return 0
    sizes = [int(each) for each in options.services.split(",") if each]
    # Each in a process of its own: memory that was used before would be used again.
    loop = {size: _in_own_process(size) for size in sizes}
    api = dict(measure_api(options.reads, options.writes, options.seconds))
    if options.json:
        print(json.dumps({"loop": loop, "api": api}, indent=2))
    else:
        _print(loop, api)
    return not _met(loop, api)


def _in_own_process(size: int) -> dict[str, float]:
    command = [sys.executable, "-m", "contrib.bench.scale", "--one", str(size)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, timeout=900)
    found: dict[str, float] = json.loads(done.stdout)
    return found


# The loop


async def measure_loop(size: int) -> dict[str, float]:
    """Milliseconds and KiB, by what was measured."""
    before = _resident()
    state = await State.open(MemoryStore())
    await fill(state, size, versions=1)
    backend, router = MemoryBackend(), MemoryRouter()
    loop = Reconciler(state, backend, router, domain="localhost", timing=Timing(), prober=_healthy)
    await _make_run(state, backend, router)
    found = {"first look": await _milliseconds(loop.tick())}
    while await loop.tick():
        await asyncio.sleep(0)
    gc.collect()
    found["KiB by service"] = (_resident() - before) / size
    idle = [await _milliseconds(loop.tick()) for _ in range(200)]
    found["tick"], found["tick p99"] = statistics.median(idle), _p99(idle)
    complete = [await _look_at_everything(loop) for _ in range(5)]
    found["look at everything"] = statistics.median(complete)
    with TemporaryDirectory() as folder:
        operations = _operations(state, loop, Path(folder))
        running = asyncio.create_task(loop.run())
        changes = [await _change(state, loop, operations, number, size) for number in range(20)]
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await operations.close()
    found["change to live"] = statistics.median(live for live, _ in changes)
    found["change to live, worst"] = max(live for live, _ in changes)
    found["change to settled"] = statistics.median(settled for _, settled in changes)
    await state.close()
    return found


async def _healthy(instance: Instance, check: HealthCheck) -> str | None:
    return None


async def fill(state: State, size: int, *, versions: int, stopped: bool = False) -> None:
    for first in range(0, size, 50):
        records: list[Deployment | Service | Version] = []
        for number in range(first, min(first + 50, size)):
            name = f"app-{number}"
            service = Service(
                deployment=name,
                name="app",
                definition=Definition(env=ENV),
                domains=(f"www.{name}.org",),
                scale={"web": INSTANCES},
                current=versions,
                target=versions,
                latest=versions,
                stopped=stopped,
            )
            records += [Deployment(name=name), service]
            records += [_version(service, each, versions) for each in range(1, versions + 1)]
        await state.commit(*map(put, records))


def _version(of: Service, number: int, last: int) -> Version:
    return Version(
        deployment=of.deployment,
        service=of.name,
        number=number,
        definition=of.definition,
        artifact=CODE,
        commit="b" * 40,
        reason="push of bbbbbbb to master",
        created_at=datetime.now(UTC),
        status=VersionStatus.LIVE if number == last else VersionStatus.SUPERSEDED,
    )


async def _make_run(state: State, backend: MemoryBackend, router: MemoryRouter) -> None:
    """What ran and was routed before this controller was started."""
    pools = list[Pool]()
    for service in state.services():
        assert service.current
        version = state.version(service.deployment, service.name, service.current)
        assert version
        domains = frozenset(domains_of(service, "localhost"))
        desired = desired_service(service, {service.current: version}, domains)
        plan = plan_service(desired, ObservedService(), datetime.now(UTC), Timing())
        instances = [await backend.start(each.spec) for each in plan.actions if isinstance(each, Start)]
        targets = frozenset(
            Target(each.id, each.address or "", each.port or 0) for each in instances if each.port
        )
        pools.append(Pool(f"{service.deployment}/{service.name}", domains, targets))
    await router.apply(pools)


def _operations(state: State, loop: Reconciler, folder: Path) -> Operations:
    settings = Settings(data=folder)
    slugs = SlugStore(settings.folders.slugs, settings.folders.apps, limit=settings.slug_limit)
    listen = Listen("127.0.0.1", 1)
    plate = Doorplate(api=listen, ssh=listen, http=listen, host_key_fingerprint="")
    return make_operations(
        state,
        settings,
        loop,
        storage=DiskStorage(settings.folders, slugs),
        doorplate=lambda: plate,
        sessions=Sessions(),
        privileged=False,
    )


async def _look_at_everything(loop: Reconciler) -> float:
    loop.look_at_everything()
    return await _milliseconds(loop.tick())


async def _change(
    state: State, loop: Reconciler, operations: Operations, number: int, size: int
) -> tuple[float, float]:
    """Until it serves, and until what served before is gone."""
    address = Address(f"app-{number * size // 20}")
    began = time.perf_counter()
    change = await operations.services.change_config(ADMIN, address, values={"CHANGED": str(number)})
    assert change.version
    events = state.follow_events(address.deployment, after=0)
    async with asyncio.timeout(60):
        async for event in events:
            if event.kind == "version.live" and event.data.get("version") == change.version.number:
                break
        live = time.perf_counter()
        while loop.pending(address.deployment, address.service) is not None:
            await asyncio.sleep(0.001)
    return (live - began) * 1000, (time.perf_counter() - began) * 1000


# The API


def measure_api(reads: int, writes: int, seconds: int) -> Iterator[tuple[str, dict[str, float]]]:
    with ExitStack() as stack:
        stores = {"sqlite": ""}
        if shutil.which("etcd"):
            stores["etcd"] = stack.enter_context(running_etcd()).address
        for name, address in stores.items():
            here = Installation(settings={"store": name, "backend": "memory", "router": "memory"})
            try:
                if address:
                    here.settings["etcd"] = address
                here.data.mkdir(mode=0o711)
                store: Store = (
                    EtcdStore(address) if address else SqliteStore(Settings(data=here.data).folders.database)
                )
                asyncio.run(_filled(store))
                here.start()
                yield name, asyncio.run(_ask(here, reads, writes, seconds))
            finally:
                here.remove()


async def _filled(store: Store) -> None:
    state = await State.open(store)
    # Stopped: what they would start has no program behind it.
    await fill(state, API_SERVICES, versions=API_VERSIONS, stopped=True)
    await state.close()
    await store.close()


async def _ask(here: Installation, reads: int, writes: int, seconds: int) -> dict[str, float]:
    token = (here.data / "local-token").read_text().strip()
    async with Client(f"http://127.0.0.1:{here.api}", token) as client:
        kinds: Sequence[Callable[[Address], Awaitable[object]]] = (
            client.service,
            client.versions,
            client.instances,
            client.environment,
        )

        def read(number: int) -> Awaitable[object]:
            return kinds[number % len(kinds)](_address(number))

        def write(number: int) -> Awaitable[object]:
            return client.change_config(_address(number), put={"CHANGED": str(number)}, stage=True)

        await _at_rate(read, 50, 1)
        read_times = await _at_rate(read, reads, seconds)
        write_times = await _at_rate(write, writes, seconds)
    return {
        "reads/s": len(read_times) / seconds,
        "read median": statistics.median(read_times),
        "read p99": _p99(read_times),
        "writes/s": len(write_times) / seconds,
        "write median": statistics.median(write_times),
        "write p99": _p99(write_times),
    }


def _address(number: int) -> Address:
    return Address(f"app-{number * 7919 % API_SERVICES}")


async def _at_rate(ask: Callable[[int], Awaitable[object]], rate: int, seconds: int) -> list[float]:
    """Milliseconds that each answer took since it was due. One that fails ends the measurement."""
    took = list[float]()
    began = time.perf_counter()

    async def one(number: int) -> None:
        await ask(number)
        took.append((time.perf_counter() - began - number / rate) * 1000)

    async with asyncio.TaskGroup() as tasks:
        for number in range(rate * seconds):
            await asyncio.sleep(max(0.0, began + number / rate - time.perf_counter()))
            tasks.create_task(one(number))
    return took


# Telling


async def _milliseconds(work: Awaitable[object]) -> float:
    began = time.perf_counter()
    await work
    return (time.perf_counter() - began) * 1000


def _p99(values: Sequence[float]) -> float:
    return statistics.quantiles(values, n=100)[98]


def _resident() -> float:
    """KiB of this process in memory now."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4.0


def _print(loop: dict[int, dict[str, float]], api: dict[str, dict[str, float]]) -> None:
    print(f"services of {INSTANCES} instances each; milliseconds")
    for name in next(iter(loop.values()), {}):
        print(f"{name:<26}" + "".join(f"{loop[size][name]:>12,.2f}" for size in loop))
        if name == "first look":
            print(f"{'':<26}" + "".join(f"{f'({size:,})':>12}" for size in loop))
    print(f"API with {API_SERVICES:,} services of {API_VERSIONS} versions; milliseconds")
    for name in next(iter(api.values()), {}):
        print(
            f"{name:<26}" + "".join(f"{store:>12} {figures[name]:>8,.2f}" for store, figures in api.items())
        )
    print(f"targets: {'met' if _met(loop, api) else 'MISSED'}")


def _met(loop: dict[int, dict[str, float]], api: dict[str, dict[str, float]]) -> bool:
    named = loop.get(NAMED)
    return named is None or (named["tick p99"] <= TICK_LIMIT and named["change to live"] <= CHANGE_LIMIT)


if __name__ == "__main__":
    sys.exit(main())
