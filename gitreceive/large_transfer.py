"""git-lfs over SSH alone: its pure SSH protocol, version 1, which clients since Git LFS 3.0 speak by themselves.

Packets as git's own. A request is a command with arguments, then perhaps a delimiter and lines or data,
then a flush; an answer is a status with arguments, and the same again.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from enum import Enum

from dulwich.errors import GitProtocolError

from controller.errors import Forbidden, InvalidInput, MooringError, NotFound
from gitreceive.command import ByteReader, ByteWriter
from gitreceive.large import LargeFiles, check_oid

VERSION = "1"
MAX_PACKET = 65516
MAX_LINES = 20_000
"""Of one request: git-lfs asks for at most 100 objects at once."""
SILENCE = 300.0
"""Seconds without a byte from a client: it may be busy with another connection of the same transfer."""
_CHUNK = 32 * 1024
_NO_LOCKS = "Files can't be locked here: agree on who changes what by other means."


class Mark(Enum):
    """Packets without content."""

    FLUSH = b"0000"
    DELIMITER = b"0001"


class Packets:
    """git's packets over the two streams of a session."""

    def __init__(self, reader: ByteReader, writer: ByteWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._ahead = bytearray()

    async def read(self) -> bytes | Mark | None:
        """The next one; None at the end. Raises GitProtocolError."""
        head = await self._exactly(4)
        if not head:
            return None
        for mark in Mark:
            if head == mark.value:
                return mark
        try:
            size = int(head, 16)
        except ValueError:
            size = 0
        if not 4 <= size <= MAX_PACKET + 4:
            raise GitProtocolError("a packet without a length")
        content = await self._exactly(size - 4)
        if len(content) < size - 4:
            raise GitProtocolError("the stream ended in the middle of a packet")
        return content

    def write(self, *packets: str | bytes | Mark) -> None:
        for each in packets:
            if isinstance(each, Mark):
                self._writer.write(each.value)
            else:
                content = f"{each}\n".encode() if isinstance(each, str) else each
                self._writer.write(b"%04x" % (len(content) + 4) + content)

    async def drain(self) -> None:
        await self._writer.drain()

    async def _exactly(self, size: int) -> bytes:
        """Fewer only at the end of the stream."""
        while len(self._ahead) < size:
            try:
                async with asyncio.timeout(SILENCE):
                    chunk = await self._reader.read(_CHUNK * 4)
            except TimeoutError as error:
                raise GitProtocolError(f"nothing came for {SILENCE:.0f} seconds") from error
            if not chunk:
                break
            self._ahead += chunk
        taken = bytes(self._ahead[:size])
        del self._ahead[:size]
        return taken


@dataclass(frozen=True)
class Request:
    """The head of one; `open`: lines or data follow."""

    command: str
    word: str
    arguments: Mapping[str, str]
    open: bool


class Transfer:
    """One session of a client."""

    def __init__(self, files: LargeFiles, packets: Packets, *, uploads: bool) -> None:
        self._files = files
        self._packets = packets
        self._uploads = uploads

    async def serve(self) -> None:
        """Until the client quits, or goes. Raises GitProtocolError."""
        self._packets.write(f"version={VERSION}", Mark.FLUSH)
        while (request := await self._request()) is not None:
            try:
                await self._answer(request)
            except MooringError as error:
                self._packets.write(f"status {_status(error)}", Mark.DELIMITER, str(error), Mark.FLUSH)
            await self._packets.drain()
            if request.command == "quit":
                return

    async def _answer(self, request: Request) -> None:
        match request.command:
            case "version" if request.word == VERSION:
                self._say("status 200")
            case "version":
                raise InvalidInput("version", f"Only version {VERSION} is spoken here.")
            case "batch":
                await self._batch(request)
            case "put-object":
                await self._put(request)
            case "verify-object":
                self._verify(request)
            case "get-object":
                await self._get(request)
            case "list-lock" | "list-locks" | "lock" | "unlock":
                # By this status git-lfs knows that there are no locks, and does not ask again.
                self._packets.write("status 501", Mark.DELIMITER, _NO_LOCKS, Mark.FLUSH)
            case "quit":
                self._say("status 200")
            case _:
                await self._rest(request)
                raise InvalidInput("command", f"{request.command[:40]!a} is not known here.")

    async def _batch(self, request: Request) -> None:
        lines = [line async for line in self._lines(request)]
        if request.arguments.get("hash-algo", "sha256") != "sha256":
            raise InvalidInput("hash-algo", "Objects are kept by their SHA-256.")
        wanted = [_object(line) for line in lines]
        answers = [f"{oid} {size} {await self._action(oid)}" for oid, size in wanted]
        self._packets.write("status 200", "hash-algo=sha256", Mark.DELIMITER, *answers, Mark.FLUSH)

    async def _action(self, oid: str) -> str:
        there = await asyncio.to_thread(self._files.find, oid) is not None
        if self._uploads:
            return "noop" if there else "upload"
        return "download" if there else "noop"

    async def _put(self, request: Request) -> None:
        data = self._data(request)
        try:
            if not self._uploads:
                raise Forbidden("This is a session for downloads.")
            await self._files.add(check_oid(request.word), _size(request.arguments.get("size", "")), data)
        finally:
            async for _ in data:  # what we don't want is read all the same: the client sends it to its end
                pass
        self._say("status 200")

    def _verify(self, request: Request) -> None:
        found = self._files.find(request.word)
        if found is None:
            raise NotFound("That object is not here.")
        if found.stat().st_size != _size(request.arguments.get("size", "")):
            raise InvalidInput("size", f"That object has {found.stat().st_size} bytes.")
        self._say("status 200")

    async def _get(self, request: Request) -> None:
        found = self._files.find(request.word)
        if found is None:
            raise NotFound("That object is not here: whoever has it sends it with `git lfs push --all`.")
        with found.open("rb") as file:
            self._packets.write("status 200", f"size={found.stat().st_size}", Mark.DELIMITER)
            while chunk := await asyncio.to_thread(file.read, _CHUNK):
                self._packets.write(chunk)
                await self._packets.drain()
            self._packets.write(Mark.FLUSH)

    def _say(self, status: str) -> None:
        self._packets.write(status, Mark.FLUSH)

    async def _request(self) -> Request | None:
        packet = await self._packets.read()
        if packet is None:
            return None
        if isinstance(packet, Mark):
            raise GitProtocolError("a request without a command")
        command, _, word = _text(packet).partition(" ")
        arguments: dict[str, str] = {}
        while isinstance(packet := await self._packets.read(), bytes):
            name, _, value = _text(packet).partition("=")
            arguments[name] = value
            if len(arguments) > 100:
                raise GitProtocolError("too many arguments")
        if packet is None:
            return None
        return Request(command, word, arguments, packet is Mark.DELIMITER)

    async def _data(self, request: Request) -> AsyncIterator[bytes]:
        """What follows the request, up to its flush."""
        while request.open:
            packet = await self._packets.read()
            if packet is Mark.FLUSH:
                return
            if not isinstance(packet, bytes):
                raise GitProtocolError("the stream ended in the middle of a request")
            yield packet

    async def _lines(self, request: Request) -> AsyncIterator[str]:
        count = 0
        async for packet in self._data(request):
            count += 1
            if count > MAX_LINES:
                raise GitProtocolError("too many lines")
            yield _text(packet)

    async def _rest(self, request: Request) -> None:
        async for _ in self._data(request):
            pass


def _text(packet: bytes) -> str:
    return packet.decode("utf-8", "replace").rstrip("\n")


def _object(line: str) -> tuple[str, int]:
    oid, _, size = line.partition(" ")
    return check_oid(oid), _size(size.partition(" ")[0])


def _size(text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 18:
        raise InvalidInput("size", f"{text[:40]!a} is no number of bytes.")
    return int(text)


def _status(error: MooringError) -> int:
    """As HTTP has them, which git-lfs knows; 403 would have it try again."""
    return {Forbidden: 405, NotFound: 404, InvalidInput: 422}.get(type(error), 400)
