"""What somebody wants to read of a service's logs."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Protocol

from controller.types import LogLine, LogSource


@dataclass(frozen=True)
class Pattern:
    """Text to look for anywhere in a line. The case of ASCII letters is ignored; `*` stands for anything.

    No regular expression: looking for it takes time in proportion to the text, whatever is asked for.
    """

    text: str = ""

    @cached_property
    def _pieces(self) -> tuple[bytes, ...]:
        return tuple(piece for piece in self.text.encode(errors="replace").lower().split(b"*") if piece)

    def matches(self, line: bytes) -> bool:
        """Whether all pieces are in the line, one behind the other."""
        if not self._pieces:
            return True
        line, position = line.lower(), 0
        for piece in self._pieces:
            found = line.find(piece, position)
            if found < 0:
                return False
            position = found + len(piece)
        return True

    def may_be_in(self, block: bytes) -> bool:
        """False where no line of this block can match: far cheaper than to look at each."""
        if not self._pieces:
            return True
        block = block.lower()
        return all(piece in block for piece in self._pieces)


@dataclass(frozen=True, kw_only=True)
class LogQuery:
    """Which lines of one service. Lines must pass all filters; None lets everything through."""

    deployment: str
    service: str
    sources: frozenset[LogSource] = frozenset(LogSource)
    process: str | None = None
    """A process type (`web`; the unnamed one goes by its service) or one process of it (`web.1`)."""
    instance: str | None = None
    """Id of an instance, which may be gone, or of a build."""
    since: datetime | None = None
    """From this moment on."""
    until: datetime | None = None
    """Before this moment."""
    pattern: Pattern = field(default_factory=Pattern)
    lines: int | None = 100
    """The last so many of the past; None: all."""

    def fits(self, instance: str, process: str) -> bool:
        """Whether lines that concern these are wanted."""
        return self.instance in (None, instance) and self.process in (
            None,
            process,
            process.rpartition(".")[0],
        )

    def in_time(self, moment: datetime) -> bool:
        return (self.since is None or moment >= self.since) and (self.until is None or moment < self.until)

    def accepts(self, line: LogLine) -> bool:
        """Whether this line is wanted, whatever made it."""
        return (
            line.source in self.sources
            and self.fits(line.instance, line.process)
            and self.in_time(line.time)
            and self.pattern.matches(line.text.encode(errors="replace"))
        )


class LogStream(Protocol):
    """The lines of one query: first those of the past, then those that come."""

    def past(self) -> AsyncGenerator[LogLine, None]:
        """In order of time, the last `lines` of them; it ends. To be read once, and to its end before `following`."""

    def following(self) -> AsyncGenerator[LogLine, None]:
        """Goes on where the past ended, without loss or repetition, and has no end. It may be closed at any moment."""


async def read(stream: LogStream, *, follow: bool = False) -> AsyncGenerator[LogLine, None]:
    """The past, then (with `follow`) what comes."""
    async with aclosing(stream.past()) as past:
        async for line in past:
            yield line
    if follow:
        async with aclosing(stream.following()) as following:
            async for line in following:
                yield line
