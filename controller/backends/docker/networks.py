"""The networks of an installation, and an address for each container that nobody else has meanwhile.

An engine gives an address back while a container is down, so that another one might come up on it and get
the requests that are routed to the first. Here each has one that was chosen for it and stays its own.
"""

import asyncio
import contextlib
import ipaddress
import logging
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

from docker import APIClient

from controller.backends.base import BackendError
from controller.backends.docker.container import ADDRESS, KIND, PREFIX, Place
from controller.backends.labels import DEPLOYMENT
from controller.engine import REALM, Engine, EngineError
from router.base import RouterError, SupportsInnerPorts

log = logging.getLogger(__name__)

POOL = "10.201.0.0/16"
"""Our networks are parts of it that nothing on this machine uses yet."""
SIZE = 22
"""Bits of their prefix: about as many addresses as a bridge takes interfaces (1023)."""
MOST = 1000
"""Containers in one network; further ones go into another."""


@dataclass
class _Network:
    name: str
    subnet: IPv4Network
    taken: set[str] = field(default_factory=set)
    last: int = 1
    """Which address was given out last: one that was given back is not given out again soon."""

    def choose(self) -> str | None:
        if len(self.taken) >= MOST:
            return None
        size = self.subnet.num_addresses
        for step in range(1, size):
            offset = (self.last + step) % size
            address = str(self.subnet[offset])
            if (
                1 < offset < size - 1 and address not in self.taken
            ):  # 0 is the network, 1 the host, the last all
                self.last = offset
                self.taken.add(address)
                return address
        return None


class Networks:
    """Bridges on which apps reach the world and the host, but not each other."""

    def __init__(
        self, engine: Engine, realm: str, *, pool: str = POOL, inner: SupportsInnerPorts | None = None
    ) -> None:
        """`inner`: is told whose each address is, before anything runs there."""
        self._inner = inner
        self._untold: dict[str, str] = {}
        """Addresses that were found in use, to whose they are."""
        self._dismissals = set[asyncio.Task[None]]()
        self._engine = engine
        self._realm = realm
        self._pool = ipaddress.IPv4Network(pool)
        self._networks: list[_Network] | None = None
        self._lock = asyncio.Lock()

    async def choose(self, deployment: str) -> Place:
        """An address of its own, until it is given back. Raises EngineError, BackendError."""
        await self.tell()
        place = await self._choose()
        try:
            await self._admit(deployment, place.address)
        except RouterError as error:
            self.release(place.address)
            raise BackendError(
                f"what the address {place.address} reaches can't be changed now: {error}"
            ) from error
        except BaseException:
            self.release(place.address)
            raise
        return place

    async def tell(self) -> None:
        """Whose the addresses are that were found in use; what can't be said now is said at the next call. Raises
        EngineError."""
        if self._inner is None:
            return
        async with self._lock:
            await self._known()
        # Not within the lock: who is told may ask for the gateway.
        untold, self._untold = self._untold, {}
        while untold:
            address, deployment = untold.popitem()
            try:
                await self._admit(deployment, address)
            except RouterError as error:
                log.warning("address=%s of=%s can't be told: %s", address, deployment, error)
                self._untold[address] = deployment

    async def _choose(self) -> Place:
        async with self._lock:
            networks = await self._known()
            for each in networks:
                if address := each.choose():
                    return Place(network=each.name, address=address)
            network = await self._add(networks)
            address = network.choose()
            assert address is not None
            return Place(network=network.name, address=address)

    async def _admit(self, deployment: str, address: str) -> None:
        """Raises RouterError where it would come through to others until that can be said."""
        if self._inner is not None:
            await self._inner.admit(deployment, address)

    async def gateway(self) -> str:
        """The machine's own address in the first of them: what is published there is reached from all of them, by way
        of the engine's proxy, and from nowhere else. Raises as `choose` does."""
        async with self._lock:
            networks = await self._known()
            first = networks[0] if networks else await self._add(networks)
            return str(first.subnet[1])

    async def _known(self) -> list[_Network]:
        if self._networks is None:
            networks, self._untold = await self._engine.call(self._look)
            self._networks = networks
        return self._networks

    def release(self, address: str | None) -> None:
        for each in self._networks or ():
            each.taken.discard(address or "")
        self.disown(address)

    def disown(self, address: str | None) -> None:
        """It is nobody's of ours, though not free to be given out either."""
        self._untold.pop(address or "", None)
        if address and self._inner is not None:
            task = asyncio.create_task(self._dismiss(self._inner, address), name=f"dismiss {address}")
            self._dismissals.add(task)
            task.add_done_callback(self._dismissals.discard)

    async def _dismiss(self, inner: SupportsInnerPorts, address: str) -> None:
        with contextlib.suppress(RouterError):  # the next one at this address is admitted anyhow
            await inner.dismiss(address)

    def forget(self) -> None:
        """Look again before the next choice: somebody else chose too, or took a network away."""
        self._networks = None

    async def remove(self) -> None:
        """All of them; nothing may be in them any more."""

        def work(client: APIClient) -> None:
            for each in self._listed(client):
                client.remove_network(each["Id"])

        await self._engine.call(work)
        self.forget()

    async def _add(self, known: list[_Network]) -> _Network:
        name = f"mooring-{self._realm}" + (f"-{len(known) + 1}" if known else "")
        for subnet in await self._engine.call(lambda client: free_subnets(self._pool, _used_subnets(client))):
            try:
                await self._engine.call(lambda client: self._create(client, name, subnet))  # noqa: B023
            except EngineError as error:
                if "overlap" in str(error):
                    continue  # with what only the engine knows of
                raise
            known.append(_Network(name, subnet))
            return known[-1]
        raise BackendError(f"No part of {self._pool} is free for a network of containers.", retryable=False)

    def _create(self, client: Any, name: str, subnet: IPv4Network) -> None:
        client.create_network(
            name,
            driver="bridge",
            check_duplicate=True,
            labels={REALM: self._realm, KIND: "instances"},
            options={"com.docker.network.bridge.enable_icc": "false"},
            ipam={"Driver": "default", "Config": [{"Subnet": str(subnet), "Gateway": str(subnet[1])}]},
        )

    def _look(self, client: APIClient) -> tuple[list[_Network], dict[str, str]]:
        """The networks, and whose the addresses in them are."""
        found = [
            _Network(each["Name"], ipaddress.IPv4Network(each["IPAM"]["Config"][0]["Subnet"]))
            for each in sorted(self._listed(client), key=lambda each: (len(each["Name"]), each["Name"]))
        ]
        containers = client.containers(all=True, filters={"label": f"{REALM}={self._realm}"})
        owners = {
            address: each["Labels"].get(PREFIX + DEPLOYMENT, "")
            for each in containers
            if (address := each["Labels"].get(ADDRESS))
        }
        for network in found:
            network.taken = {each for each in owners if ipaddress.IPv4Address(each) in network.subnet}
            offsets = [int(ipaddress.IPv4Address(each)) - int(network.subnet[0]) for each in network.taken]
            network.last = max(offsets, default=1)
        return found, {address: owner for address, owner in owners.items() if owner}

    def _listed(self, client: APIClient) -> Sequence[Mapping[str, Any]]:
        labels = [f"{REALM}={self._realm}", f"{KIND}=instances"]
        found: Sequence[Mapping[str, Any]] = client.networks(filters={"label": labels})
        return found


def free_subnets(pool: IPv4Network, used: Iterable[IPv4Network]) -> list[IPv4Network]:
    """Parts of the pool that overlap with none of those."""
    taken = list(used)
    return [
        each for each in pool.subnets(new_prefix=SIZE) if not any(each.overlaps(other) for other in taken)
    ]


def _used_subnets(client: APIClient) -> list[IPv4Network]:
    """Of the engine's networks, and those that this machine has a way to but for the default one."""
    found = list(routed_subnets(Path("/proc/net/route").read_text()))
    for each in client.networks():
        for config in (each.get("IPAM") or {}).get("Config") or ():
            subnet = ipaddress.ip_network(config.get("Subnet") or "0.0.0.0/32", strict=False)
            if isinstance(subnet, IPv4Network):
                found.append(subnet)
    return found


def routed_subnets(table: str) -> Iterable[IPv4Network]:
    """Of the kernel's routing table."""
    for line in table.splitlines()[1:]:
        words = line.split()
        address, mask = (struct.unpack("<I", bytes.fromhex(words[index]))[0] for index in (1, 7))
        subnet = IPv4Network((address, mask.bit_count()), strict=False)
        if subnet.prefixlen:
            yield subnet
