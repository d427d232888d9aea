from typing import Any

import asyncssh

from gitreceive.channel import INTERRUPT, ChannelReader, ChannelWriter


class Stream:
    """asyncssh's side of a channel: gives what it is told to give, raises what it is told to raise."""

    def __init__(self, *given: bytes | Exception) -> None:
        self._given = list(given)
        self.asked: list[int] = []

    async def read(self, n: int) -> bytes:
        self.asked.append(n)
        if not self._given:
            return b""
        item = self._given.pop(0)
        if isinstance(item, Exception):
            raise item
        return item

    def write(self, data: bytes) -> None:
        raise BrokenPipeError

    async def drain(self) -> None:
        raise asyncssh.ConnectionLost("gone")


def reader(*given: bytes | Exception) -> tuple[ChannelReader, Stream]:
    stream: Any = Stream(*given)
    return ChannelReader(stream), stream


async def test_all_that_is_there_is_taken_however_little_is_wanted() -> None:
    channel, stream = reader(b"abcdef", b"gh")

    assert [await channel.read(4) for _ in range(4)] == [b"abcd", b"ef", b"gh", b""]
    assert set(stream.asked) == {4 * 1024**2}


async def test_everything_can_be_read_at_once() -> None:
    channel, _ = reader(b"ab", b"cd")
    assert await channel.read() == b"abcd"


async def test_resized_terminal_is_not_input_and_a_break_is_an_interrupt() -> None:
    channel, _ = reader(asyncssh.TerminalSizeChanged(80, 24, 0, 0), b"a", asyncssh.BreakReceived(100))
    assert await channel.read(10) == b"a"
    assert await channel.read(10) == INTERRUPT


async def test_lost_connection_is_the_end_of_input_and_swallows_output() -> None:
    channel, stream = reader(asyncssh.ConnectionLost("gone"))
    assert await channel.read(10) == b""
    gone: Any = stream
    writer = ChannelWriter(gone)
    writer.write(b"x")
    await writer.drain()
