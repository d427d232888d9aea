"""HAProxy's Runtime API: commands to a unix socket, with a time limit, every answer checked."""

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from router.base import RouterError

_COMMAND = re.compile(r"[A-Za-z0-9 @!#*._:/\[\]-]+")
_BATCH = 200
"""Commands sent before their answers are read: both fit into the socket's buffers."""
_LONGEST_ANSWER = 256 * 1024 * 1024


class NotRunning(RouterError):
    """Nobody listens on the socket, or it hung up on us."""


@dataclass(frozen=True)
class Command:
    """A command that changes something, and what HAProxy says when it did."""

    text: str
    answers: tuple[str, ...] = ("",)
    """An answer that begins with any of these is as it should be; "" stands for an empty one."""

    def accepts(self, answer: str) -> bool:
        return any(answer.startswith(each) if each else not answer for each in self.answers)


@dataclass(frozen=True)
class RuntimeApi:
    """One socket. `time_limit`: seconds for connecting, and again for each answer."""

    path: Path
    time_limit: float = 5.0

    @contextlib.asynccontextmanager
    async def session(self) -> AsyncIterator["Session"]:
        """A connection for any number of commands; raises NotRunning when there is nobody."""
        reader, writer = await self._connect()
        try:
            session = Session(reader, writer, self.time_limit)
            await session.ask("prompt")
            yield session
        finally:
            writer.close()

    async def ask_once(self, command: str) -> str:
        """One command over a connection of its own. The master's socket knows no other way to tell answers apart."""
        reader, writer = await self._connect()
        try:
            writer.write(_line(command))
            # The master waits for more commands until it is told that there are none.
            writer.write_eof()
            async with _limit(self.time_limit, command):
                return (await reader.read()).decode(errors="replace").strip()
        finally:
            writer.close()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        try:
            async with _limit(self.time_limit, "(connect)"):
                return await asyncio.open_unix_connection(str(self.path), limit=_LONGEST_ANSWER)
        except RouterError:
            raise
        except OSError as error:
            raise NotRunning(f"HAProxy does not listen on {self.path}: {error.strerror}.") from error


class Session:
    """A connection in interactive mode: `\\n> ` ends each answer, and no answer holds that."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, time_limit: float) -> None:
        self._reader = reader
        self._writer = writer
        self._time_limit = time_limit

    async def ask(self, command: str) -> str:
        """The answer to a question; raises RouterError when HAProxy does not understand it."""
        await self._send([command])
        return await self._answer(command)

    async def tell(self, commands: Sequence[Command]) -> None:
        """Perform commands in order; raises RouterError at the first answer that is not as it should be."""
        for start in range(0, len(commands), _BATCH):
            batch = commands[start : start + _BATCH]
            await self._send([each.text for each in batch])
            for each in batch:
                answer = await self._answer(each.text)
                if not each.accepts(answer):
                    raise RouterError(f"HAProxy answered {each.text!r} with {answer!r}.")

    async def _send(self, commands: Sequence[str]) -> None:
        self._writer.write(b"".join(_line(each) for each in commands))
        async with _limit(self._time_limit, commands[0]):
            await self._writer.drain()

    async def _answer(self, command: str) -> str:
        async with _limit(self._time_limit, command):
            raw = await self._reader.readuntil(b"\n> ")
        answer = raw.decode(errors="replace").removesuffix("\n> ").strip()
        if answer.startswith(("Unknown command", "Unknown map", "Permission denied")):
            raise RouterError(f"HAProxy answered {command!r} with {answer.splitlines()[0]!r}.")
        return answer


def _line(command: str) -> bytes:
    # `;` and a newline would begin another command, `\` would quote, `<<` would begin a payload.
    if not _COMMAND.fullmatch(command):
        raise RouterError(f"{command!r} holds what no command to HAProxy may hold.")
    return command.encode() + b"\n"


@contextlib.asynccontextmanager
async def _limit(seconds: float, command: str) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError as error:
        raise RouterError(f"HAProxy did not answer {command!r} within {seconds:g} s.") from error
    except (asyncio.IncompleteReadError, ConnectionError) as error:
        raise NotRunning(f"HAProxy hung up during {command!r}.") from error
