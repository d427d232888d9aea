"""The same commands over the bytes of an SSH channel."""

import asyncio
from typing import cast

import pytest

from cli.remote import MAX_INPUT, MAX_LINES, ChannelSink, TerminalInput, run_over_ssh
from controller.client import Client
from tests.unit.cli.fake_client import FakeClient


class Channel:
    """Both ends of a session: keys to be typed, and what was written."""

    def __init__(self, typed: bytes = b"", *, ends: bool = True) -> None:
        self._queue: asyncio.Queue[bytes] = asyncio.Queue()
        self._ends = ends
        self.written = b""
        if typed:
            self._queue.put_nowait(typed)

    def type(self, keys: bytes) -> None:
        self._queue.put_nowait(keys)

    async def read(self, n: int = -1, /) -> bytes:
        if self._queue.empty() and self._ends:
            return b""
        return await self._queue.get()

    def write(self, data: bytes, /) -> None:
        self.written += data

    async def drain(self) -> None:
        """Always room for more."""


class Endless(FakeClient):
    """Its logs never end, as with -t on a quiet app."""

    async def logs(self, *_: object, **__: object):  # type: ignore[no-untyped-def]
        yield self.logs_[0]
        self.reached = asyncio.Event()
        await asyncio.Event().wait()


async def call(
    *argv: str,
    channel: Channel | None = None,
    client: FakeClient | None = None,
    size: tuple[int, int] | None = None,
) -> tuple[int, str, str]:
    out, err = Channel(), Channel()
    client = client or FakeClient()
    status = await run_over_ssh(
        argv,
        user="ann",
        connect=lambda: cast(Client, client),
        stdin=channel or Channel(),
        stdout=out,
        stderr=err,
        size=size,
    )
    assert client.closed or argv[0] == "help"
    return status, out.written.decode(), err.written.decode()


async def test_words_run_as_dokku_has_them_and_the_status_passes_through() -> None:
    assert await call("ps:scale", "foo") == (0, "web=2 worker=1\n", "")
    status, out, err = await call("config:get", "foo", "NOPE")
    assert (status, out) == (1, "")
    assert err.startswith(" !     foo has no config variable NOPE.")


async def test_a_terminal_gets_headers_and_carriage_returns() -> None:
    _, plain, _ = await call("releases", "foo")
    _, shown, _ = await call("releases", "foo", channel=Channel(ends=False), size=(80, 24))
    assert "\r" not in plain
    assert shown.startswith("=====> foo releases\r\nVERSION")


async def test_help_needs_no_client() -> None:
    status, out, _ = await call("help", "ps:scale")
    assert status == 0
    assert "ssh -p 2222 deploy@HOST ps:scale foo web=2" in out


async def test_a_key_comes_on_standard_input() -> None:
    client = FakeClient()
    status, _, _ = await call("ssh-keys:add", "desk", channel=Channel(b"ssh-ed25519 AAAA x\n"), client=client)
    assert status == 0
    assert client.keys_[-1].public_key == "ssh-ed25519 AAAA x"


async def test_endless_input_is_refused() -> None:
    channel = Channel(b"x" * (MAX_INPUT + 1))
    status, _, err = await call("ssh-keys:add", "desk", channel=channel)
    assert status == 1
    assert "1024 KiB" in err


async def test_what_is_typed_and_never_read_takes_bounded_memory() -> None:
    echo = ChannelSink(Channel(), terminal=True)
    keys = TerminalInput(Channel(b"\r" * 5000 + b"\x04" * 5000), echo)
    listening = asyncio.create_task(keys.listen())
    await asyncio.sleep(0)
    listening.cancel()
    assert keys._lines.qsize() <= MAX_LINES + 1


async def test_a_question_is_asked_on_a_terminal_with_what_is_typed_shown() -> None:
    client = FakeClient()
    channel = Channel(b"bar\x7f\x7f\x7ffoo\r", ends=False)
    status, out, err = await call("destroy", "foo", channel=channel, client=client, size=(80, 24))
    assert status == 0
    assert "Destroyed foo" in out
    assert "foo" not in client.deployments_
    assert "Type foo to go on: " in err


async def test_without_a_terminal_nothing_is_asked() -> None:
    status, _, err = await call("destroy", "foo", channel=Channel(b"foo\n"))
    assert status == 1
    assert "--force" in err


@pytest.mark.parametrize("size", [None, (80, 24)])
async def test_a_closed_terminal_ends_a_stream(size: tuple[int, int] | None) -> None:
    client = Endless()
    running = asyncio.create_task(
        call("logs", "foo", "-t", channel=Channel(ends=False), client=client, size=size)
    )
    async with asyncio.timeout(5):
        while not hasattr(client, "reached"):
            await asyncio.sleep(0)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert client.closed


async def test_control_c_ends_a_stream_on_a_terminal() -> None:
    channel = Channel(b"\x03", ends=False)
    status, out, _ = await call("logs", "foo", "-t", channel=channel, client=Endless(), size=(80, 24))
    assert status == 130
    assert "\x1b" not in out


async def test_the_end_of_input_does_not_end_the_command() -> None:
    status, _, _ = await call("config:set", "foo", "A=1", channel=Channel(), size=(80, 24))
    assert status == 0


async def test_two_sessions_at_once_have_nothing_in_common() -> None:
    first, second = await asyncio.gather(call("config", "foo", "--json"), call("config", "foo"))
    assert first[1].startswith("{")
    assert second[1].startswith("COLOR:")
