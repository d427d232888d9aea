"""What is tried again when an engine refuses a container, and what is learnt from it."""

import asyncio
from collections.abc import Callable, Mapping
from ipaddress import IPv4Network
from typing import Any

import pytest

from controller.backends.base import BackendError
from controller.backends.docker import launching
from controller.backends.docker.container import Place
from controller.backends.docker.launching import Launcher
from controller.backends.docker.networks import Networks as RealNetworks
from controller.backends.docker.networks import _Network
from controller.engine import EngineError
from router.base import RouterError

REFUSED = "error setting rlimit type 7: operation not permitted"


class Client:
    """An engine that may have few open files itself."""

    def __init__(self, most: int) -> None:
        self._most = most
        self.asked: list[int | None] = []
        """The limit of open files in each container that was made."""

    def create_container_from_config(self, config: Mapping[str, Any], _name: str) -> Mapping[str, str]:
        limits = {each["Name"]: each["Hard"] for each in config["HostConfig"]["Ulimits"]}
        self.asked.append(limits.get("nofile"))
        return {"Id": "c"}

    def start(self, _: str) -> None:
        if (self.asked[-1] or 0) > self._most:
            raise EngineError(REFUSED)


class Engine:
    socket = "nowhere"

    def __init__(self, client: Client) -> None:
        self._client = client

    async def call(self, work: Callable[[Client], Any]) -> Any:
        return work(self._client)


class Networks:
    async def choose(self, deployment: str) -> Place:
        assert deployment == "foo"
        return Place(network="n", address="10.201.0.2")

    def release(self, _: str) -> None: ...

    def disown(self, _: str) -> None: ...


def limited_to(files: int) -> Callable[[Place], Mapping[str, Any]]:
    limits = [{"Name": "core", "Soft": 0, "Hard": 0}, {"Name": "nofile", "Soft": files, "Hard": files}]
    return lambda _place: {"HostConfig": {"Ulimits": limits}}


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> Client:
    async def gone(*_: object) -> None: ...

    monkeypatch.setattr(launching, "remove_container", gone)
    return Client(most=1000)


async def test_a_limit_that_the_engine_can_not_give_is_left_out_and_not_tried_again(client: Client) -> None:
    launcher = Launcher(Engine(client), "ab", Networks())  # type: ignore[arg-type]
    for files in (4000, 4000, 5000, 900):
        await launcher.launch("web.1", "foo", limited_to(files))
    assert client.asked == [4000, None, None, None, 900]


class Busy(Client):
    """The first address is somebody's already."""

    def start(self, container: str) -> None:
        self.starts = getattr(self, "starts", 0) + 1
        if self.starts == 1:
            raise EngineError("driver failed programming external connectivity: Address already in use")
        super().start(container)


class Told:
    def __init__(self) -> None:
        self.admitted = dict[str, str]()

    async def inner_address(self) -> str:
        return "10.201.0.1"

    async def admit(self, group: str, address: str) -> None:
        self.admitted[address] = group

    async def dismiss(self, address: str) -> None:
        self.admitted.pop(address, None)


async def test_an_address_that_is_somebody_elses_is_let_in_nowhere(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = Told()
    found = RealNetworks(Engine(Busy(most=1000)), "ab", inner=told)  # type: ignore[arg-type]
    monkeypatch.setattr(
        found, "_look", lambda _: ([_Network("n", IPv4Network("10.201.0.0/22"))], {"10.201.0.9": "bar"})
    )
    launcher = Launcher(Engine(Busy(most=1000)), "ab", found)  # type: ignore[arg-type]
    _, place = await launcher.launch("web.1", "foo", limited_to(900))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert told.admitted == {place.address: "foo", "10.201.0.9": "bar"}


async def test_what_can_not_be_told_of_who_runs_stops_nobody_and_is_told_later() -> None:
    class Away(Told):
        away = True

        async def admit(self, group: str, address: str) -> None:
            if self.away:
                raise RouterError("it does not answer")
            await super().admit(group, address)

    told = Away()
    found = RealNetworks(Engine(Client(most=1000)), "ab", inner=told)  # type: ignore[arg-type]
    network = _Network("n", IPv4Network("10.201.0.0/22"), taken={"10.201.0.9"})
    found._networks, found._untold = [network], {"10.201.0.9": "bar"}
    await found.tell()
    with pytest.raises(BackendError, match=r"10\.201\.0\.2 reaches can't be changed now: it does not answer"):
        await found.choose("foo")
    assert network.taken == {"10.201.0.9"}, "who runs keeps his address, who does not start has none"
    told.away = False
    await found.tell()
    assert told.admitted == {"10.201.0.9": "bar"}
