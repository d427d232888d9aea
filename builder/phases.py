"""How long each phase of a build took, for the line at its end."""

import time
from collections.abc import Callable

from builder.types import BuildOutput

BY_HEADING = (
    ("Installing", "dependencies"),
    ("Restoring", "dependencies"),
    ("Pruning", "dependencies"),
    ("Running", "scripts"),
    ("Compiling", "compile"),
    ("Building", "compile"),
)
"""First word of a buildpack's heading to the phase that it begins."""


class Phases:
    """A BuildOutput that hands everything on, and takes the headings of buildpacks for phases.

    It begins with `detect`.
    """

    def __init__(self, out: BuildOutput, clock: Callable[[], float] = time.monotonic) -> None:
        self._out = out
        self._clock = clock
        self._phase = "detect"
        self._since = clock()
        self._spent: dict[str, float] = {}

    def begin(self, phase: str) -> None:
        now = self._clock()
        self._spent[self._phase] = self._spent.get(self._phase, 0.0) + now - self._since
        self._phase, self._since = phase, now

    def text(self) -> str:
        """`detect 0.1 s · dependencies 4.2 s · slug 0.3 s`, in the order in which they began."""
        self.begin(self._phase)
        return " · ".join(
            f"{phase} {seconds:.1f} s"
            for phase, seconds in self._spent.items()
            if seconds >= 0.05 or phase in ("detect", "slug")
        )

    def step(self, text: str) -> None:
        first = text.partition(" ")[0]
        self.begin(next((phase for word, phase in BY_HEADING if word == first), "build"))
        self._out.step(text)

    def line(self, text: str) -> None:
        self._out.line(text)

    def warn(self, text: str) -> None:
        self._out.warn(text)
