"""What a command says, in one place: the text for people and the JSON for programs.

A command states both; `Output` lets through the one that was asked for. So commands hold no
`if json` and no escape sequences: text from the server is made harmless here.
"""

import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, Protocol

CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
"""Control characters but tab and newline, and those that turn the direction of text around."""

HEADING = "-----> "
DETAIL = "       "
TITLE = "=====> "
WARNING = " !     "
SEED_MARK = "----> "
"""Of the verbs that are the first design's."""


class Sink(Protocol):
    """Where text goes: a local stream or the channel of an SSH session."""

    def write(self, text: str) -> None:
        """Take the text; raises OSError (BrokenPipeError) when nobody reads it any more."""

    async def drain(self) -> None:
        """Wait until there is room for more."""


def harmless(text: str) -> str:
    """`text` with what a terminal could obey shown as `\\x1b` instead."""
    return CONTROL.sub(lambda match: ascii(match[0])[1:-1], text)


def timestamp(moment: datetime | None) -> str:
    """ISO 8601 in UTC, to the second; empty for None."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if moment else ""


def size_text(size: float) -> str:
    """`1.2G`, short enough for columns."""
    for unit in ("B", "K", "M"):
        if size < 1000:
            return f"{size:.0f}{unit}" if unit == "B" or size >= 100 else f"{size:.1f}{unit}"
        size /= 1024
    return f"{size:.1f}G"


class Output:
    """`terminal`: a person looks at it. `raw`: nothing is escaped, for a local pipe or file."""

    def __init__(
        self, stdout: Sink, stderr: Sink, *, terminal: bool, raw: bool = False, width: int = 80
    ) -> None:
        self._stdout = stdout
        self._stderr = stderr
        self._safe: Callable[[str], str] = str if raw else harmless
        self.terminal = terminal
        self.width = width
        self.json = False
        self.quiet = False
        self.answered = False
        """Whether a JSON document was printed."""

    @property
    def headers(self) -> bool:
        """Headers help people, and get in the way of programs."""
        return self.terminal and not self.quiet

    def line(self, text: str = "") -> None:
        """The answer itself: printed even with --quiet."""
        if not self.json:
            self._stdout.write(f"{self._safe(text)}\n")

    def title(self, text: str) -> None:
        """What the lines below it are; only where headers are wanted."""
        if self.headers:
            self.line(TITLE + text)

    def step(self, text: str, mark: str = HEADING) -> None:
        """Something that is being done, or is done."""
        if not self.quiet:
            self.line(mark + text)

    def detail(self, text: str) -> None:
        """What belongs to the step above."""
        if not self.quiet:
            self.line("\n".join(DETAIL + each for each in text.splitlines()))

    def note(self, text: str, mark: str = WARNING) -> None:
        """A warning, an error, a prompt's explanation: on stderr, with --json too."""
        lines = "".join(f"{mark}{each}\n" for each in self._safe(text).splitlines())
        self._stderr.write(lines)

    def prompt(self, text: str) -> None:
        self._stderr.write(self._safe(text))

    def table(self, headers: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        """Aligned columns. An empty cell is shown as `-`, so that a program can count them."""
        cells = [[_cell(self._safe(str(each))) for each in row] for row in rows]
        if self.headers and rows:
            cells.insert(0, [each.upper() for each in headers])
        widths = [max(len(row[column]) for row in cells) for column in range(len(headers))] if cells else []
        for row in cells:
            padded = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
            self.line("  ".join(padded).rstrip())

    def facts(self, facts: Sequence[tuple[str, object]], *, empty: bool = False) -> None:
        """`name:  value` lines; those whose value is None or, unless `empty`, the empty text are left out."""
        shown = [(name, str(value)) for name, value in facts if value is not None and (empty or value != "")]
        width = max((len(name) for name, _ in shown), default=0) + 1
        for name, value in shown:
            first, *more = value.splitlines() or [""]
            self.line(f"{name + ':':{width}}  {first}".rstrip())
            for each in more:
                self.line(f"{'':{width}}  {each}")

    def data(self, value: object) -> None:
        """The whole answer of a command with --json: one document."""
        if self.json:
            self._stdout.write(_json(value, indent=2) + "\n")
            self.answered = True

    def record(self, value: object) -> None:
        """One record of a stream with --json: a document on a line of its own."""
        if self.json:
            self._stdout.write(_json(value, indent=0) + "\n")
            self.answered = True

    async def drain(self) -> None:
        await self._stdout.drain()


def _cell(text: str) -> str:
    return " ".join(text.split("\n")) or "-"


def _json(value: object, *, indent: int) -> str:
    import msgspec

    plain: Any = msgspec.json.encode(value)
    text: str = msgspec.json.format(plain, indent=indent).decode()
    # Left in JSON strings by every encoder, yet obeyed by terminals; \uXXXX means the same to a program.
    # A newline between the lines of a document is not among these characters.
    return CONTROL.sub(lambda match: f"\\u{ord(match[0]):04x}", text)
