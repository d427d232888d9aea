"""`slugbuilder -` in a build container: source in, log on standard error, the built app out.

Standard input is a tar whose first member is an order (see `order`), the others are the source. Standard output
is one line of JSON, an `Outcome`, and where that says that there is a slug, a tar of the built app behind it. It
runs as the build's user, whose processes could write there too: whoever reads it believes nothing of it.
"""

import asyncio
import contextlib
import os
import select
import signal
import subprocess
import sys
from pathlib import Path

from builder.base import BuilderUnavailable, BuildFailed
from builder.chain import Chain, Shelf
from builder.inside.guard import over_a_limit
from builder.inside.order import Order, Outcome, write_outcome
from builder.inside.printer import Printer
from builder.inside.processes import Processes
from builder.inside.reading import read_order
from builder.pack import blocks_of, canonical_tar
from builder.steps import Steps
from builder.types import BuildRequest
from builder.workspace import Workspace

HOME = Path("/usr/lib/mooring")
FOLDERS = Workspace(Path("/tmp"))  # noqa: S108 - the container is the build's alone
CACHES = Path("/tmp/cache")  # noqa: S108
READY = Path("/tmp/ready")  # noqa: S108
"""Copies of installations, made before it was known what is built."""
PATIENCE = 0.3
"""Seconds without a source after which there is time for that."""
UNPACKED = Path("/tmp/folders")  # noqa: S108
"""Buildpacks from folders of the server, below their own paths."""


def main() -> int:
    # Nothing but the outcome may get to where the slug goes.
    slug = os.dup(1)
    os.dup2(2, 1)
    _make_ready()
    order = read_order(0, FOLDERS, UNPACKED)
    if order is None:
        Printer().warn("This program takes its order from a Mooring server, as the first member of a tar.")
        return 64
    outcome = asyncio.run(_guarded(order))
    write_outcome(slug, outcome)
    return pack(slug) if outcome.built else 0


def _make_ready() -> None:
    """While nothing comes, copy what the last builds installed. A source that comes at once is not held up by it."""
    if select.select([0], [], [], PATIENCE)[0]:
        return
    copying = subprocess.Popen(
        [sys.executable, "-I", "-S", str(HOME / "buildpacks/lib/ready.py"), str(_cache()), str(READY)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    os.environ["MOORING_READY"] = str(READY)
    select.select([0], [], [])
    with contextlib.suppress(ProcessLookupError):
        os.killpg(copying.pid, signal.SIGKILL)
    copying.wait()


def _cache() -> Path:
    """By the stack: what was compiled on another one, or on the host, is of no use here."""
    return CACHES / os.environ.get("STACK", "stack")


def pack(target: int) -> int:
    """The built app as the archive that the server keeps; the status of what failed."""
    # What its own user made unreadable is opened: the server would do the same.
    unreadable = ["find", str(FOLDERS.build), "!", "-type", "l", "!", "-perm", "-u+r"]
    subprocess.run([*unreadable, "-exec", "chmod", "u+rwX", "{}", "+"], check=False)
    try:
        with open(target, "wb") as slug:
            for block in blocks_of(canonical_tar(FOLDERS.build, lambda: None)):
                slug.write(block)
    except (OSError, BuildFailed) as error:
        Printer().warn(f"What was built could not be packed: {error}")
        return 1
    return 0


async def _guarded(order: Order) -> Outcome:
    """Ended when the container reaches a limit: what is left of a build that could not fork may wait for ever."""
    work = asyncio.ensure_future(_perform(order))
    watch = asyncio.ensure_future(over_a_limit())
    asyncio.get_running_loop().add_reader(0, _look_for_the_end)
    await asyncio.wait({work, watch}, return_when=asyncio.FIRST_COMPLETED)
    if watch.done():
        work.cancel()
        return Outcome(limit=watch.result())
    watch.cancel()
    return work.result()


def _look_for_the_end() -> None:
    """The server keeps our input open: where it ends, the server has gone, and nobody wants what is built."""
    if not os.read(0, 65536):
        os._exit(70)


async def _perform(order: Order) -> Outcome:
    cache = _cache()
    request = BuildRequest(
        id=order.id,
        deployment="",
        service="",
        source=FOLDERS.build,
        commit=order.commit,
        env=order.env,
        buildpacks=order.buildpacks,
        builder=order.builder,
        cache=cache,
    )
    out = Printer()
    cache.mkdir(exist_ok=True)
    steps = Steps(
        Processes(),
        {**os.environ, **FOLDERS.environment(request)},
        cwd=FOLDERS.build,
        uid=None,
    )
    shelf = Shelf(bundled=HOME / "buildpacks", below=UNPACKED)
    chain = Chain(steps, shelf, FOLDERS, request)
    try:
        if order.inspect:
            return Outcome(verdicts=tuple(await chain.inspect(out)))
        chosen = await chain.detect(out)
        release = await chain.compile(chosen, out)
    except BuildFailed as error:
        return Outcome(failed=str(error))
    except BuilderUnavailable as error:
        return Outcome(unavailable=str(error))
    name = " + ".join(each.words for each in chosen)
    return Outcome(built=name, process_types=release.process_types, env=release.env)


if __name__ == "__main__":
    status = main()
    sys.stderr.flush()
    os._exit(status)  # tidying up would take longer than the rest of it
