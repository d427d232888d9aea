"""What a build prints, cut into lines with bounds: no build may fill memory or hold the event loop."""

import re
from typing import Protocol

from builder.types import BuildOutput

MAX_LINE = 4096
"""Bytes shown of one line."""
MAX_SHOWN = 4 * 1024**2
"""Bytes of output shown of one build; of the rest only the end."""
MAX_LINES = 40_000
"""Lines shown of one build."""
TAIL_LINES = 40
_TAIL_BYTES = 16 * 1024
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1a\x1c-\x1f\x7f]")


class Sink(Protocol):
    """Takes output as it comes."""

    def feed(self, data: bytes) -> None: ...


class Capture:
    """Keeps the first 64 KB, for steps whose output is an answer to us."""

    LIMIT = 64 * 1024

    def __init__(self) -> None:
        self.data = b""

    def feed(self, data: bytes) -> None:
        self.data += data[: self.LIMIT - len(self.data)]

    @property
    def text(self) -> str:
        return self.data.decode("utf-8", "replace")


class Transcript:
    """Hands lines on to a BuildOutput, understanding the marks that buildpacks print themselves."""

    def __init__(self, out: BuildOutput) -> None:
        self._out = out
        self._pending = b""
        self._shown = 0
        self._lines = 0
        self._tail: bytes | None = None
        """Not None once the bounds were passed: the last bytes, which are shown at the end."""
        self.verdict: str | None = None
        """The last line, if it is a warning: a buildpack that gives up says there why."""

    def feed(self, data: bytes) -> None:
        if self._tail is not None:
            self._tail = (self._tail + data)[-_TAIL_BYTES:]
            return
        *lines, pending = (self._pending + data).split(b"\n")
        for number, line in enumerate(lines):
            if self._shown > MAX_SHOWN or self._lines >= MAX_LINES:
                self._stop_showing(b"\n".join([*lines[number:], pending]))
                return
            self._show(line)
        self._pending = pending[: MAX_LINE + 1]
        self._shown += max(0, len(pending) - MAX_LINE)

    def finish(self) -> None:
        """Show what is still held back; the next step starts with a new line."""
        if self._tail is not None:
            lines = self._tail.split(b"\n")[-TAIL_LINES:]
            self._out.line(f"[… the last {len(lines)} lines:]")
            self._tail = b""
            for line in lines:
                self._show(line)
        elif self._pending:
            self._show(self._pending)
        self._pending = b""

    def _stop_showing(self, rest: bytes) -> None:
        self._tail = rest[-_TAIL_BYTES:]
        self._out.warn(
            f"The build printed more than {MAX_SHOWN // 1024**2} MB or {MAX_LINES} lines; only the end follows."
        )

    def _show(self, raw: bytes) -> None:
        self._shown += len(raw) + 1
        self._lines += 1
        text = raw[:MAX_LINE].decode("utf-8", "replace").rstrip("\r")
        # A progress bar draws over itself; its last state is the line.
        text = _CONTROL.sub("", text.rpartition("\r")[2])
        if len(raw) > MAX_LINE:
            text += " […]"
        self.verdict = None
        if text.startswith("-----> "):
            self._out.step(text[7:])
        elif text.startswith(" !"):
            self.verdict = text[2:].strip()
            self._out.warn(self.verdict)
        else:
            self._out.line(text.removeprefix("       "))
