"""Steady requests against one domain, to see what a deploy does to the people who use the app.

Open loop: a request begins every 1/rate seconds whether or not earlier ones have ended, so that a
stall can't hide by holding the generator back. Every second one opens a connection of its own, the
others share kept-alive ones, as browsers and proxies do.
"""

import asyncio
import contextlib
import time
from collections import Counter
from dataclasses import dataclass, field


@dataclass
class Result:
    """What the requests met. Times are seconds."""

    answered: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    """What went wrong, to how often."""
    longest: float = 0.0
    """The longest that any request took: what a user would have felt."""
    first_seen: dict[bytes, float] = field(default_factory=dict)
    """Body to the moment (time.monotonic) of its first answer."""

    @property
    def failed(self) -> int:
        return self.failures.total()

    @property
    def total(self) -> int:
        return self.answered + self.failed

    def __str__(self) -> str:
        text = f"{self.total} requests, {self.failed} failed, longest stall {self.longest * 1000:.0f} ms"
        if self.failures:
            text += (
                " (" + ", ".join(f"{count} x {what}" for what, count in self.failures.most_common(3)) + ")"
            )
        return text


class Load:
    """`async with Load(port, host, rate=200) as result: …` requests run while the block does."""

    def __init__(
        self, port: int, host: str, *, rate: float = 200.0, path: str = "/", timeout: float = 10.0
    ) -> None:
        self._port = port
        self._rate = rate
        self._timeout = timeout
        self._heads = {
            keep: (
                f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: {'keep-alive' if keep else 'close'}\r\n\r\n"
            ).encode()
            for keep in (True, False)
        }
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
        self.result = Result()

    async def __aenter__(self) -> Result:
        self._stop = asyncio.Event()
        self._runner = asyncio.create_task(self._run())
        return self.result

    async def __aexit__(self, *_: object) -> None:
        self._stop.set()
        await self._runner
        for _, writer in self._idle:
            writer.close()

    async def _run(self) -> None:
        requests: set[asyncio.Task[None]] = set()
        began, sent = time.monotonic(), 0
        while not self._stop.is_set():
            due = int((time.monotonic() - began) * self._rate)
            for number in range(sent, due):
                task = asyncio.create_task(self._request(keep=bool(number % 2)))
                requests.add(task)
                task.add_done_callback(requests.discard)
            sent = max(sent, due)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stop.wait(), 1 / self._rate)
        if requests:
            await asyncio.wait(requests)

    async def _request(self, *, keep: bool) -> None:
        began = time.monotonic()
        try:
            async with asyncio.timeout(self._timeout):
                status, body = await self._exchange(keep)
        except TimeoutError:
            self.result.failures["timeout"] += 1
        except (OSError, EOFError, ValueError) as error:
            self.result.failures[type(error).__name__] += 1
        else:
            if status == 200:
                self.result.answered += 1
                self.result.first_seen.setdefault(body, time.monotonic())
            else:
                self.result.failures[f"status {status}"] += 1
        self.result.longest = max(self.result.longest, time.monotonic() - began)

    async def _exchange(self, keep: bool) -> tuple[int, bytes]:
        if keep and self._idle:
            reader, writer = self._idle.pop()
            try:
                return await self._ask(reader, writer, keep)
            except (OSError, EOFError):
                # The proxy may close an idle connection at any moment: a client then asks again on a new one.
                writer.close()
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        try:
            return await self._ask(reader, writer, keep)
        except BaseException:
            writer.close()
            raise

    async def _ask(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, keep: bool
    ) -> tuple[int, bytes]:
        writer.write(self._heads[keep])
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        fields = {
            name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])
        }
        length = fields.get("content-length")
        stays = keep and length is not None and fields.get("connection", "").lower() != "close"
        body = await reader.readexactly(int(length)) if length is not None else await reader.read()
        if stays:
            self._idle.append((reader, writer))
        else:
            writer.close()
        return int(head[0].split()[1]), body
