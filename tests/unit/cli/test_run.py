"""`run` and `enter`: what reaches the server, and what passes through."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager, nullcontext
from types import SimpleNamespace
from typing import Any

import pytest

from cli.console import put_through
from cli.remote import run_over_ssh
from tests.factories import run
from tests.unit.cli.fake_client import FakeClient


class Keyboard:
    """A session's input, piece by piece; a number is a change of the window's width, `!` a signal."""

    def __init__(self, *pieces: bytes | int | str) -> None:
        self.pieces = [*pieces]
        self.resized: Callable[[int, int], None] | None = None
        self.signalled: Callable[[str], None] | None = None

    def tell(self, *, resized: Any, signalled: Any) -> None:
        self.resized, self.signalled = resized, signalled

    async def read(self, n: int = -1, /) -> bytes:
        while self.pieces:
            await asyncio.sleep(0.001)
            piece = self.pieces[0]
            if isinstance(piece, bytes):
                return bytes(self.pieces.pop(0))  # type: ignore[arg-type]
            told = self.resized if isinstance(piece, int) else self.signalled
            if told is None:
                continue
            self.pieces.pop(0)
            told(*((piece, 24) if isinstance(piece, int) else (piece,)))  # type: ignore[arg-type]
        return b""


class Paper:
    def __init__(self) -> None:
        self.data = b""

    def write(self, data: bytes, /) -> None:
        self.data += data

    async def drain(self) -> None:
        """Always room for more."""


class Elsewhere:
    """What runs on the server: says again what it is told, and ends with its input."""

    def __init__(self, code: int | None = 7, detail: str = "exited with status 7") -> None:
        self.run = run()
        self.exit_code, self.detail = code, detail
        self.heard: list[object] = []
        self._said: asyncio.Queue[bytes | None] = asyncio.Queue()

    async def output(self) -> AsyncGenerator[tuple[int, bytes], None]:
        while (piece := await self._said.get()) is not None:
            yield 2 if piece.startswith(b"E") else 1, piece

    async def write(self, data: bytes) -> None:
        self.heard.append(data)
        self._said.put_nowait(data)

    async def close_input(self) -> None:
        self._said.put_nowait(None)

    async def resize(self, columns: int, rows: int) -> None:
        self.heard.append((columns, rows))

    async def signal(self, name: str) -> None:
        self.heard.append(name)


class Client(FakeClient):
    def __init__(self, elsewhere: Elsewhere) -> None:
        super().__init__()
        self.elsewhere = elsewhere
        self.asked: dict[str, Any] = {}

    @asynccontextmanager
    async def attach(self, address: Any, words: Any, **wanted: Any) -> AsyncIterator[Elsewhere]:
        self.asked = {"app": str(address), "words": words, **wanted}
        yield self.elsewhere


async def call(
    *argv: str, keys: Keyboard, size: tuple[int, int] | None = None, elsewhere: Elsewhere | None = None
) -> SimpleNamespace:
    client = Client(elsewhere or Elsewhere())
    out, err = Paper(), Paper()
    status = await run_over_ssh(
        argv,
        user="ann",
        connect=lambda: client,  # type: ignore[arg-type, return-value]
        stdin=keys,
        stdout=out,
        stderr=err,
        size=size,
        terminal_kind="vt100" if size else "",
    )
    return SimpleNamespace(status=status, out=out.data, err=err.data, client=client)


async def test_bytes_pass_unchanged_and_apart_without_a_terminal() -> None:
    done = await call("run", "foo", "cat", keys=Keyboard(b"\x00\xff\x03\x04", b"E\x1b[2J"))
    assert (done.status, done.out, done.err) == (7, b"\x00\xff\x03\x04", b"E\x1b[2J")
    assert done.client.asked["terminal"] is None


async def test_options_stand_before_the_command_and_its_own_are_its_own() -> None:
    done = await call(
        "run", "foo", "-e", "A=1=2", "--ttl", "2m", "--type", "web", "ls", "-l", "--json", keys=Keyboard()
    )
    assert done.client.asked == {
        "app": "foo",
        "words": ("ls", "-l", "--json"),
        "terminal": None,
        "env": {"A": "1=2"},
        "ttl": 120,
        "process_type": "web",
    }


async def test_terminal_is_passed_on_with_all_that_is_typed_and_its_changes() -> None:
    keys = Keyboard(b"ahead\r", 132, "TERM", b"\x03", b"\x04")
    done = await call("run", "foo", "bash", keys=keys, size=(90, 30))
    assert done.client.asked["terminal"] == (90, 30, "vt100")
    heard = done.client.elsewhere.heard
    assert b"".join(each for each in heard if isinstance(each, bytes)).endswith(b"\x03\x04")
    assert (132, 24) in heard
    assert "TERM" in heard
    assert keys.resized is None


async def test_no_terminal_where_none_is_wanted() -> None:
    done = await call("run", "foo", "--no-tty", "cat", keys=Keyboard(b"x"), size=(90, 30))
    assert done.client.asked["terminal"] is None


@pytest.mark.parametrize(
    ("words", "enter", "command"),
    [
        (["foo"], "", ()),
        (["foo", "web.1"], "web.1", ()),
        (["foo", "web.1", "ls", "-l"], "web.1", ("ls", "-l")),
    ],
)
async def test_entering_names_the_process_and_the_command(
    words: list[str], enter: str, command: tuple[str, ...]
) -> None:
    done = await call("enter", *words, keys=Keyboard())
    assert (done.client.asked["enter"], done.client.asked["words"]) == (enter, command)


async def test_end_that_it_did_not_choose_itself_is_told() -> None:
    done = await call(
        "run", "foo", "cat", keys=Keyboard(), elsewhere=Elsewhere(None, "ann asked for its end")
    )
    assert done.status == 1
    assert done.err == b" !     run.1 of foo: ann asked for its end.\n"


async def test_variable_without_a_value_is_refused_without_being_shown() -> None:
    done = await call("run", "foo", "-e", "A", "cat", keys=Keyboard())
    assert done.status == 1
    assert b"NAME=VALUE" in done.err


async def test_output_that_nobody_reads_ends_it() -> None:
    class Closed:
        size, kind = None, ""

        async def read(self) -> bytes:
            return b""

        async def write(self, stream: int, data: bytes) -> None:
            raise BrokenPipeError

        def attached(self, **_: object) -> Any:
            return nullcontext()

    elsewhere = Elsewhere()
    await elsewhere.write(b"x")
    with pytest.raises(BrokenPipeError):
        await put_through(Closed(), elsewhere, terminal=False)  # type: ignore[arg-type]
