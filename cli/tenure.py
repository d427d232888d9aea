"""Holding a store for one server: two that reconcile the same state would undo each other's work.

A data folder is locked by the kernel; a store that several machines reach (etcd) needs a lease.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator

from controller.errors import Refused
from controller.store.base import Lease, Store, StoreError

log = logging.getLogger(__name__)

NAME = "server"
TTL = 10.0
"""Seconds after which a server that was killed no longer holds the store, for one with another data folder."""


@contextlib.asynccontextmanager
async def tenure(
    store: Store, owner: str, *, ttl: float = TTL, margin: float = 2.0
) -> AsyncIterator[asyncio.Task[None]]:
    """Hold the store while the block runs. The task ends, with Refused, once another server holds it.

    `owner` stays the same over restarts, so that a killed server gets it back at once. Waits up to `ttl` and
    `margin` seconds for another one that may have died; then raises Refused. Raises StoreUnavailable.
    """
    lease = await _acquire(store, owner, ttl, margin)
    keeping = asyncio.create_task(_keep(store, lease, owner, ttl), name="store lease")
    try:
        yield keeping
    finally:
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)
        with contextlib.suppress(StoreError, TimeoutError):
            async with asyncio.timeout(margin):
                if held := await store.acquire(NAME, owner=owner, ttl=ttl):
                    await held.release()


async def _acquire(store: Store, owner: str, ttl: float, margin: float) -> Lease:
    end = asyncio.get_running_loop().time() + ttl + margin
    said = False
    while (lease := await store.acquire(NAME, owner=owner, ttl=ttl)) is None:
        if asyncio.get_running_loop().time() > end:
            raise _taken()
        if not said:
            log.warning("another server holds the store: waiting up to %g s for it to let go", ttl + margin)
            said = True
        await asyncio.sleep(min(1.0, ttl / 10))
    return lease


async def _keep(store: Store, lease: Lease, owner: str, ttl: float) -> None:
    while True:
        await asyncio.sleep(ttl / 4)
        try:
            # Expired while the store was away is no harm, unless somebody took it.
            if not await lease.renew():
                if (again := await store.acquire(NAME, owner=owner, ttl=ttl)) is None:
                    raise _taken()
                lease = again
        except StoreError as error:
            log.warning("the hold on the store can't be renewed now: %s", error)


def _taken() -> Refused:
    return Refused(
        "Another server holds the state in this store. Give each server a store of its own (with etcd, a prefix "
        "of its own: --etcd HOST:PORT/PREFIX), or stop the other one first."
    )
