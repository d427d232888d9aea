"""The engine's own socket, spoken to by asyncio: answers that last, and streams that go both ways.

The SDK can give each of them only a thread. A request is HTTP/1.0, so that its answer comes as it is and
not in chunks; one that becomes a stream in both directions asks for that as HTTP/1.1 knows it.
"""

import asyncio
import contextlib
import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

from controller.engine import EngineError, EngineUnreachable, NotThere, Taken

ANSWER_TIMEOUT = 60.0
"""Seconds until an answer must have begun."""
LONGEST_LINE = 1024**2
"""Bytes of one line (an event) or of an answer's head."""
LONGEST_FAULT = 64 * 1024


@dataclass
class Wire:
    """An answer that has begun. To be closed."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    head: Mapping[str, str] = field(default_factory=dict)
    """Its header: small letters to values."""

    async def json(self) -> Any:
        """The rest of it, until its end. Raises EngineUnreachable when that is no answer."""
        try:
            data = await self.reader.read(LONGEST_LINE)
            while more := await self.reader.read(LONGEST_LINE):
                data += more
            return json.loads(data)
        except (OSError, ValueError) as error:
            raise EngineUnreachable("The container engine left in the midst of an answer.") from error

    def close(self) -> None:
        with contextlib.suppress(OSError, RuntimeError):
            self.writer.transport.abort()


async def open_wire(
    socket: str,
    method: str,
    path: str,
    query: Mapping[str, Any] | None = None,
    *,
    body: Mapping[str, Any] | None = None,
    both_ways: bool = False,
    timeout: float = ANSWER_TIMEOUT,
    limit: int = LONGEST_LINE,
) -> Wire:
    """Ask, and return once the answer has begun and is a good one. Raises EngineError.

    `both_ways`: what follows is a stream that is written too. `limit`: bytes that are read ahead.
    """
    try:
        async with asyncio.timeout(timeout):
            reader, writer = await asyncio.open_unix_connection(socket, limit=limit)
            wire = Wire(reader, writer)
            try:
                writer.write(_request(method, path, query, body, both_ways=both_ways))
                await writer.drain()
                wire.head = await _read_head(wire)
            except BaseException:
                wire.close()
                raise
            return wire
    except TimeoutError as error:
        raise EngineUnreachable(f"The container engine at {socket} did not answer in time.") from error
    except (OSError, ValueError, asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
        words = getattr(error, "strerror", None) or "it closed the connection"
        raise EngineUnreachable(f"The container engine at {socket} can't be reached: {words}.") from error


async def ask(
    socket: str,
    method: str,
    path: str,
    query: Mapping[str, Any] | None = None,
    *,
    timeout: float = ANSWER_TIMEOUT,
) -> None:
    """A request whose answer says nothing but that it was done. Raises EngineError."""
    (await open_wire(socket, method, path, query, timeout=timeout)).close()


def close_all(wires: list[Wire]) -> None:
    """And forget them."""
    while wires:
        wires.pop().close()


class Frames:
    """Takes apart what a container without a terminal prints: pieces that are headed by stream and size."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[tuple[int, bytes]]:
        """The whole pieces in what came so far, cut anywhere."""
        data = self._rest + data
        found: list[tuple[int, bytes]] = []
        position, end = 0, len(data)
        while end - position >= 8:
            stream, size = _HEAD.unpack_from(data, position)
            if end - position - 8 < size:
                break
            found.append((stream, data[position + 8 : position + 8 + size]))
            position += 8 + size
        self._rest = data[position:]
        return found


_HEAD = struct.Struct(">BxxxI")


def _request(
    method: str,
    path: str,
    query: Mapping[str, Any] | None,
    body: Mapping[str, Any] | None,
    *,
    both_ways: bool,
) -> bytes:
    target = path + (f"?{urlencode(query)}" if query else "")
    content = b"" if body is None else json.dumps(body).encode()
    lines = [f"{method} {target} HTTP/1.{1 if both_ways else 0}", "Host: engine"]
    if both_ways:
        lines += ["Connection: Upgrade", "Upgrade: tcp"]
    if content or method != "GET":
        lines += ["Content-Type: application/json", f"Content-Length: {len(content)}"]
    return "\r\n".join([*lines, "", ""]).encode() + content


async def _read_head(wire: Wire) -> Mapping[str, str]:
    """Leaves the reader at the answer's body. Raises EngineError where it is a refusal."""
    head = (await wire.reader.readuntil(b"\r\n\r\n")).split(b"\r\n")
    status = int(head[0].split()[1])
    pairs = (each.decode("latin-1").partition(":") for each in head[1:] if each)
    said = {name.strip().lower(): value.strip() for name, _, value in pairs}
    if status < 400:
        return said
    size = int(said.get("content-length", LONGEST_FAULT))
    data = b""
    while len(data) < min(size, LONGEST_FAULT) and (more := await wire.reader.read(LONGEST_FAULT)):
        data += more
    raise _refusal(status, data)


def _refusal(status: int, data: bytes) -> EngineError:
    try:
        said = str(json.loads(data)["message"])
    except (ValueError, LookupError, TypeError):
        said = data.decode(errors="replace")
    words = f"The container engine says: {said.strip()[:1000]}"
    if status == 404:
        return NotThere(words)
    return Taken(words) if status == 409 else EngineError(words, retryable=status >= 500)
