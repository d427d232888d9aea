import asyncio
from pathlib import Path

import pytest
from dulwich.errors import HangupException

from gitreceive.bridge import Bridge
from gitreceive.quarantine import PackRefused, quarantine
from gitreceive.repos import BareRepository


class Reader:
    def __init__(self, *chunks: bytes) -> None:
        self._chunks = list(chunks)

    async def read(self, n: int = -1, /) -> bytes:
        return self._chunks.pop(0) if self._chunks else b""


class Writer:
    def __init__(self) -> None:
        self.data = b""

    def write(self, data: bytes, /) -> None:
        self.data += data

    async def drain(self) -> None:
        """Everything is taken at once."""


async def test_thread_reads_exactly_and_the_rest_is_streamed() -> None:
    bridge = Bridge(Reader(b"001", b"4abcd", b"PACK", b"more"), Writer())

    assert await asyncio.to_thread(bridge.read, 4) == b"0014"
    assert await asyncio.to_thread(bridge.recv, 2) == b"ab"
    assert await bridge.peek(6) == b"cdPACK"
    assert [chunk async for chunk in bridge.stream()] == [b"cdPACK", b"more"]
    assert await asyncio.to_thread(bridge.read, 4) == b""


async def test_disconnect_ends_the_call_after_its_task_has_put_things_in_order() -> None:
    bridge, started, tidy = Bridge(Reader(), Writer()), asyncio.Event(), []

    async def work() -> None:
        try:
            started.set()
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            tidy.append(True)

    def thread() -> bool:
        with pytest.raises(HangupException):
            bridge.call(work)
        return bool(tidy)

    waiting = asyncio.create_task(asyncio.to_thread(thread))
    await started.wait()
    bridge.disconnect()
    assert await waiting


async def test_finishing_work_outlives_its_client_but_not_the_server() -> None:
    bridge, started, go_on = Bridge(Reader(), Writer()), asyncio.Event(), asyncio.Event()

    async def work() -> str:
        bridge.finish()
        started.set()
        await go_on.wait()
        return "done"

    first = asyncio.create_task(asyncio.to_thread(bridge.call, work))
    await started.wait()
    bridge.disconnect()
    go_on.set()
    assert await first == "done"

    go_on.clear()
    started.clear()
    second = asyncio.create_task(asyncio.to_thread(bridge.call, work))
    await started.wait()
    bridge.abort()
    with pytest.raises(HangupException):
        await second


async def test_no_work_begins_for_a_client_that_has_gone() -> None:
    bridge = Bridge(Reader(b"x"), Writer())
    bridge.disconnect()
    with pytest.raises(HangupException):
        await asyncio.to_thread(bridge.read, 1)


class Silent(Reader):
    """Says what it has, then nothing more."""

    async def read(self, n: int = -1, /) -> bytes:
        return await super().read(n) or await asyncio.Event().wait()


async def test_a_client_that_falls_silent_in_the_middle_of_its_pack_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gitreceive.quarantine.MID_PACK_TIMEOUT", 0.01)
    BareRepository.init_bare(str(tmp_path)).close()
    bridge = Bridge(Silent(b"PACK\x00\x00\x00\x02\x00\x00\x00\x01"), Writer())
    async with quarantine(tmp_path, None) as place, asyncio.timeout(5):
        with pytest.raises(PackRefused, match="did not arrive"):
            await place.take_pack(bridge, 10**6)
