"""Several log streams as one."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from heapq import heapify, heappop, heapreplace

from controller.logs.files import KEPT_BYTES
from controller.logs.query import LogQuery, LogStream
from controller.types import LogLine

WAITING = 1000
"""Lines of all streams that may wait for a slow reader; then the streams wait too."""


class MergedStream:
    """Implements LogStream: the past by time, what follows as it comes."""

    def __init__(self, query: LogQuery, streams: Sequence[LogStream]) -> None:
        self._query = query
        self._streams = streams

    async def past(self) -> AsyncGenerator[LogLine, None]:
        async with aclosing(self._merged()) as merged:
            if self._query.lines is None:
                async for line in merged:
                    yield line
                return
            last = deque[LogLine]()
            size = 0
            async for line in merged:
                last.append(line)
                size += len(line.text)
                while len(last) > self._query.lines or (size > KEPT_BYTES and len(last) > 1):
                    size -= len(last.popleft().text)
        for line in last:
            yield line

    async def following(self) -> AsyncGenerator[LogLine, None]:
        lines = asyncio.Queue[LogLine | BaseException](WAITING)

        async def pump(stream: LogStream) -> None:
            try:
                async with aclosing(stream.following()) as following:
                    async for line in following:
                        await lines.put(line)
            except Exception as error:
                await lines.put(error)

        tasks = [asyncio.create_task(pump(each), name="followed logs") for each in self._streams]
        try:
            while True:
                line = await lines.get()
                if isinstance(line, BaseException):
                    raise line
                yield line
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _merged(self) -> AsyncGenerator[LogLine, None]:
        """All of the past; of equal times, that of the first stream comes first."""
        pasts = [each.past() for each in self._streams]
        try:
            firsts = [await anext(past, None) for past in pasts]
            heads = [(line.time, number, line) for number, line in enumerate(firsts) if line is not None]
            heapify(heads)
            while heads:
                _, number, line = heads[0]
                yield line
                following = await anext(pasts[number], None)
                if following is None:
                    heappop(heads)
                else:
                    heapreplace(heads, (following.time, number, following))
        finally:
            for past in pasts:
                await past.aclose()
